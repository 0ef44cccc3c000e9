"""A process that archives or restores until it dies: `python -m tests.faults.archive_process URL FOLDER WHAT STEP`.

WHAT is `run` or `restore`. It dies by SIGKILL at the first time that STEP ends; without such a step it ends by itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import datetime, timedelta
from pathlib import Path

from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog.archive import Archive
from faregate.infra.eventlog.cold import ColdEvents, Copy


def die_at(step: str):  # type: ignore[no-untyped-def]
    def ended(name: str) -> None:
        if name == step:
            os.kill(os.getpid(), signal.SIGKILL)

    return ended


class Dying(ColdEvents):
    """Dies between the file and the commit of the Delta table, or after that."""

    def __init__(self, folder: Path, *, step: str) -> None:
        super().__init__(folder)
        self._ended = die_at(step)

    def _commit(self, segment: int, path: Path, copy: Copy, *, now: datetime) -> None:
        self._ended("written")
        super()._commit(segment, path, copy, now=now)
        self._ended("committed")


async def main(url: str, folder: str, what: str, step: str) -> None:
    database = await Database.open(url, role="faregate_eventlog", connections_max=2)
    archive = Archive(
        database=database,
        cold=Dying(Path(folder), step=step),
        clock=SystemClock(),
        on_step=die_at(step),
    )
    if what == "run":
        await archive.run(older_than=timedelta(0))
    else:
        await archive.restore(from_seq=1, keep=timedelta(days=7))
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
