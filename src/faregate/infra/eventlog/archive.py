"""Moves old segments of the log into cold storage, checks them there, and brings them back.

A segment is copied, the copy made durable and read back, and only then one transaction drops its table and says that
it is cold. Killed before that transaction, the segment is hot and its copy counts for nothing; killed after, it is
cold. So no event is lost or there twice, and whoever runs it again goes on where it stopped.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import psycopg
import structlog
from psycopg.rows import tuple_row

from faregate.infra.database import Connection, Database, url_with_role
from faregate.infra.eventlog.cold import ColdCopyDamaged, ColdEvents, Copy, Row, Tally
from faregate.infra.eventlog.segments import Segment, segments
from faregate.infra.queries import load_queries
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError, NotFoundError, UnavailableError

_log = structlog.get_logger(__name__)
_QUERIES = load_queries(__package__)

CLOSE_TRIES = 60
CLOSE_PAUSE_S = 0.5
_FETCH_ROWS = 5_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

Step = Callable[[str], None]
"""Told the name of each step as it ends: for progress, and for tests that kill us there."""


class ArchiveBusy(ConflictError):
    """Another process moves events at this moment."""


class LogInUse(UnavailableError):
    """A segment could not be closed: something reads the log without pause, or needs it again.

    Run the command again later.
    """


class EventsNotCold(NotFoundError):
    """No event from this place on is in cold storage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """What a run moved, and why it went no further."""

    segments: Sequence[Segment]
    stopped_by: str

    @property
    def events(self) -> int:
        """How many events were moved."""
        return sum(segment.end_seq - segment.from_seq for segment in self.segments)


