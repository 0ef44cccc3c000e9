"""Feast as the peer: its feature server in a virtual environment of its own, because its pins contradict ours.

`requirements/feast.txt` locks it; `make bench` installs it under the folder that `python_of` names.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from faregate.bench.children import guarded
from faregate.infra.supervisor import free_port
from faregate.kernel.errors import UnavailableError

SCRIPT: Final = Path(__file__).with_name("feast_script.py")
SERVICE: Final = "payments"
PATH: Final = "/get-online-features"
READY_S: Final = 60.0
LOOK_S: Final = 0.2
# No word home: it would be asked of a network that a benchmark need not have.
ENVIRONMENT: Final = {"FEAST_USAGE": "False", "IS_TEST": "True"}


class FeastMissing(UnavailableError):
    """Feast is not installed beside this interpreter."""


class FeastFailed(UnavailableError):
    """Feast did not do what it was told; its log says why."""


def python_of(environment: Path = Path(sys.prefix)) -> Path:
    """Return where the interpreter of Feast's own virtual environment is, beside or inside ours."""
    return environment / "peers" / "feast" / "bin" / "python"


def require_feast(python: Path) -> None:
    """Raise FeastMissing, with what to do about it, unless it is installed."""
    if not python.with_name("feast").exists():
        raise FeastMissing(
            f"Feast is not installed at {python.parent}; `make bench NAME=features` installs it"
        )


class Feast:
    """One feature store in a folder, on a Valkey."""

    def __init__(self, *, python: Path, folder: Path, socket: Path) -> None:
        self._python = python
        self.folder = folder
        self._socket = socket
        self.log = folder / "feast.log"

    async def fill(
        self,
        *,
        views: Mapping[str, Mapping[str, str]],
        rows: Mapping[str, Sequence[Mapping[str, Any]]],
        payments: Sequence[Mapping[str, str]],
    ) -> None:
        """Make the store, with a view and its rows for each entity; `payments` are what is read directly."""
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "feature_store.yaml").write_text(
            "project: bench\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
            f'online_store:\n  type: redis\n  connection_string: "localhost:6379,unix_socket_path={self._socket}"\n'
        )
        wanted = {"views": views, "rows": rows, "payments": payments}
        (self.folder / "wanted.json").write_text(json.dumps(wanted))
        await self._script("fill")

    async def read_directly(self, count: int) -> Sequence[float]:
        """Read so many times with its library in a process of its own; return the seconds of each."""
        return [float(one) for one in json.loads((await self._script("read", str(count))).splitlines()[-1])]

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[str]:
        """Run its feature server with one worker while the block runs, and give its URL."""
        port = free_port(host="127.0.0.1")
        command = [
            *(self._python.with_name("feast"), "-c", self.folder, "serve"),
            *("--host", "127.0.0.1", "--port", port, "--workers", "1", "--no-access-log"),
            # By default it starts its worker again after a thousand requests, which breaks those under way.
            *("--max-requests", "0", "--registry_ttl_sec", "60"),
        ]
        url = f"http://127.0.0.1:{port}"
        async with guarded([str(part) for part in command], log=self.log, environment=ENVIRONMENT):
            await answering(f"{url}/health", log=self.log)
            yield url

    async def _script(self, act: str, *more: str) -> str:
        process = await asyncio.create_subprocess_exec(
            *(str(self._python), str(SCRIPT), act, str(self.folder), *more),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            cwd=self.folder,
        )
        said, problem = await process.communicate()
        if process.returncode:
            raise FeastFailed(f"Feast could not {act}: {problem.decode().strip()[-500:]}")
        return said.decode()


async def answering(url: str, *, log: Path) -> None:
    """Return once something answers there. Raises FeastFailed."""
    deadline = asyncio.get_running_loop().time() + READY_S
    async with aiohttp.ClientSession() as session:
        while asyncio.get_running_loop().time() < deadline:
            try:
                async with session.get(url) as answer:
                    if answer.ok:
                        return
            except aiohttp.ClientError:
                pass  # it is not there yet; whether it ever is, the deadline says
            await asyncio.sleep(LOOK_S)
    raise FeastFailed(f"nothing answered at {url} within {READY_S:g} s; see {log}")
