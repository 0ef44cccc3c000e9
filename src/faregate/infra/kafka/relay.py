"""Relays the log to Kafka: one relay at a time, others stand by. What is published does not belong here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.leadership import LeadershipLost, Progress, lead_in_turn
from faregate.infra.eventlog.listener import Listener
from faregate.infra.eventlog.outage import OUTAGES
from faregate.infra.kafka.blocking import beside
from faregate.infra.kafka.client import KafkaAddress, KafkaUnavailable
from faregate.infra.kafka.health import PUBLISHED, RelayHealth
from faregate.infra.kafka.publisher import Publisher
from faregate.infra.kafka.records import SchemaId
from faregate.infra.kafka.topics import Topics
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)

RELAY_GROUP = "kafka.relay"
"""Under this name the relay stands among the groups that read the log: in the lag, and before the archive."""
POLL_S = 1.0
SETTLE_S = 5.0
SETTLE_AFTER = 10_000
"""So many events a group's place in a silent partition may stay behind: to count its lag costs that much at most."""
LEAVE_S = 2.0
"""How long a relay that is told to stop waits for what it asked of Kafka."""
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayLease:
    """The right to relay, the place in the log that is marked as published, and up to where ends are known."""

    fence: int
    position: int
    ends_upto: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stay:
    """One stay as the leader: its connection, under its fence, until it is told to stop."""

    conn: Connection
    fence: int
    stop: asyncio.Event
    progressed: Progress


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
        settle_after: int = SETTLE_AFTER,
    ) -> None:
        self._database = database
        self._listener = listener
        self._holder = holder
        self._address = address
        self._topics = topics
        self._schema_id = schema_id
        self._lease_s = lease_s
        self._batch_max = batch_max
        self._settle_after = settle_after
        self._health = RelayHealth(address=address)

    async def check(self) -> None:
        """Return if events can be passed on. Raises NotReady with the reason, on those that stand by too."""
        await self._health.check()

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
        if row is None:
            self._health.is_well()
            return None
        return RelayLease(fence=row["fence"], position=row["position"], ends_upto=row["ends_upto"])

    async def _lead(
        self, conn: Connection, lease: RelayLease, stop: asyncio.Event, progressed: Progress
    ) -> None:
        self._health.leads()
        try:
            stay = _Stay(conn=conn, fence=lease.fence, stop=stop, progressed=progressed)
            await self._publish(stay, lease)
            await conn.execute(_QUERIES["release_relay"], {"fence": lease.fence})
        except OUTAGES as error:
            if not stop.is_set():
                self._health.failed(error)
            raise
        finally:
            self._health.leads_no_more()

    async def _publish(self, stay: _Stay, lease: RelayLease) -> None:
        """Publish the log from where the one before stopped, until told to stop."""
        publisher = await self._meanwhile_leading(
            stay, Publisher, address=self._address, topics=self._topics, schema_id=self._schema_id
        )
        try:
            found = await self._meanwhile_leading(stay, publisher.published_upto)
            position = await self._catch_up(stay, lease, published=max(found, lease.position))
            await self._go_on(stay, publisher, position)
        finally:
            await beside(publisher.close)

    async def _catch_up(self, stay: _Stay, lease: RelayLease, *, published: int) -> int:
        """Mark what the one before us published, if it died before it did, and where that ends in each partition."""
        position = min(lease.position, lease.ends_upto)
        while position < published:
            rows = [r for r in await self._next_rows(stay.conn, position) if r["seq"] <= published]
            position = rows[-1]["seq"] if rows else published
            await self._mark(stay, position, rows)
        await self._mark(stay, published)
        return published

    async def _go_on(self, stay: _Stay, publisher: Publisher, position: int) -> None:
        renew_at = settle_at = time.monotonic()
        while not stay.stop.is_set():
            woken = self._listener.next_batch()
            rows = await self._next_rows(stay.conn, position)
            if rows:
                await self._meanwhile_leading(stay, publisher.publish, rows)
                position = rows[-1]["seq"]
                await self._mark(stay, position, rows)
                PUBLISHED.inc(len(rows))
            else:
                await _first_of(stay.stop, woken, timeout_s=min(POLL_S, self._lease_s / 4))
            stay.progressed()
            self._health.is_well()
            if time.monotonic() >= renew_at:
                await self._renew(stay)
                renew_at = time.monotonic() + self._lease_s / 3
            if time.monotonic() >= settle_at:
                given = {"upto": position, "behind": self._settle_after}
                await stay.conn.execute(_QUERIES["settle_silent"], given)
                settle_at = time.monotonic() + SETTLE_S

    async def _meanwhile_leading(
        self, stay: _Stay, work: Callable[..., Result], *given: Any, **named: Any
    ) -> Result:
        """Run what blocks beside, and keep the lease however long it takes: Kafka may be slow, not gone.

        Told to stop, it is waited for a little longer and then left: what it does is undone or found by who comes next.
        """
        task = asyncio.create_task(beside(work, *given, **named))
        stopped = asyncio.create_task(stay.stop.wait())
        try:
            while not stopped.done():
                waited_for = [task, stopped]
                await asyncio.wait(waited_for, timeout=self._lease_s / 3, return_when="FIRST_COMPLETED")
                if task.done():
                    return task.result()
                await self._renew(stay)
            if not (await asyncio.wait([task], timeout=LEAVE_S))[0]:
                raise KafkaUnavailable("Kafka did not answer before the relay had to stop", retry_after_s=1.0)
            return task.result()
        except BaseException:
            if not task.done():  # it cannot be ended, and the next one of ours must not begin beside it
                await asyncio.wait([task, stopped], return_when="FIRST_COMPLETED")
            raise
        finally:
            task.cancel()
            stopped.cancel()

    async def _next_rows(self, conn: Connection, position: int) -> list[Any]:
        given = {"after": position, "limit": self._batch_max}
        return await (await conn.execute(_QUERIES["next_events"], given)).fetchall()

    async def _mark(self, stay: _Stay, position: int, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        ends = self._ends(rows)
        given = {
            "group": RELAY_GROUP,
            "position": position,
            "fence": stay.fence,
            "topics": [topic for topic, _ in ends],
            "partitions": [partition for _, partition in ends],
            "seqs": list(ends.values()),
        }
        [row] = await (await stay.conn.execute(_QUERIES["mark_published"], given)).fetchall()
        if row["marked"] == 0:
            raise LeadershipLost(f"fence {stay.fence} is no longer valid")

    def _ends(self, rows: Sequence[Mapping[str, Any]]) -> Mapping[tuple[str, int], int]:
        """Return the last place in the log that each partition got of these rows."""
        ends = {}
        for row in rows:
            topic = self._topics.topic_of(type=row["type"], aggregate_type=row["aggregatetype"])
            ends[topic, self._topics.partition_of(row["aggregateid"])] = row["seq"]
        return ends

    async def _renew(self, stay: _Stay) -> None:
        given = {"fence": stay.fence, "lease_s": self._lease_s}
        if await (await stay.conn.execute(_QUERIES["renew_relay"], given)).fetchone() is None:
            raise LeadershipLost(f"fence {stay.fence} is no longer valid")


async def _first_of(*events: asyncio.Event, timeout_s: float) -> None:
    waits = [asyncio.create_task(event.wait()) for event in events]
    await asyncio.wait(waits, timeout=timeout_s, return_when="FIRST_COMPLETED")
    for task in waits:
        task.cancel()
