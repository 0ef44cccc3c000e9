"""What the bus carries and how fast: throughput, latency from commit to handler, and what appending costs.

Both buses are given the same events in the same run, on the same log. Nothing of them is known here: a bus is what
`Bus` names.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from faregate.bench.report import BenchResult
from faregate.bench.verdict import percentile
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import EventSource, append
from faregate.kernel.event import Event, NewEvent

KEYS = 1_000
EVENTS_PER_S_MIN = 10_000.0
LATENCY_MS_P99_MAX = 50.0
APPEND_COST_MAX = 0.15
PATIENCE_S = 120.0
TYPE, AGGREGATE_TYPE = "bench.tested", "bench.subject"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusPlan:
    """How much of each. `per_s` events a second for `seconds`, in transactions of `batch`, tell the latency.

    Before that they come for `warm_up_s`, so that members which have just met have shared the partitions among them.
    """

    events: int = 50_000
    per_s: float = 1_000.0
    seconds: float = 10.0
    warm_up_s: float = 5.0
    batch: int = 5
    transactions: int = 400
    consumers: Sequence[int] = (1, 4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bus:
    """One way to carry events. `ready` returns when everything that was appended can be read from it."""

    name: str
    source: EventSource
    ready: Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusFigures:
    """What one bus did with so many consumers."""

    bus: str
    consumers: int
    events_per_s: float
    latency_ms_p50: float
    latency_ms_p99: float
    expected: int
    handled: int
    in_order: bool


def new_events(count: int, *, start: int = 0) -> list[NewEvent]:
    """Return events of many keys, shaped like those of an application's life."""
    now = datetime.now(UTC)
    return [
        NewEvent(
            id=uuid4(),
            type=TYPE,
            aggregate_type=AGGREGATE_TYPE,
            aggregate_id=f"sub_{n % KEYS:06d}",
            time=now,
            data={
                "n": n,
                "status": "approved",
                "reason_codes": ["R1", "R2"],
                "score": 0.25,
                "text": "x" * 200,
            },
        )
        for n in range(start, start + count)
    ]


