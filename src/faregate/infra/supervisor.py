"""Runs the parts of faregate as child processes, starts again what dies, and stops all of them together.

What the parts do does not belong here; a part is a command line and an environment.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Self

import aiohttp
import structlog

from faregate.infra.lifetime import END_WITH_PARENT
from faregate.kernel.errors import UnavailableError

_log = structlog.get_logger(__name__)

RESTART_DELAY_S_MIN = 0.2
RESTART_DELAY_S_MAX = 5.0
HEALTHY_AFTER_S = 5.0
READY_S_MAX = 60.0
READY_S_A_PART = 5.0
"""Parts that begin together share the processor: each has so much longer for each of them."""
STOP_GRACE_S = 10.0
NICENESS_MAX = 19


class PartNotReady(UnavailableError):
    """A part did not become ready in time; its log file says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One child process: `faregate` with these arguments. `ready_url` answers 200 once it can work.

    With a `niceness` above 0, which is added to ours, it leaves the processor to the others when there is too little.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    log: Path
    ready_url: str
    niceness: int = 0


@dataclass(slots=True)
class _Running:
    process: asyncio.subprocess.Process
    starts: int = 1


class Supervisor:
    """Keeps a set of parts running, to which parts may be added. Use as an async context manager."""

    def __init__(self, parts: list[Part], *, on_restart: Callable[[str, int], None] | None = None) -> None:
        self._parts = {part.name: part for part in parts}
        self._on_restart = on_restart
        self._running: dict[str, _Running] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._stopping = asyncio.Event()

    async def __aenter__(self) -> Self:
        try:
            for part in self._parts.values():
                await self._start(part)
            patience_s = READY_S_MAX + READY_S_A_PART * len(self._parts)
            await asyncio.gather(*(self.wait_ready(name, timeout_s=patience_s) for name in self._parts))
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    def pid(self, name: str) -> int:
        """Return the process id that the part has now."""
        return self._running[name].process.pid

    def pids(self) -> dict[str, int]:
        """Return the process ids of all parts by name."""
        return {name: running.process.pid for name, running in self._running.items()}

    def ready_url(self, name: str) -> str:
        """Return where the part answers whether it is ready; its metrics are beside it."""
        return self._parts[name].ready_url

    def restarts(self, name: str) -> int:
        """Return how often the part was started again."""
        return self._running[name].starts - 1

    def kill(self, name: str) -> None:
        """End a part without warning (SIGKILL); it is started again like after any death."""
        with contextlib.suppress(ProcessLookupError):
            self._running[name].process.kill()

    async def wait_ready(self, name: str, *, timeout_s: float = READY_S_MAX) -> None:
        """Return once the part answers that it is ready; raise PartNotReady after the time-out."""
        part = self._parts[name]
        if not await poll_until(lambda: _answers(part.ready_url), timeout_s=timeout_s):
            raise PartNotReady(f"{name} was not ready within {timeout_s:g} s; see {part.log}", part=name)

    async def add(self, part: Part) -> None:
        """Start one more part and wait until it is ready; one that does not become ready is removed again."""
        if part.name in self._parts:
            raise ValueError(f"there is a part {part.name!r} already")
        self._parts[part.name] = part
        await self._start(part)
        try:
            await self.wait_ready(part.name)
        except BaseException:
            await self.remove(part.name)
            raise

    async def remove(self, name: str) -> None:
        """Ask a part to end (SIGTERM) and wait until it has; it is not started again."""
        keeper = self._keepers.pop(name)
        keeper.cancel()
        await asyncio.gather(keeper, return_exceptions=True)
        running = self._running.pop(name)
        del self._parts[name]
        _terminate(running.process)
        await _reap(running.process)

    async def stop(self) -> None:
        """Ask every part to end (SIGTERM), last started first, and end by force what does not."""
        self._stopping.set()
        for running in reversed(self._running.values()):
            _terminate(running.process)
        await asyncio.gather(*(_reap(running.process) for running in self._running.values()))
        for keeper in self._keepers.values():
            keeper.cancel()
        await asyncio.gather(*self._keepers.values(), return_exceptions=True)

    async def _start(self, part: Part) -> None:
        self._running[part.name] = _Running(await _spawn(part))
        self._keepers[part.name] = asyncio.create_task(self._keep(part))

    async def _keep(self, part: Part) -> None:
        delay_s = RESTART_DELAY_S_MIN
        loop = asyncio.get_running_loop()
        while True:
            running = self._running[part.name]
            started_at = loop.time()
            status = await running.process.wait()
            if self._stopping.is_set():
                return
            if loop.time() - started_at > HEALTHY_AFTER_S:
                delay_s = RESTART_DELAY_S_MIN
            _log.warning("part_died", part=part.name, status=status, restart_in_s=delay_s, log=str(part.log))
            if self._on_restart:
                self._on_restart(part.name, status)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), delay_s)
                return
            delay_s = min(delay_s * 2, RESTART_DELAY_S_MAX)
            running.process = await _spawn(part)
            running.starts += 1


async def _spawn(part: Part) -> asyncio.subprocess.Process:
    part.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with part.log.open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "faregate",
            *part.arguments,
            env={**os.environ, **part.environment, END_WITH_PARENT: "1"},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    if part.niceness:
        _lower_priority(process.pid, min(os.getpriority(os.PRIO_PROCESS, 0) + part.niceness, NICENESS_MAX))
    return process


def _lower_priority(pid: int, niceness: int) -> None:
    """Lower the priority of a session's first process, before it has threads: each keeps that which it was made with.

    Where Linux shares the processor out between sessions (autogroup, sched(7)), a process's niceness counts only
    within its session. The session then gets the same niceness.
    """
    with contextlib.suppress(ProcessLookupError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
    with contextlib.suppress(OSError):  # not Linux, or without autogroups
        Path(f"/proc/{pid}/autogroup").write_text(str(niceness))


def _terminate(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()


async def _reap(process: asyncio.subprocess.Process) -> None:
    try:
        await asyncio.wait_for(process.wait(), STOP_GRACE_S)
    except TimeoutError:
        process.send_signal(signal.SIGKILL)
        await process.wait()


async def _answers(url: str) -> bool:
    try:
        async with (
            aiohttp.ClientSession() as session,
            session.get(url, timeout=aiohttp.ClientTimeout(2)) as answer,
        ):
            return answer.status == 200
    except (aiohttp.ClientError, TimeoutError):
        return False


async def poll_until(
    condition: Callable[[], Awaitable[bool]], *, timeout_s: float, every_s: float = 0.05
) -> bool:
    """Ask until the condition holds; False if it does not within the time-out."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while not await condition():
        if loop.time() >= end:
            return False
        await asyncio.sleep(every_s)
    return True


def free_port(*, host: str, preferred: int | None = None) -> int:
    """Return the preferred port if nobody listens on it, else any free one."""
    for port in filter(None, (preferred,)):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
            return port
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
