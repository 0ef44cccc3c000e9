"""Runs a program for exactly as long as standard input stays open: it cannot outlive whoever started it.

    python -m faregate.bench.guard PROGRAM ARGUMENT…

The other end of standard input is the starter's; it closes when the starter ends, also by kill -9.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence

GRACE_S = 5.0


async def run_guarded(command: Sequence[str]) -> int:
    """Run the command until it ends or standard input closes; return its exit status."""
    process = await asyncio.create_subprocess_exec(*command, stdin=asyncio.subprocess.DEVNULL)
    released = asyncio.ensure_future(standard_input_closes())
    ended = asyncio.ensure_future(process.wait())
    await asyncio.wait({released, ended}, return_when=asyncio.FIRST_COMPLETED)
    if not ended.done():
        process.terminate()
        await asyncio.wait({ended}, timeout=GRACE_S)
    if not ended.done():
        process.kill()
    released.cancel()
    return await ended


async def standard_input_closes() -> None:
    """Return once the other end of standard input is gone; what comes in until then is thrown away."""
    reader = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while await reader.read(65536):
        pass


if __name__ == "__main__":
    sys.exit(asyncio.run(run_guarded(sys.argv[1:])))
