"""The event log with small segments, and its archive: for tests that move events into cold storage.

    from tests.archive_world import small_log  # noqa: F401

`log` is the fixture that it gives: segments of `SEGMENT` events, a running sequencer, no consumer.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from deltalake import DeltaTable

from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog import history
from faregate.infra.eventlog.archive import Archive, Moved
from faregate.infra.eventlog.cold import ColdEvents
from faregate.kernel.event import Event, NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import Log, event, running, running_log

SEGMENT = 10
AT_ONCE = timedelta(0)
WEEK = timedelta(days=7)


async def make_small(admin: Database, *, size: int = SEGMENT) -> None:
    """Give an empty log segments of this size."""
    async with admin.transaction() as conn:
        await conn.execute("drop table eventlog.event_1")
        await conn.execute("delete from eventlog.segment")
        await conn.execute("insert into eventlog.segment (from_seq, end_seq) values (1, %s)", (size + 1,))
        await conn.execute("select eventlog.make_partition(1, %s)", (size + 1,))
        await conn.execute("update eventlog.segment_policy set rows_min = %s, rows_max = %s", (size, size))


def archive_of(admin: Database, folder: Path, **changes: Any) -> Archive:
    return Archive(**{"database": admin, "cold": ColdEvents(folder), "clock": SystemClock()} | changes)


def many(count: int, *, start: int = 0) -> list[NewEvent]:
    return [event(f"app_{n % 4}", n=n) for n in range(start, start + count)]


async def filled(log: Log, count: int, *, group: str = "readers") -> list[NewEvent]:
    """Append so many events and let a group handle them."""
    sent = many(count)
    async with running(log.member(group)):
        for start in range(0, count, 7):
            await log.append(*sent[start : start + 7])
        await log.until_effects(count, group)
    return sent


async def read(admin: Database, folder: Path, *, after: int = 0, key: str | None = None) -> list[Event]:
    """Read the whole log, hot and cold."""
    return [e async for e in history(admin, ColdEvents(folder), after=after, key=key)]


async def run(log: Log, folder: Path, *, older_than: timedelta = AT_ONCE) -> Moved:
    return await archive_of(log.admin, folder).run(older_than=older_than)


def assert_whole(found: Sequence[Event], sent: Sequence[NewEvent]) -> None:
    """Every event sent is read exactly once, in the order of the log, and as it was sent."""
    assert [e.seq for e in found] == list(range(1, len(sent) + 1))
    facts = [(e.id, e.type, e.aggregate_id, e.time, dict(e.data)) for e in found]
    assert facts == [(e.id, e.type, e.aggregate_id, e.time, dict(e.data)) for e in sent]


def files_of(folder: Path) -> list[int]:
    """Return the segments of the Delta table, one entry a file, as any other reader of it sees them."""
    table = DeltaTable(str(folder / "events"))
    return sorted(int(path.split("=")[1].split("/")[0]) for path in table.file_uris())


@pytest.fixture(name="log")
async def small_log(open_database: OpenDatabase) -> AsyncIterator[Log]:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    await make_small(admin)
    async with running_log(credit=credit, admin=admin) as log:
        yield log
