"""Programs that a benchmark starts and ends: under the guard, in their own session, with nothing left
behind.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import psutil

STOP_S = 10.0


@asynccontextmanager
async def guarded(
    command: Sequence[str | Path],
    *,
    log: Path,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a program while the block runs; afterwards it and all that it started have ended.

    It works in `folder`, its output goes to the log, and `environment` is added to ours. The process that is
    yielded is its guard.
    """
    with log.open("ab") as output:
        guard = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faregate.bench.guard", *map(str, command)),
            stdin=asyncio.subprocess.PIPE,
            stdout=output,
            stderr=output,
            cwd=folder,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    try:
        yield guard
    finally:
        started = _descendants(guard.pid)
        if guard.stdin is not None:
            guard.stdin.close()
        with suppress(TimeoutError):
            await asyncio.wait_for(guard.wait(), STOP_S)
        await asyncio.to_thread(_end, started)
        if guard.returncode is None:
            guard.kill()
        await guard.wait()


def _descendants(pid: int) -> list[psutil.Process]:
    """All that a process started and that still runs; none if it has ended."""
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _end(processes: list[psutil.Process]) -> None:
    """Wait for the end of all, and force whoever does not obey. psutil tells a pid that was given anew."""
    _, stubborn = psutil.wait_procs(processes, timeout=STOP_S)
    for process in stubborn:
        process.kill()
    psutil.wait_procs(stubborn, timeout=STOP_S)
