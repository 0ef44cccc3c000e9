"""Reads the log from its first event on, wherever its events are now: cold storage first, then PostgreSQL.

For audits and people. Consumers read what is in PostgreSQL only.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import TYPE_CHECKING, Any
from uuid import UUID

import orjson

from faregate.infra.database import Database
from faregate.infra.eventlog.admin import end_of_log
from faregate.infra.eventlog.segments import hot_from, segment_of
from faregate.infra.queries import load_queries
from faregate.kernel.event import Event

if TYPE_CHECKING:
    from faregate.infra.eventlog.cold import ColdEvents, Row

_QUERIES = load_queries(__package__)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

PAGE = 5_000
"""Events that are read at once; between two pages nobody waits for us."""


async def history(
    database: Database, cold: ColdEvents, *, after: int = 0, key: str | None = None
) -> AsyncIterator[Event]:
    """Yield every event after a place in the order of the log, those of one aggregate id if given, each once.

    Events may move into cold storage meanwhile. `database` acts as `faregate_eventlog`. Raises ColdCopyDamaged.
    """
    while True:
        async with database.transaction() as conn:
            segment = await segment_of(conn, seq=after + 1)
            if segment is None:
                return
            hot = [] if segment.is_cold else await _page(conn, after=after, end=segment.end_seq, key=key)
        if segment.is_cold:
            async for event in _cold_events(cold, segment.from_seq, after=after, key=key):
                yield event
        for event in hot:
            yield event
        if not segment.is_cold and not segment.filled and len(hot) < PAGE:
            return
        after = hot[-1].seq if len(hot) == PAGE else segment.end_seq - 1


async def place_before(database: Database, instant: datetime) -> int:
    """Return a place of the log after which everything is that happened since; 0 if that may be in cold storage.

    Events stand about in the order of their times: leave room for those that do not.
    """
    async with database.transaction() as conn:
        begin = await hot_from(conn)
        low, high = begin - 1, await end_of_log(conn)
        while low < high:
            middle = (low + high) // 2
            found = await _page(conn, after=middle, end=high + 1, key=None, limit=1)
            if found and found[0].time < instant:
                low = found[0].seq
            else:
                high = middle
    return low if low >= begin else 0


async def _page(conn: Any, *, after: int, end: int, key: str | None, limit: int = PAGE) -> Sequence[Event]:
    given = {"after": after, "end": end, "key": key, "limit": limit}
    rows = await (await conn.execute(_QUERIES["page"], given)).fetchall()
    return [
        Event(
            id=row["id"],
            type=row["type"],
            aggregate_type=row["aggregatetype"],
            aggregate_id=row["aggregateid"],
            time=row["time"],
            data=orjson.loads(row["payload"]),
            traceparent=row["traceparent"],
            seq=row["seq"],
        )
        for row in rows
    ]


async def _cold_events(
    cold: ColdEvents, segment: int, *, after: int, key: str | None
) -> AsyncIterator[Event]:
    rows = cold.read(segment=segment, after=after, key=key)
    while page := await asyncio.to_thread(lambda: list(islice(rows, PAGE))):
        for row in page:
            yield _event(row)


def _event(row: Row) -> Event:
    seq, event_id, _, aggregate_type, aggregate_id, kind, payload, time_us, traceparent, _ = row
    return Event(
        id=UUID(event_id),
        type=kind,
        aggregate_type=aggregate_type,
        aggregate_id=aggregate_id,
        time=_EPOCH + timedelta(microseconds=time_us),
        data=orjson.loads(payload),
        traceparent=traceparent,
        seq=seq,
    )
