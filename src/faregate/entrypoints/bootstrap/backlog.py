"""The backlog of a site: what its workers have still to do, read from the parts that keep it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from faregate.entrypoints.bootstrap.site import Site
from faregate.gateway.store.backlog import due_intents
from faregate.infra.eventlog import lag, unsequenced
from faregate.infra.scaling import Backlog
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.workflow import waiting_for_a_worker


async def backlog_reader(stack: AsyncExitStack, site: Site) -> Callable[[], Awaitable[Backlog]]:
    """Return what reads the backlog, on one connection to each part."""
    log, workflow, gateway = [
        await site.database(stack, part, connections_max=1) for part in ("eventlog", "workflow", "gateway")
    ]

    async def read() -> Backlog:
        async with log.connection() as conn:
            events = sum(group.events for group in await lag(conn)) + (await unsequenced(conn)).events
        async with workflow.connection() as conn:
            runs = await waiting_for_a_worker(conn)
        async with gateway.connection() as conn:
            intents = await due_intents(conn)
        return Backlog(events=events, intents=intents, runs=runs)

    return read


def count_backlog(metrics: Metrics, read: Callable[[], Awaitable[Backlog]]) -> None:
    """Show the backlog in a process's metrics, for an autoscaler that is not ours."""
    items = metrics.gauge(
        "faregate_backlog_items", "What waits for a worker, over all processes", labels=("kind",)
    )

    async def probe() -> None:
        backlog = await read()
        for kind, count in (("events", backlog.events), ("intents", backlog.intents), ("runs", backlog.runs)):
            items.labels(kind).set(count)

    metrics.add_probe(probe)
