"""Commands of faregate as processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path


@asynccontextmanager
async def process(*arguments: str, log: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of faregate for the length of the block; at its end it is told to stop."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    with log.open("ab") as stderr:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faregate", *arguments),
            env=others | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()
