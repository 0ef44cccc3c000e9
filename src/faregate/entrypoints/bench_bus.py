"""Runs `bench.bus` on a system of its own: the embedded log and, where a broker can be had, Kafka beside it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

from faregate.bench.bus import (
    AGGREGATE_TYPE,
    TYPE,
    Bus,
    BusPlan,
    append_cost,
    figures_of,
    new_events,
    result_of,
)
from faregate.bench.report import BenchResult
from faregate.entrypoints.bootstrap.process import Loop
from faregate.infra.database import Database
from faregate.infra.embedded.kafka import embedded_kafka
from faregate.infra.eventlog import Listener, PostgresEventSource, append
from faregate.infra.kafka import RELAY_GROUP, KafkaAddress, KafkaEventSource, Relay, Topics, ensure_topics
from faregate.infra.local_system import Plan, local_system
from faregate.infra.telemetry.logs import configure_logging

Say = Callable[[str], None]
_CHUNK = 1_000


async def bench_bus(plan: BusPlan, *, home: Path, kafka: bool, say: Say) -> BenchResult:
    """Measure the embedded log and Kafka in one run. Without `kafka` the log alone."""
    configure_logging(format="console", level=logging.ERROR)
    async with AsyncExitStack() as stack:
        say("starting PostgreSQL" + (" and Kafka" if kafka else ""))
        only_sequencer = Plan(
            home=home, temporary=True, apis=0, workers=0, sandbox=False, roles=("sequencer",)
        )
        system = await stack.enter_async_context(local_system(only_sequencer))
        world = await _World.open(stack, system.database_url)
        cost = await append_cost(world.credit, plan)
        say(f"appending {plan.events:,} events")
        sequenced_per_s = await world.fill(plan.events)
        buses = [world.embedded()]
        if kafka:
            address = await asyncio.to_thread(stack.enter_context, embedded_kafka(home, end_with_us=True))
            buses.append(await world.on_kafka(stack, KafkaAddress(bootstrap=address)))
        figures = []
        for consumers in plan.consumers:
            for bus in buses:
                backlog = await world.sequenced()
                figures.append(
                    await figures_of(
                        bus, plan, database=world.credit, consumers=consumers, backlog=backlog, say=say
                    )
                )
        return result_of(figures, cost=cost, sequenced_per_s=sequenced_per_s, events=plan.events)


class _World:
    """The log, which a process of its own sequences, and both ways to read it."""

    def __init__(self, *, credit: Database, log: Database, listener: Listener) -> None:
        self.credit = credit
        self._log = log
        self._listener = listener

    @classmethod
    async def open(cls, stack: AsyncExitStack, url: str) -> _World:
        credit = await Database.open(url, role="faregate_credit", connections_max=12)
        log = await Database.open(url, role="faregate_eventlog")
        for database in (credit, log):
            stack.push_async_callback(database.close)
        listener = await stack.enter_async_context(Listener(credit))
        return cls(credit=credit, log=log, listener=listener)

    async def fill(self, events: int) -> float:
        """Append events and wait until they stand in the log; return how many a second the sequencer moved."""
        began = time.perf_counter()
        for start in range(0, events, _CHUNK):
            async with self.credit.transaction() as conn:
                await append(conn, new_events(min(_CHUNK, events - start), start=start))
        await self.sequenced()
        return events / (time.perf_counter() - began)

    async def sequenced(self) -> int:
        """Return how many events stand in the log once nothing waits any more."""
        while True:
            async with self._log.connection() as conn:
                found = await conn.execute(
                    "select eventlog.last_seq() as last, exists (select from eventlog.outbox) as more"
                )
                row = await found.fetchone()
            if row is not None and not row["more"]:
                return int(row["last"])
            await asyncio.sleep(0.05)

    def embedded(self) -> Bus:
        async def ready() -> None:
            await self.sequenced()

        return Bus(name="embedded log", source=PostgresEventSource(listener=self._listener), ready=ready)

    async def on_kafka(self, stack: AsyncExitStack, address: KafkaAddress) -> Bus:
        topics = Topics(aggregate_of={TYPE: AGGREGATE_TYPE})
        await asyncio.to_thread(ensure_topics, address, topics)
        relay = Relay(
            database=self._log,
            listener=self._listener,
            holder=uuid4().hex,
            address=address,
            topics=topics,
            schema_id=lambda _: None,
        )
        _run(stack, relay.run)

        async def ready() -> None:
            last = await self.sequenced()
            while await self._relayed() < last:  # noqa: ASYNC110 - the condition is in the database
                await asyncio.sleep(0.05)

        return Bus(name="Kafka", source=KafkaEventSource(address=address, topics=topics), ready=ready)

    async def _relayed(self) -> int:
        async with self._log.connection() as conn:
            found = await conn.execute(
                "select coalesce(min(position), 0) as position from eventlog.assignment where consumer_group = %s",
                (RELAY_GROUP,),
            )
            row = await found.fetchone()
        return int(row["position"]) if row is not None else 0


def _run(stack: AsyncExitStack, loop: Loop) -> None:
    """Run a loop beside the measurement, and end it with the stack."""
    stop = asyncio.Event()
    task = asyncio.create_task(loop(stop))

    async def end() -> None:
        stop.set()
        await task

    stack.push_async_callback(end)
