"""The segments of the log, hot and cold, and the border between them. What a cold copy looks like stands in `cold`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """Events from `from_seq` up to, but without, `end_seq`. Cold since `archived_at`; None: in PostgreSQL.

    `rows`, `sha256`, `bytes`, `first_at` and `last_at` describe the cold copy, and are None before there is one.
    `filled` is whether every event of it is in the log. `kept_until`: restored, and not moved away before.
    """

    from_seq: int
    end_seq: int
    opened_at: datetime
    archived_at: datetime | None
    kept_until: datetime | None
    rows: int | None
    sha256: bytes | None
    bytes: int | None
    first_at: datetime | None
    last_at: datetime | None
    filled: bool

    @property
    def is_cold(self) -> bool:
        """Whether its events are in cold storage only."""
        return self.archived_at is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hot:
    """How many events are in PostgreSQL, and when the oldest of them was sequenced."""

    rows: int
    oldest_at: datetime | None


async def segments(conn: Connection) -> Sequence[Segment]:
    """Return every segment, oldest first."""
    return [Segment(**row) for row in await (await conn.execute(_QUERIES["segments"])).fetchall()]


async def segment_of(conn: Connection, *, seq: int) -> Segment | None:
    """Return the segment of a place, None beyond the last. Inside a transaction it stays hot or cold until its end."""
    await conn.execute(_QUERIES["hold_border"])
    row = await (await conn.execute(_QUERIES["segment_of"], {"seq": seq})).fetchone()
    return None if row is None else Segment(**row)


async def hot_from(conn: Connection) -> int:
    """Return the place of the first event in PostgreSQL. Inside a transaction it stays there until its end."""
    await conn.execute(_QUERIES["hold_border"])
    [row] = await (await conn.execute(_QUERIES["hot_from"])).fetchall()
    return int(row["seq"])


async def hot(conn: Connection) -> Hot:
    """Return how much is in PostgreSQL, for metrics."""
    [row] = await (await conn.execute(_QUERIES["hot"])).fetchall()
    return Hot(**row)


async def open_segment_ahead(conn: Connection) -> None:
    """Open the next segment once the last one is half full, so that the sequencer need not do it."""
    await conn.execute(_QUERIES["open_segment_ahead"])