class Watch:
    """A handler that notes when each event came, and whether each key kept its order."""

    def __init__(self) -> None:
        self.at: dict[UUID, float] = {}
        self.handled = 0
        self.in_order = True
        self._last: dict[str, int] = {}

    async def __call__(self, _: Connection, events: Sequence[Event]) -> None:
        """Note a batch."""
        now = time.perf_counter()
        self.handled += len(events)
        for event in events:
            self.at[event.id] = now
            self.in_order &= self._last.get(event.aggregate_id, 0) < event.seq
            self._last[event.aggregate_id] = event.seq

    async def until(self, count: int) -> None:
        """Wait for so many events."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.at) < count:  # noqa: ASYNC110 - filled by consumers of this loop
                await asyncio.sleep(0.002)


async def figures_of(
    bus: Bus, plan: BusPlan, *, database: Database, consumers: int, backlog: int, say: Say
) -> BusFigures:
    """Measure one bus: a group that has `backlog` events before it, then the latency of new ones."""
    group, watch = f"bench.{uuid4().hex[:12]}", Watch()
    await bus.ready()
    say(f"{bus.name}, {consumers} consumer(s): {backlog:,} events from the start of the log")
    async with _members(bus, database, group=group, watch=watch, count=consumers):
        await watch.until(1)
        began, had = time.perf_counter(), len(watch.at)
        await watch.until(backlog)
        rate = (backlog - had) / max(time.perf_counter() - began, 1e-9)
        say(f"{bus.name}, {consumers} consumer(s): latency at {plan.per_s:g}/s")
        warmed_up = await _offered(database, plan, seconds=plan.warm_up_s)
        committed = await _offered(database, plan, seconds=plan.seconds)
        expected = backlog + len(warmed_up) + len(committed)
        await watch.until(expected)
    waits = sorted((watch.at[id_] - at) * 1000 for id_, at in committed.items())
    return BusFigures(
        bus=bus.name,
        consumers=consumers,
        events_per_s=rate,
        latency_ms_p50=percentile(waits, 50),
        latency_ms_p99=percentile(waits, 99),
        expected=expected,
        handled=watch.handled,
        in_order=watch.in_order,
    )


@asynccontextmanager
async def _members(
    bus: Bus, database: Database, *, group: str, watch: Watch, count: int
) -> AsyncIterator[None]:
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as running:
        for _ in range(count):
            member = bus.source.subscribe(
                database=database, group=group, types=[TYPE], handler=watch, batch_max=1_000
            )
            running.create_task(member.run(stop))
        try:
            yield
        finally:
            stop.set()


async def _offered(database: Database, plan: BusPlan, *, seconds: float) -> dict[UUID, float]:
    """Append at a steady rate for so long; return when each event was committed."""
    committed: dict[UUID, float] = {}
    every_s = plan.batch / plan.per_s
    begun = time.perf_counter()
    for number in range(int(plan.per_s * seconds / plan.batch)):
        await asyncio.sleep(max(0.0, begun + number * every_s - time.perf_counter()))
        events = new_events(plan.batch, start=number * plan.batch)
        async with database.transaction() as conn:
            await append(conn, events)
        now = time.perf_counter()
        committed |= {event.id: now for event in events}
    return committed


@dataclass(frozen=True, slots=True, kw_only=True)
class AppendCost:
    """By what share a business transaction takes longer with its event, and with one more row of its own instead."""

    of_an_event: float
    of_a_row: float


async def append_cost(database: Database, plan: BusPlan) -> AppendCost:
    """Compare a business transaction with and without its event: medians, in turns.

    The transaction is what a service's usually is: it locks one row, changes it, records two more, and commits.
    """
    async with database.transaction() as conn:
        for statement in _TABLES:
            await conn.execute(statement)
    turns: Sequence[Callable[[Connection, Sequence[NewEvent]], Awaitable[None]]] = (_nothing, append, _entry)
    took: dict[Any, list[float]] = {more: [] for more in turns}
    for number in range(len(turns) * plan.transactions):
        more, event = turns[number % len(turns)], new_events(1, start=number)
        began = time.perf_counter()
        async with database.transaction() as conn:
            await conn.execute("select n from credit.bench_account where id = %s for update", (number % 100,))
            await conn.execute("update credit.bench_account set n = n + 1 where id = %s", (number % 100,))
            for _ in range(2):
                await _entry(conn, event)
            await more(conn, event)
        took[more].append(time.perf_counter() - began)
    without = statistics.median(took[_nothing])
    return AppendCost(
        of_an_event=statistics.median(took[append]) / without - 1.0,
        of_a_row=statistics.median(took[_entry]) / without - 1.0,
    )


async def _nothing(_: Connection, event: Sequence[NewEvent]) -> None:
    """Only the business transaction itself."""


async def _entry(conn: Connection, event: Sequence[NewEvent]) -> None:
    await conn.execute(
        "insert into credit.bench_entry (account, kind, amount, note) values (%s, 'debit', 1, %s)",
        (event[0].data["n"] % 100, "x" * 100),
    )


_TABLES = (
    "create table if not exists credit.bench_account (id int primary key, n bigint not null)",
    """create table if not exists credit.bench_entry (
        id bigint generated always as identity primary key, account int not null, kind text not null,
        amount bigint not null, note text not null)""",
    "insert into credit.bench_account select n, 0 from generate_series(0, 99) n on conflict do nothing",
)


def result_of(
    figures: Sequence[BusFigures], *, cost: AppendCost, sequenced_per_s: float, events: int
) -> BenchResult:
    """Return the figures of both buses: ours is the embedded log, the peer Kafka, with one consumer each."""
    one = {found.bus: found for found in figures if found.consumers == 1}
    ours, peer = one["embedded log"], one.get("Kafka")
    return BenchResult(
        name="bus",
        ours=ours.events_per_s,
        peer=peer.events_per_s if peer else None,
        peer_name="Kafka, one node" if peer else "Kafka: not measured",
        unit="events/s through one consumer",
        checks={
            "every event was handled once by each group": all(
                found.handled == found.expected for found in figures
            ),
            "each key kept its order": all(found.in_order for found in figures),
        },
        details={
            "events": events,
            "sequenced_per_s": round(sequenced_per_s),
            "append_cost_share": round(cost.of_an_event, 3),
            "cost_of_one_more_row_share": round(cost.of_a_row, 3),
            "target_events_per_s": "met" if ours.events_per_s >= EVENTS_PER_S_MIN else "missed",
            "target_latency_ms_p99": "met" if ours.latency_ms_p99 <= LATENCY_MS_P99_MAX else "missed",
            "target_append_cost_share": "met" if cost.of_an_event < APPEND_COST_MAX else "missed",
            **{
                f"{found.bus}, {found.consumers} consumer(s): {name}": value
                for found in figures
                for name, value in (
                    ("events per s", round(found.events_per_s)),
                    ("commit to handler, ms p50", round(found.latency_ms_p50, 1)),
                    ("commit to handler, ms p99", round(found.latency_ms_p99, 1)),
                )
            },
        },
    )
