"""Relays the log to Kafka: one relay at a time, others stand by. What is published does not belong here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.leadership import LeadershipLost, Progress, lead_in_turn
from faregate.infra.eventlog.listener import Listener
from faregate.infra.kafka.client import KafkaAddress
from faregate.infra.kafka.publisher import Publisher
from faregate.infra.kafka.records import SchemaId
from faregate.infra.kafka.topics import Topics
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)

RELAY_GROUP = "kafka.relay"
"""Under this name the relay stands among the groups that read the log: in the lag, and before the archive."""
POLL_S = 1.0
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLease:
    """The right to relay, and the place in the log that is marked as published."""

    fence: int
    position: int


class Relay:
    """Publishes the log while it holds the lease, each event once and in the order of the log.

    `holder` names this instance uniquely; `database` acts as `faregate_eventlog`. After a crash another takes over
    within `lease_s`, and goes on where Kafka says that the one before it stopped.
    """

    def __init__(
        self,
        *,
        database: Database,
        listener: Listener,
        holder: str,
        address: KafkaAddress,
        topics: Topics,
        schema_id: SchemaId,
        lease_s: float = 5.0,
        batch_max: int = 1_000,
    ) -> None:
        self._database = database
        self._listener = listener
        self._holder = holder
        self._address = address
        self._topics = topics
        self._schema_id = schema_id
        self._lease_s = lease_s
        self._batch_max = batch_max

    async def run(self, stop: asyncio.Event) -> None:
        """Relay, or stand by, until `stop` is set. Outages of the database and of Kafka are waited out."""
        await lead_in_turn(
            stop,
            name="kafka.relay",
            holder=self._holder,
            lease_s=self._lease_s,
            database=self._database,
            acquire=self._acquire,
            lead=self._lead,
        )

    async def _acquire(self, conn: Connection) -> RelayLease | None:
        given = {"holder": self._holder, "lease_s": self._lease_s, "group": RELAY_GROUP}
        row = await (await conn.execute(_QUERIES["acquire_relay"], given)).fetchone()
        return RelayLease(fence=row["fence"], position=row["position"]) if row else None

    async def _lead(
        self, conn: Connection, lease: RelayLease, stop: asyncio.Event, progressed: Progress
    ) -> None:
        publisher = await self._meanwhile_leading(
            conn, lease, Publisher, address=self._address, topics=self._topics, schema_id=self._schema_id
        )
        try:
            # Published and not marked, if the one before us died in between.
            found = await self._meanwhile_leading(conn, lease, publisher.published_upto)
            position = max(lease.position, found)
            await self._mark(conn, lease, position)
            await self._relay(conn, lease, publisher, position, stop, progressed)
        finally:
            await asyncio.to_thread(publisher.close)
        await conn.execute(_QUERIES["release_relay"], {"fence": lease.fence})

    async def _relay(
        self,
        conn: Connection,
        lease: RelayLease,
        publisher: Publisher,
        position: int,
        stop: asyncio.Event,
        progressed: Progress,
    ) -> None:
        renew_at = time.monotonic() + self._lease_s / 3
        while not stop.is_set():
            woken = self._listener.next_batch()
            rows = await self._next_rows(conn, position)
            if rows:
                await self._meanwhile_leading(conn, lease, publisher.publish, rows)
                position = rows[-1]["seq"]
                await self._mark(conn, lease, position)
            else:
                await self._wait(stop, woken)
            progressed()
            if time.monotonic() >= renew_at:
                await self._renew(conn, lease)
                renew_at = time.monotonic() + self._lease_s / 3

    async def _meanwhile_leading(
        self, conn: Connection, lease: RelayLease, work: Callable[..., Result], *given: Any, **named: Any
    ) -> Result:
        """Run what blocks in a thread, and keep the lease however long it takes: Kafka may be slow, not gone."""
        task = asyncio.create_task(asyncio.to_thread(work, *given, **named))
        try:
            while not (await asyncio.wait([task], timeout=self._lease_s / 3))[0]:
                await self._renew(conn, lease)
        except BaseException:
            await asyncio.wait([task])  # it cannot be ended; what it did is undone or found by who comes next
            raise
        return task.result()

    async def _next_rows(self, conn: Connection, position: int) -> list[Any]:
        given = {"after": position, "limit": self._batch_max}
        return await (await conn.execute(_QUERIES["next_events"], given)).fetchall()

    async def _mark(self, conn: Connection, lease: RelayLease, position: int) -> None:
        given = {"group": RELAY_GROUP, "position": position, "fence": lease.fence}
        if (await conn.execute(_QUERIES["mark_published"], given)).rowcount == 0:
            raise LeadershipLost(f"fence {lease.fence} is no longer valid")

    async def _renew(self, conn: Connection, lease: RelayLease) -> None:
        given = {"fence": lease.fence, "lease_s": self._lease_s}
        if await (await conn.execute(_QUERIES["renew_relay"], given)).fetchone() is None:
            raise LeadershipLost(f"fence {lease.fence} is no longer valid")

    async def _wait(self, stop: asyncio.Event, woken: asyncio.Event) -> None:
        """Wait for a notification, `stop`, or the time to look without one."""
        waits = [asyncio.create_task(event.wait()) for event in (stop, woken)]
        timeout = min(POLL_S, self._lease_s / 4)
        await asyncio.wait(waits, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
