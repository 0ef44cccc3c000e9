"""The backlog of a site: what its workers have still to do, read from the parts that keep it, and as their metrics."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import AsyncExitStack

from faregate.entrypoints.bootstrap.site import Site
from faregate.gateway.store.backlog import due_intents
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import lag, unsequenced
from faregate.infra.scaling import Backlog, members_wanted
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.workflow import waiting_for_a_worker

Count = Callable[[Connection], Awaitable[int]]
HeldBack = Callable[[], Awaitable[Collection[str]]]


async def backlog_reader(
    stack: AsyncExitStack, site: Site, *, held_back: HeldBack
) -> Callable[[], Awaitable[Backlog]]:
    """Return what reads the backlog, on one connection to each part; `held_back` names providers left alone."""
    log, workflow, gateway = [
        await site.database(stack, part, connections_max=1) for part in ("eventlog", "workflow", "gateway")
    ]

    async def read() -> Backlog:
        async with log.connection() as conn:
            events = await _unhandled_events(conn)
        async with workflow.connection() as conn:
            runs = await waiting_for_a_worker(conn)
        async with gateway.connection() as conn:
            intents = await due_intents(conn, held_back=await held_back())
        return Backlog(events=events, intents=intents, runs=runs)

    return read


def count_events(metrics: Metrics, database: Database) -> None:
    """Show how many events wait for consumers, as any part sees it."""
    _count(metrics, database, kind="events", count=_unhandled_events)


def count_runs(metrics: Metrics, workflow: Database) -> None:
    """Show how many runs wait for a worker."""
    _count(metrics, workflow, kind="runs", count=waiting_for_a_worker)


def count_intents(metrics: Metrics, gateway: Database, *, held_back: HeldBack) -> None:
    """Show how many calls to providers are due and could be made."""

    async def count(conn: Connection) -> int:
        return await due_intents(conn, held_back=await held_back())

    _count(metrics, gateway, kind="intents", count=count)


def count_lag(metrics: Metrics, database: Database, *, groups: Sequence[str], members_max: int) -> None:
    """Show how far these consumer groups are behind, and how many members that asks for."""
    events = metrics.gauge("faregate_consumer_lag_events", "Events still to handle", labels=("group",))
    seconds = metrics.gauge("faregate_consumer_lag_seconds", "Age of the oldest of them", labels=("group",))
    wanted = metrics.gauge(
        "faregate_consumer_members_wanted", "Processes that the lag asks for", labels=("group",)
    )

    async def probe() -> None:
        async with database.connection() as conn:
            found = await lag(conn, groups=groups)
        for group in found:
            events.labels(group.group).set(group.events)
            seconds.labels(group.group).set(group.seconds)
            wanted.labels(group.group).set(members_wanted(group.events, members_max=members_max))

    metrics.add_probe(probe)


def _count(metrics: Metrics, database: Database, *, kind: str, count: Count) -> None:
    """Show one kind of backlog, over all processes, for an autoscaler that is not ours."""
    items = metrics.gauge(
        "faregate_backlog_items", "What waits for a worker, over all processes", labels=("kind",)
    )

    async def probe() -> None:
        async with database.connection() as conn:
            items.labels(kind).set(await count(conn))

    metrics.add_probe(probe)


async def _unhandled_events(conn: Connection) -> int:
    return sum(group.events for group in await lag(conn)) + (await unsequenced(conn)).events
