"""A member of a consumer group that reads the log in PostgreSQL. What an event causes is for the handler."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Collection, Sequence
from contextlib import suppress
from typing import Any

import orjson
import structlog
from opentelemetry import trace

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.listener import Listener
from faregate.infra.eventlog.outage import OUTAGES, Backoff, is_outage, pause_after
from faregate.infra.eventlog.port import Handler
from faregate.infra.eventlog.shares import SAVE_EVERY, SAVE_EVERY_LEASES, Read, Share, end_of, reads, updated
from faregate.infra.eventlog.tracing import link_to
from faregate.infra.queries import load_queries
from faregate.kernel.event import Event

_log = structlog.get_logger(__name__)
_tracer = trace.get_tracer(__name__)
_QUERIES = load_queries(__package__)

RETRY_FIRST_S = 0.1
RETRY_MAX_S = 30.0
POLL_S = 1.0
"""How often a consumer looks for itself, should a notification have been lost."""


class LeaseLost(Exception):
    """A partition went to another member, or the group was rewound: the batch rolls back, nothing is lost."""


class Consumer:
    """Shares the 16 partitions of the log with the other members of its group, through leases with fences.

    `member` names this instance uniquely. A dead member's partitions are taken over within about
    `lease_s * 4 / 3`. One batch is in the works at a time; more members work in parallel. A handler must
    not leave its transaction idle for `lease_s`: the database would take it for frozen and cut it off.
    """

    def __init__(
        self,
        *,
        database: Database,
        listener: Listener,
        group: str,
        member: str,
        types: Collection[str] | None,
        handler: Handler,
        batch_max: int = 500,
        lease_s: float = 5.0,
        retry_max_s: float = RETRY_MAX_S,
    ) -> None:
        self._database = database
        self._listener = listener
        self._identity = {"group": group, "member": member}
        self._types = None if types is None else sorted(types)
        self._wakes = None if types is None else frozenset(types)
        self._handler = handler
        self._batch_max = batch_max
        self._window = max(20 * batch_max, SAVE_EVERY)
        self._lease_s = lease_s
        self._retry_max_s = retry_max_s
        self._shares: dict[int, Share] = {}
        self._rebalance_at = 0.0
        self._save_at = 0.0
        self._saves_all = False

    async def run(self, stop: asyncio.Event) -> None:
        """Consume until `stop` is set; then finish the batch at hand and leave the group. May be run again."""
        self._shares, self._rebalance_at = {}, 0.0
        stopped = asyncio.create_task(stop.wait())
        heartbeat = asyncio.create_task(self._beat_for_ever())
        try:
            await self._consume(stopped)
        finally:
            for task in (stopped, heartbeat):
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task
            await self._leave()

    async def _consume(self, stopped: asyncio.Task[Any]) -> None:
        backoff = Backoff()
        while not stopped.done():
            woken = self._listener.next_batch(self._wakes)
            try:
                busy = await self._round()
                backoff.reset()
            except OUTAGES as error:
                self._rebalance_at = 0.0
                pause_s = backoff.next_s()
                _log.warning(
                    "eventlog.consumer_disconnected", **self._identity, error=str(error), retry_s=pause_s
                )
                await asyncio.wait([stopped], timeout=pause_s)
                continue
            if not busy:
                await self._rest(stopped, woken)

    async def _round(self) -> bool:
        """Read each group of partitions once; whether there may be more to do at once."""
        if time.monotonic() >= self._rebalance_at:
            await self._rebalance()
        busy, self._saves_all = False, time.monotonic() >= self._save_at
        if self._saves_all:
            self._save_at = time.monotonic() + SAVE_EVERY_LEASES * self._lease_s
        for read in reads(
            self._shares.values(), now=time.monotonic(), batch_max=self._batch_max, window=self._window
        ):
            busy = await self._attempt(read) or busy
        return busy

    async def _rebalance(self) -> None:
        given = {**self._identity, "types": self._types, "lease_s": self._lease_s}
        async with self._database.connection() as conn:
            rows = await (await conn.execute(_QUERIES["rebalance"], given)).fetchall()
        self._rebalance_at = time.monotonic() + self._lease_s / 3
        held = updated(self._shares, rows)
        if held.keys() != self._shares.keys():
            _log.info("eventlog.partitions_changed", **self._identity, partitions=sorted(held))
        self._shares = held

    async def _attempt(self, read: Read) -> bool:
        """Handle one batch; a failure costs only its partitions. Whether there may be more to do at once."""
        found: list[Event] = []
        try:
            return await self._handle(read, found)
        except LeaseLost:
            _log.info("eventlog.lease_lost", **self._identity, partitions=[s.partition for s in read.shares])
            self._rebalance_at = 0.0
        except Exception as error:  # the edge: whatever a handler raises is tried again
            if is_outage(error) or not found:
                raise
            self._note_failure(read, found, error)
        return True

    async def _handle(self, read: Read, found: list[Event]) -> bool:
        async with self._database.transaction() as conn:
            rows = await self._take(conn, read)
            seqs = [row["seq"] for row in rows if row["seq"] is not None]
            position = end_of(read, head=rows[0]["head"], seqs=seqs)
            found.extend(_event(row) for row in rows if row["fresh"])
            if found:
                await self._call_handler(conn, found)
            ahead = position - min(share.saved for share in read.shares)
            save = bool(seqs) or ahead >= SAVE_EVERY or (self._saves_all and ahead > 0)
            if save:
                await self._advance(conn, read, position)
        for share in read.shares:
            share.moved_to(position, saved=save)
        return bool(position < rows[0]["head"])

    async def _take(self, conn: Connection, read: Read) -> Sequence[Any]:
        given = {
            "group": self._identity["group"],
            "partitions": [share.partition for share in read.shares],
            "after": read.after,
            "upto": read.upto,
            "types": self._types,
            "limit": read.limit,
            "lease_ms": int(self._lease_s * 1000),
        }
        return await (await conn.execute(_QUERIES["take"], given)).fetchall()

    async def _call_handler(self, conn: Connection, events: Sequence[Event]) -> None:
        with _tracer.start_as_current_span(f"handle {self._identity['group']}") as span:
            link_to(span, events)
            await self._handler(conn, events)

    async def _advance(self, conn: Connection, read: Read, position: int) -> None:
        given = {
            **self._identity,
            "partitions": [share.partition for share in read.shares],
            "fences": [share.fence for share in read.shares],
            "position": position,
        }
        row: Any = await (await conn.execute(_QUERIES["advance"], given)).fetchone()
        if row["moved"] != len(read.shares):
            member = self._identity["member"]
            raise LeaseLost(f"{member} holds {row['moved']} of {len(read.shares)} partitions")

    def _note_failure(self, read: Read, events: Sequence[Event], error: Exception) -> None:
        """Mark the partitions of a failed batch: one event is named in the log, a batch is taken apart."""
        if not read.of_one_event:
            for share in read.shares:
                share.careful_until = events[-1].seq
            _log.warning(
                "eventlog.batch_failed", **self._identity, events=len(events), error=type(error).__name__
            )
            return
        (share,), (event,) = read.shares, events
        pause_s = pause_after(share.failures, first_s=RETRY_FIRST_S, max_s=self._retry_max_s)
        share.failed(at_seq=event.seq, retry_at=time.monotonic() + pause_s)
        _log.error(
            "eventlog.handler_failed",
            **self._identity,
            event_id=str(event.id),
            event_type=event.type,
            aggregate_id=event.aggregate_id,
            seq=event.seq,
            partition=share.partition,
            attempt=share.failures,
            retry_s=pause_s,
            exc_info=error,
        )

    async def _rest(self, stopped: asyncio.Task[Any], woken: asyncio.Event) -> None:
        """Sleep until the sequencer wrote, a partition has rested, the share must be renewed, or we stop."""
        now = time.monotonic()
        due = [share.retry_at for share in self._shares.values() if share.careful]
        until = min([self._rebalance_at, now + POLL_S, *due])
        notified = asyncio.create_task(woken.wait())
        await asyncio.wait([stopped, notified], timeout=max(0.0, until - now), return_when="FIRST_COMPLETED")
        notified.cancel()

    async def _beat_for_ever(self) -> None:
        """Keep the lease while a handler takes long. A missed beat costs at most the partitions."""
        given = {**self._identity, "lease_s": self._lease_s}
        while True:
            await asyncio.sleep(self._lease_s / 3)
            with suppress(*OUTAGES):  # the consumer itself meets the same outage and logs it
                async with self._database.connection() as conn:
                    await conn.execute(_QUERIES["heartbeat"], given)

    async def _leave(self) -> None:
        try:
            async with self._database.connection() as conn:
                await conn.execute(_QUERIES["leave"], self._identity)
        except OUTAGES as error:
            _log.warning("eventlog.leave_failed", **self._identity, error=str(error), lease_s=self._lease_s)


def _event(row: Any) -> Event:
    return Event(
        id=row["id"],
        type=row["type"],
        aggregate_type=row["aggregatetype"],
        aggregate_id=row["aggregateid"],
        time=row["time"],
        data=orjson.loads(row["payload"]),
        traceparent=row["traceparent"],
        seq=row["seq"],
    )
