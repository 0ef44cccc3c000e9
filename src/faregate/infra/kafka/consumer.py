"""One member of a consumer group on Kafka: reads, handles, and moves on in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

import orjson
import structlog
from confluent_kafka import Message
from opentelemetry import trace

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.leadership import pause
from faregate.infra.eventlog.outage import OUTAGES, Backoff, is_outage, pause_after
from faregate.infra.eventlog.port import Handler
from faregate.infra.eventlog.tracing import link_to
from faregate.infra.kafka.client import KafkaAddress, RecordsGone
from faregate.infra.kafka.dead_letters import DeadLetters
from faregate.infra.kafka.offsets import Place
from faregate.infra.kafka.reader import Reader, Standing, open_reader
from faregate.infra.kafka.records import ForeignRecord, event_of, headers_of, seq_of, type_of
from faregate.infra.kafka.topics import Topics
from faregate.infra.queries import load_queries
from faregate.kernel.event import Event

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_QUERIES = load_queries(__package__)

RETRY_FIRST_S = 0.1
POLL_S = 0.2
LOOK_EVERY_S = 2.0
GONE_PAUSE_S = 5.0
JOIN_S_MAX = 10.0
GROUP_HEADER = "group"
Result = TypeVar("Result")
Read = Mapping[Place, Sequence[Message]]


class PositionMoved(Exception):
    """The group does not stand where this member thinks: others handle the partitions now, or it was set back."""


class KafkaConsumer:
    """Made by `KafkaEventSource`, whose words on what it promises hold."""

    def __init__(
        self,
        *,
        database: Database,
        address: KafkaAddress,
        topics: Topics,
        group: str,
        types: Collection[str] | None,
        handler: Handler,
        batch_max: int,
        session_s: float,
        retry_max_s: float,
        attempts_max: int | None,
        dead_letters: DeadLetters,
    ) -> None:
        self._database = database
        self._address = address
        self._topics = topics
        self._group = group
        self._types = None if types is None else frozenset(types)
        self._handler = handler
        self._batch_max = batch_max
        self._session_s = session_s
        self._retry_max_s = retry_max_s
        self._attempts_max = attempts_max
        self._dead_letters = dead_letters

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then finish the batch at hand and leave the group. May be run again."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                await self._stay(stop, backoff)
            except RecordsGone as error:
                _log.error("kafka.records_gone", group=self._group, error=error.detail)
                await pause(stop, GONE_PAUSE_S)
            except OUTAGES as error:
                pause_s = backoff.next_s()
                _log.warning(
                    "kafka.consumer_disconnected", group=self._group, error=str(error), retry_s=pause_s
                )
                await pause(stop, pause_s)

    async def _stay(self, stop: asyncio.Event, backoff: Backoff) -> None:
        """Be a member of the group until `stop` is set or an outage ends it. The client has a thread of its own."""
        loop = asyncio.get_running_loop()
        with ThreadPoolExecutor(1, thread_name_prefix=f"kafka-{self._group}") as thread:

            async def call(work: Callable[..., Result], *given: Any, **named: Any) -> Result:
                return await asyncio.shield(loop.run_in_executor(thread, partial(work, *given, **named)))

            def join(places: Sequence[Place]) -> Mapping[Place, Standing]:
                return asyncio.run_coroutine_threadsafe(self._join(places), loop).result(JOIN_S_MAX)

            reader = await call(
                open_reader,
                address=self._address,
                topics=self._topics,
                names=[*self._topics.carrying(self._types), self._topics.retries],
                group=self._group,
                session_s=self._session_s,
                join=join,
            )
            try:
                looked_at = loop.time()
                while not stop.is_set():
                    read = await call(reader.read, records_max=self._batch_max, wait_s=POLL_S)
                    if read:
                        await self._handle(reader, read, call)
                        backoff.reset()  # not before: to join and to read succeed while what a handler needs is away
                    elif loop.time() - looked_at >= LOOK_EVERY_S:
                        await self._follow(reader, call)
                        looked_at = loop.time()
            finally:
                await call(reader.close)

    async def _join(self, places: Sequence[Place]) -> Mapping[Place, Standing]:
        given = {
            "group": self._group,
            "types": None if self._types is None else sorted(self._types),
            "bus": orjson.dumps(self._topics.description).decode(),
            **_columns(places),
        }
        async with self._database.connection() as conn:
            rows = await (await conn.execute(_QUERIES["bus_join"], given)).fetchall()
            standings = {
                (row["topic"], row["partition"]): Standing(
                    position=row["position"], passed_seq=row["passed_seq"]
                )
                for row in rows
            }
            await self._require_kept(conn, standings)
        return standings

    async def _require_kept(self, conn: Connection, standings: Mapping[Place, Standing]) -> None:
        """Raise RecordsGone if a group comes from the log with more to do there than Kafka keeps."""
        new = [standing.passed_seq for standing in standings.values() if standing.position is None]
        if not any(new):
            return
        given = {
            "after": min(filter(None, new)),
            "types": None if self._types is None else sorted(self._types),
            "retention_s": self._topics.retention.total_seconds(),
        }
        row: Any = await (await conn.execute(_QUERIES["has_older"], given)).fetchone()
        if row["is_gone"]:
            raise RecordsGone(
                f"{self._group} is behind on the log by more than Kafka keeps", retry_after_s=5.0
            )

    async def _follow(self, reader: Reader, call: Callable[..., Any]) -> None:
        """Go where somebody set the group back to; a batch would notice by itself, and none came."""
        given = {"group": self._group, **_columns(list(reader.shares))}
        async with self._database.connection() as conn:
            rows = await (await conn.execute(_QUERIES["bus_positions"], given)).fetchall()
        stands = {(row["topic"], row["partition"]): row["position"] for row in rows}
        moved = [place for place, share in reader.shares.items() if stands.get(place) != share.position]
        if moved:
            await call(reader.go_to, moved)

    async def _handle(self, reader: Reader, read: Read, call: Callable[..., Any]) -> None:
        """Handle what was read: in common where nothing failed lately, else one record at a time."""
        together = {place: found for place, found in read.items() if not reader.shares[place].failures}
        alone = {place: found for place, found in read.items() if place not in together}
        if together:
            try:
                await self._commit(reader, together)
            except PositionMoved:
                await call(reader.go_to, together)
            except Exception as error:  # the edge: whatever a handler raises is tried again
                if is_outage(error):
                    raise
                _log.warning("eventlog.batch_failed", group=self._group, error=type(error).__name__)
                alone |= together
        for place, found in alone.items():
            await self._one_by_one(reader, place, found, call)

    async def _one_by_one(
        self, reader: Reader, place: Place, found: Sequence[Message], call: Callable[..., Any]
    ) -> None:
        """Handle records singly up to the one at fault, which costs only its partition a rest."""
        for message in found:
            try:
                if not await self._one(reader, place, message, call):
                    return
            except PositionMoved:
                await call(reader.go_to, [place])
                return

    async def _one(self, reader: Reader, place: Place, message: Message, call: Callable[..., Any]) -> bool:
        """Handle a record or put it with the dead letters; False if its partition rests first. Raises PositionMoved."""
        failures = reader.shares[place].failures
        try:
            await self._commit(reader, {place: [message]})
        except PositionMoved:
            raise
        except ForeignRecord as error:
            await self._set_aside(reader, place, message, error)
        except Exception as error:  # the edge: whatever a handler raises is tried again
            if is_outage(error):
                raise
            if self._attempts_max is None or failures + 1 < self._attempts_max:
                pause_s = pause_after(failures, first_s=RETRY_FIRST_S, max_s=self._retry_max_s)
                self._note_failure(message, error, attempt=failures + 1, retry_s=pause_s)
                await call(reader.rest, place, offset=_offset(message), pause_s=pause_s)
                return False
            await self._give_up(reader, place, message, error, attempts=failures + 1)
        return True

    async def _commit(self, reader: Reader, read: Read, *, passed_over: Exception | None = None) -> None:
        """Handle records and move the positions, in one transaction; only move them over what failed for good.

        Raises PositionMoved, ForeignRecord.
        """
        events = [] if passed_over else sorted(self._events(reader, read), key=lambda event: event.seq)
        async with self._database.transaction() as conn:
            fresh = await self._take(conn, reader, read, events)
            if fresh:
                with _tracer.start_as_current_span(f"handle {self._group}") as span:
                    link_to(span, fresh)
                    await self._handler(conn, fresh)
            ends = _ends(read, are_ours=not isinstance(passed_over, ForeignRecord))
            await conn.execute(_QUERIES["bus_advance"], {"group": self._group, **ends})
        for place, found in read.items():
            reader.handled(place, upto=_offset(found[-1]) + 1)

    async def _take(
        self, conn: Connection, reader: Reader, read: Read, events: Sequence[Event]
    ) -> list[Event]:
        given = {
            "group": self._group,
            **_columns(list(read)),
            "known": [reader.shares[place].position for place in read],
            "ids": [event.id for event in events],
            "lease_ms": int(self._session_s * 1000),  # a member that froze must not hold up who follows it
        }
        row: Any = await (await conn.execute(_QUERIES["bus_take"], given)).fetchone()
        if row["moved"]:
            raise PositionMoved(f"{row['moved']} partitions of {self._group}")
        fresh = set(row["fresh"])
        kept = []
        for event in events:  # an event that was published twice within the batch is handled once
            if event.id in fresh:
                fresh.remove(event.id)
                kept.append(event)
        return kept

    def _events(self, reader: Reader, read: Read) -> list[Event]:
        """Return the events among the records that this group has to handle. Raises ForeignRecord."""
        found = []
        for place, messages in read.items():
            topic, passed_seq = place[0], reader.shares[place].passed_seq
            for message in messages:
                headers = headers_of(message.headers())
                if topic == self._topics.retries and headers.get(GROUP_HEADER) != self._group:
                    continue
                if self._types is not None and type_of(headers) not in self._types:
                    continue
                event = event_of(message.value())
                if topic == self._topics.retries or event.seq > passed_seq:
                    found.append(event)
        return found

    async def _give_up(
        self, reader: Reader, place: Place, message: Message, error: Exception, *, attempts: int
    ) -> None:
        """Put an event with the dead letters, and go on after it. Raises PositionMoved."""
        event = event_of(message.value())
        async with self._database.connection() as conn:  # before the letter is there: none may be unknown
            await conn.execute(_QUERIES["bus_give_up"], {"group": self._group, "event_id": event.id})
        await self._bury(reader, place, message, error, attempts=attempts)
        _log.error("kafka.dead_letter", group=self._group, event_id=str(event.id), attempts=attempts)

    async def _set_aside(self, reader: Reader, place: Place, message: Message, error: ForeignRecord) -> None:
        """Put a record that is none of ours with the dead letters, and go on after it. Raises PositionMoved."""
        await self._bury(reader, place, message, error, attempts=1)
        topic, partition = place
        _log.error(
            "kafka.foreign_record",
            group=self._group,
            topic=topic,
            partition=partition,
            offset=_offset(message),
            error=str(error),
        )

    async def _bury(
        self, reader: Reader, place: Place, message: Message, error: Exception, *, attempts: int
    ) -> None:
        await asyncio.to_thread(
            self._dead_letters.put, message, group=self._group, error=error, attempts=attempts
        )
        await self._commit(reader, {place: [message]}, passed_over=error)

    def _note_failure(self, message: Message, error: Exception, *, attempt: int, retry_s: float) -> None:
        event = event_of(message.value())
        _log.error(
            "eventlog.handler_failed",
            group=self._group,
            event_id=str(event.id),
            event_type=event.type,
            aggregate_id=event.aggregate_id,
            seq=event.seq,
            partition=message.partition(),
            attempt=attempt,
            retry_s=retry_s,
            exc_info=error,
        )


def _columns(places: Sequence[Place]) -> dict[str, Any]:
    return {"topics": [topic for topic, _ in places], "partitions": [number for _, number in places]}


def _ends(read: Read, *, are_ours: bool) -> dict[str, Any]:
    last = [found[-1] for found in read.values()]
    return {
        **_columns(list(read)),
        "positions": [_offset(message) + 1 for message in last],
        "seqs": [(seq_of(headers_of(message.headers())) or 0) if are_ours else 0 for message in last],
    }


def _offset(message: Message) -> int:
    offset = message.offset()
    if offset is None:
        raise ValueError("a record that was read has an offset")
    return int(offset)
