"""Looks after the log: lag, replay, skipping, pruning. Connections act as `faregate_eventlog`, except for lag."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import structlog

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.segments import hot_from
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError, InvalidError, NotFoundError

_log = structlog.get_logger(__name__)
_QUERIES = load_queries(__package__)

INBOX_RETENTION_DAYS = 30
"""How long an event is remembered as handled. A replay that reaches back farther repeats effects."""

_PRUNE_ROWS = 10_000


class ConsumerGroupUnknown(NotFoundError):
    """No member of that group has ever run against this log."""


class EventUnknown(NotFoundError):
    """No such event in the log, or no such group, or the group has handled it already."""


class ReplayPlaceUnknown(InvalidError):
    """A replay begins with an event of the log: 1 or later, and not after the newest."""


class EventsArchived(ConflictError):
    """The events are in cold storage, where no group reads. Restore them first: `faregate archive restore`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupLag:
    """How many events of its types a group has still to handle, and for how long the oldest has waited."""

    group: str
    events: int
    seconds: float


async def lag(conn: Connection, *, groups: Sequence[str] | None = None) -> Sequence[GroupLag]:
    """Return the lag of every group, or of these ones, as any part. The cost grows with the lag itself."""
    given = {"groups": None if groups is None else list(groups)}
    rows = await (await conn.execute(_QUERIES["lag"], given)).fetchall()
    return [GroupLag(group=row["group"], events=row["events"], seconds=row["seconds"]) for row in rows]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsequenced:
    """How many committed events are not in the log yet, and the age of the oldest."""

    events: int
    seconds: float


async def unsequenced(conn: Connection) -> Unsequenced:
    """Return what no group can read yet, as any part: much of it means that no sequencer runs."""
    row: Any = await (await conn.execute(_QUERIES["unsequenced"])).fetchone()
    return Unsequenced(events=row["events"], seconds=row["seconds"])


async def replay(conn: Connection, *, group: str, from_seq: int, effects_again: bool = False) -> None:
    """Make a group read the log again from an event on. Live members notice within a third of their lease.

    By default the inbox still holds: an event that the group has handled is passed over, so only events that
    it never handled (of a type that it has taken up since, say) reach the handler. With `effects_again` the
    inbox of that range is cleared and the handler runs again for every event in it. Ask for that only when
    the effects were removed before, or when the handler may repeat them. Call it inside a transaction;
    batches being handled meanwhile roll back. An unknown group is ConsumerGroupUnknown; a place that lies in
    cold storage is EventsArchived, one that the log does not have is ReplayPlaceUnknown.
    """
    await require_group(conn, group=group)
    await require_place(conn, from_seq=from_seq)
    if from_seq < (oldest := await hot_from(conn)):
        raise EventsArchived(
            f"events before {oldest} are in cold storage; "
            f"bring them back first: faregate archive restore --from-seq {from_seq}",
            hot_from=oldest,
        )
    given = {"group": group, "from_seq": from_seq}
    # Positions first: that waits for a batch that is about to commit, and its inbox rows are seen below.
    if not await (await conn.execute(_QUERIES["rewind"], given)).fetchall():
        raise ConsumerGroupUnknown(f"there is no consumer group {group!r}", group=group)
    if effects_again:
        await forget_handled(conn, group=group, from_seq=from_seq)
    _log.info("eventlog.replay", group=group, from_seq=from_seq, effects_again=effects_again)


async def require_place(conn: Connection, *, from_seq: int) -> None:
    """Raise ReplayPlaceUnknown for a place that the log does not have."""
    end = await end_of_log(conn)
    if not 1 <= from_seq <= end:
        newest = f"its newest is {end:,}" if end else "it is empty"
        raise ReplayPlaceUnknown(f"the log has no event {from_seq:,}: {newest}", newest=end)


async def forget_handled(conn: Connection, *, group: str, from_seq: int) -> None:
    """Clear the inbox of a group from an event on: the handler runs again for what comes again."""
    await conn.execute(_QUERIES["forget_handled"], {"group": group, "from_seq": from_seq})


async def skip(conn: Connection, *, group: str, event_id: UUID) -> None:
    """Let a group pass over an event that it cannot handle. EventUnknown if there is nothing to skip."""
    given = {"group": group, "event_id": event_id}
    if await (await conn.execute(_QUERIES["skip"], given)).fetchone() is None:
        raise EventUnknown(f"group {group!r} has no unhandled event {event_id}", group=group)
    _log.warning("eventlog.event_skipped", group=group, event_id=str(event_id))


async def newest(
    conn: Connection, *, after: int | None, count: int, types: Sequence[str] | None
) -> tuple[Sequence[Mapping[str, Any]], int]:
    """Return the newest events of the log, or those after a place, oldest first, and the place to go on after."""
    # First: what comes between the two statements is among the rows, or after this end.
    begin = await end_of_log(conn) if after is None else after
    given = {"after": after, "count": count, "types": list(types) if types else None}
    rows = await (await conn.execute(_QUERIES["newest"], given)).fetchall()
    return rows, max(begin, rows[-1]["seq"] if rows else 0)


async def end_of_log(conn: Connection) -> int:
    row: Any = await (await conn.execute(_QUERIES["log_end"])).fetchone()
    return int(row["seq"])


async def require_group(conn: Connection, *, group: str) -> None:
    """Raise ConsumerGroupUnknown for a group of which no member has ever run."""
    if await (await conn.execute(_QUERIES["group"], {"group": group})).fetchone() is None:
        raise ConsumerGroupUnknown(f"there is no consumer group {group!r}", group=group)


async def forget_group(conn: Connection, *, group: str) -> None:
    """Remove a group that no code uses any more, and that would keep events from moving to cold storage."""
    if await (await conn.execute(_QUERIES["forget_group"], {"group": group})).fetchone() is None:
        raise ConsumerGroupUnknown(f"there is no consumer group {group!r}", group=group)
    _log.warning("eventlog.group_forgotten", group=group)


async def prune_inbox(database: Database, *, before: datetime) -> int:
    """Delete inbox rows older than an instant, but for those of dead letters, in small transactions; return how many.

    Keep at least INBOX_RETENTION_DAYS: the inbox is what makes a replay or a restored position harmless.
    """
    pruned = 0
    async with database.connection() as conn:
        while True:
            done = await conn.execute(_QUERIES["prune_inbox"], {"before": before, "limit": _PRUNE_ROWS})
            pruned += done.rowcount
            if done.rowcount < _PRUNE_ROWS:
                return pruned
