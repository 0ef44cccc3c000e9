"""Lets Schemathesis hold a running API to its OpenAPI document, as several callers.

    python -m tools.fuzz                                 a system of its own; a minute a caller
    python -m tools.fuzz --max-time 600 --seed 7         options of `schemathesis run`

Every check of Schemathesis is on, for every route of the document: no status 500 or one that is not documented, bodies
and headers as described, bad data refused, and links followed. What counts as a refusal stands in `schemathesis.toml`.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.local_client import connected
from faregate.infra.clock import SystemClock
from faregate.infra.http.api_keys import KNOWN_SCOPES, create_api_key
from faregate.infra.local_system import Plan, local_system

CONFIG = Path(__file__).with_name("schemathesis.toml")
DEFAULTS = ("--max-time", "60")
CLIENT_SCOPES = ("credit:read", "credit:submit")


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerKey:
    """One who calls: the clients whose scopes its keys have. Of two clients neither may see what is the other's."""

    name: str
    scopes: tuple[str, ...]
    clients: tuple[str, ...]


CALLERS = (
    CallerKey(name="everything allowed", scopes=tuple(sorted(KNOWN_SCOPES)), clients=("operator",)),
    CallerKey(name="two clients", scopes=CLIENT_SCOPES, clients=("acme", "globex")),
    CallerKey(name="a key without scopes", scopes=(), clients=("nobody",)),
    CallerKey(name="no key", scopes=(), clients=()),
)


async def keys_of(site: Site, caller: CallerKey) -> Mapping[str, str]:
    """Make the keys of a caller, and return their tokens by client."""
    async with AsyncExitStack() as stack:
        database = await site.database(stack, "access", connections_max=1)
        async with database.transaction() as connection:
            made = {
                client: await create_api_key(
                    connection, client_id=client, scopes=caller.scopes, now=SystemClock().now(), note="fuzz"
                )
                for client in caller.clients
            }
    return {client: key.token for client, key in made.items()}


async def fuzz(url: str, *, tokens: Mapping[str, str], options: Sequence[str]) -> tuple[int, str]:
    """Run Schemathesis against an API and return its exit status with all that it said."""
    with TemporaryDirectory(prefix="faregate-fuzz-") as folder:
        config = Path(folder) / CONFIG.name
        config.write_text(_authenticated(CONFIG.read_text(encoding="utf-8"), tokens, folder=Path(folder)))
        command = ("--config-file", str(config), "run", f"{url}/openapi.json", "--checks", "all", *options)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "schemathesis.cli", *command),
            cwd=folder,
            env={**os.environ, "SCHEMATHESIS_HOOKS": "tools.fuzz_hooks", "PYTHONPATH": _path()},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()


def _path() -> str:
    """Where the child finds our hooks, and what we found ourselves."""
    return os.pathsep.join([str(CONFIG.parents[1]), *sys.path])


def _authenticated(config: str, tokens: Mapping[str, str], *, folder: Path) -> str:
    """Add the callers' keys, in the form of the Web Fuzzing Commons, so that they show in no list of processes."""
    if not tokens:
        return config
    users = [
        {"name": client, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {token}"}]}
        for client, token in tokens.items()
    ]
    (folder / "auth.json").write_text(json.dumps({"auth": users}), encoding="utf-8")
    peers = f"peers = {json.dumps(list(tokens))}\n" if len(tokens) > 1 else ""
    return f'{config}\n[auth.wfc]\npath = "auth.json"\n{peers}'


async def main(options: Sequence[str]) -> int:
    """Fuzz a system of its own as every caller; return 1 if a check failed."""
    failed = []
    with TemporaryDirectory(prefix="faregate-fuzz-") as home:
        async with local_system(Plan(home=Path(home) / "home")) as system, connected(system) as (site, *_):
            for caller in CALLERS:
                print(f"── {caller.name}", flush=True)
                tokens = await keys_of(site, caller)
                status, output = await fuzz(system.api_url, tokens=tokens, options=options)
                print(output, flush=True)
                if status:
                    failed.append(caller.name)
    print(f"failed: {', '.join(failed)}" if failed else "all checks held for every caller", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1:] or DEFAULTS)))