class Archive:
    """The archive of one log. `database` acts as `faregate_eventlog`."""

    def __init__(
        self, *, database: Database, cold: ColdEvents, clock: Clock, on_step: Step = lambda _: None
    ) -> None:
        self._database = database
        self._cold = cold
        self._clock = clock
        self._on_step = on_step

    async def run(self, *, older_than: timedelta) -> Moved:
        """Move every segment that is filled, old enough and handled by every group, oldest first.

        Raises ArchiveBusy, LogInUse or ColdCopyDamaged; what was moved before stays moved.
        """
        moved: list[Segment] = []
        async with self._alone():
            while True:
                segment = next(s for s in await self.segments() if not s.is_cold)
                obstacle = await self._obstacle(segment, older_than=older_than)
                if obstacle is not None:
                    return Moved(segments=moved, stopped_by=obstacle)
                copy = await asyncio.to_thread(self._copy, segment)
                self._on_step("copied")
                await self._close(segment, copy)
                self._on_step("closed")
                _log.info("eventlog.segment_archived", from_seq=segment.from_seq, events=copy.rows)
                moved.append(segment)

    async def segments(self) -> Sequence[Segment]:
        """Return every segment, hot and cold, oldest first."""
        async with self._database.connection() as conn:
            return await segments(conn)

    async def verify(self) -> dict[int, str | None]:
        """Read every cold segment whole; return what is wrong with each by its first place, None if nothing is."""
        found: dict[int, str | None] = {}
        for segment in await self.segments():
            if segment.is_cold:
                found[segment.from_seq] = await asyncio.to_thread(self._damage, segment)
        return found

    async def restore(self, *, from_seq: int, keep: timedelta) -> Sequence[Segment]:
        """Bring every event from a place on back into PostgreSQL, and keep it there for a while; return the segments.

        Newest first, so that what is hot stays in one piece. Raises EventsNotCold, ArchiveBusy or ColdCopyDamaged.
        """
        async with self._alone():
            wanted = [s for s in await self.segments() if s.is_cold and s.end_seq > from_seq]
            if not wanted:
                raise EventsNotCold(f"event {from_seq} and all after it are in PostgreSQL")
            for segment in reversed(wanted):
                await self._reopen(segment, kept_until=self._clock.now() + keep)
                self._on_step("reopened")
        return wanted

    def _check(self, segment: Segment) -> None:
        self._cold.check(segment=segment.from_seq, rows=segment.rows, sha256=segment.sha256)

    def _damage(self, segment: Segment) -> str | None:
        try:
            self._check(segment)
        except ColdCopyDamaged as error:
            return error.detail
        return None

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        async with await self._database.connect() as conn:
            [row] = await (await conn.execute(_QUERIES["try_archive_lock"])).fetchall()
            if not row["held"]:
                raise ArchiveBusy("another process moves events")
            try:
                yield
            finally:
                # The server would notice a moment after us that we are gone, and refuse whoever comes next.
                if not conn.closed:
                    await conn.execute(_QUERIES["leave_archive_lock"])

    async def _obstacle(self, segment: Segment, *, older_than: timedelta) -> str | None:
        """Say why a segment stays where it is, None if nothing keeps it."""
        now, last = self._clock.now(), segment.end_seq - 1
        if not segment.filled:
            return f"the segment from event {segment.from_seq} on is still being filled"
        if segment.kept_until is not None and segment.kept_until > now:
            return f"the segment from event {segment.from_seq} on was restored, until {segment.kept_until:%F %T} UTC"
        async with self._database.connection() as conn:
            [row] = await (await conn.execute(_QUERIES["sequenced_at"], {"seq": last})).fetchall()
            if row["sequenced_at"] > now - older_than:
                return f"event {last} is younger than that"
            behind = await (await conn.execute(_QUERIES["behind"], {"end": segment.end_seq})).fetchall()
        if behind:
            named = ", ".join(f"{group['group']} (at {group['position']})" for group in behind)
            return f"event {last} is not handled by {named}"
        return None

    def _copy(self, segment: Segment) -> Copy:
        """Copy a segment as it is streamed from the database."""
        return self._cold.write(segment=segment.from_seq, rows=self._rows(segment), now=self._clock.now())

    def _rows(self, segment: Segment) -> Iterator[Row]:
        given = {"from": segment.from_seq, "end": segment.end_seq}
        url = url_with_role(self._database.url, role=self._database.role)
        with psycopg.connect(url) as conn, conn.cursor(name="archive") as cursor:
            cursor.itersize = _FETCH_ROWS
            cursor.execute(_QUERIES["rows_of_segment"], given)
            yield from cursor
            self._on_step("read")

    async def _close(self, segment: Segment, copy: Copy) -> None:
        """Say that a segment is cold and drop its table, at a moment when nobody reads the log for long."""
        given = {
            "from": segment.from_seq,
            "rows": copy.rows,
            "sha256": copy.sha256,
            "bytes": copy.bytes,
            "first_at": copy.first_at,
            "last_at": copy.last_at,
        }
        for _ in range(CLOSE_TRIES):
            try:
                async with self._database.transaction() as conn:
                    await conn.execute(_QUERIES["limit_lock_wait"])
                    await conn.execute(_QUERIES["close_segment"], given)
                    self._on_step("closing")
                return
            except (psycopg.errors.LockNotAvailable, psycopg.errors.DeadlockDetected):
                await asyncio.sleep(CLOSE_PAUSE_S)
            except psycopg.errors.ObjectNotInPrerequisiteState as error:
                raise LogInUse(
                    f"a consumer group went back behind event {segment.end_seq - 1} while it was copied"
                ) from error
        raise LogInUse(f"the segment from event {segment.from_seq} on is read without pause")

    async def _reopen(self, segment: Segment, *, kept_until: datetime) -> None:
        given = {"from": segment.from_seq, "end": segment.end_seq, "kept_until": kept_until}
        await asyncio.to_thread(self._check, segment)
        async with self._database.connection() as conn:
            await conn.execute(_QUERIES["make_partition"], given)
        self._on_step("table_made")
        async with self._database.transaction() as conn:
            await self._load(conn, segment)
            loaded = Tally()
            async with conn.cursor(row_factory=tuple_row) as cursor:
                async for row in cursor.stream(_QUERIES["rows_of_segment"], given):
                    loaded.add(row)
            if (loaded.rows, loaded.sha256) != (segment.rows, segment.sha256):
                raise ColdCopyDamaged(
                    f"segment {segment.from_seq} is not what was written", segment=segment.from_seq
                )
            await conn.execute(_QUERIES["reopen_segment"], given)
            self._on_step("loaded")

    async def _load(self, conn: Connection, segment: Segment) -> None:
        rows = self._cold.read(segment=segment.from_seq)
        async with conn.cursor() as cursor, cursor.copy(_QUERIES["load_events"]) as copy:
            while page := await asyncio.to_thread(lambda: list(islice(rows, _FETCH_ROWS))):
                for *facts, time_us, traceparent, sequenced_us in page:
                    await copy.write_row([*facts, _instant(time_us), traceparent, _instant(sequenced_us)])


def _instant(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)
