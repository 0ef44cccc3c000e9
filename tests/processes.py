"""Commands of faregate as processes of their own, which a test may kill."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(kw_only=True)
class Command:
    """A command of faregate. It sees no setting of the test's own environment."""

    arguments: Sequence[str]
    log: Path
    variables: Mapping[str, str]
    _process: asyncio.subprocess.Process | None = field(default=None, repr=False)

    @property
    def process(self) -> asyncio.subprocess.Process:
        assert self._process is not None, "it was never started"
        return self._process

    async def start(self) -> None:
        """Start it, again if it ended."""
        others = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
        with self.log.open("ab") as stderr:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "faregate", *self.arguments),
                env={**others, **self.variables},
                stdout=asyncio.subprocess.PIPE,
                stderr=stderr,
            )

    async def kill9(self) -> None:
        """Kill it and return when it is gone."""
        self.process.kill()
        await self.process.wait()

    async def stop(self) -> None:
        """Tell it to stop, if it runs, and return when it has."""
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


@asynccontextmanager
async def process(*arguments: str, log: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of faregate for the length of the block; at its end it is told to stop."""
    command = Command(arguments=arguments, log=log, variables=variables)
    await command.start()
    try:
        yield command.process
    finally:
        await command.stop()
