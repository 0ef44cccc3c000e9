"""The worker process: works until SIGTERM or SIGINT, then finishes the batches at hand and gives the rest back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import uvloop

import faregate
from faregate.credit.handlers.audit import chain_status
from faregate.credit.store.audit.notices import count_open
from faregate.entrypoints.bootstrap.archive import hot_probe
from faregate.entrypoints.bootstrap.backlog import backlog_reader, count_backlog
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.webhooks import webhooks_probe
from faregate.entrypoints.bootstrap.worker import Worker, readiness, worker
from faregate.entrypoints.servers import kept_running, observe, site_of
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog import lag, unsequenced
from faregate.infra.http.app import create_app
from faregate.infra.http.server import listen, serving
from faregate.infra.lifetime import stop_event
from faregate.infra.loops import LoopKeeper
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.workflow.prepare import prepare

_log = structlog.get_logger(__name__)


def run_worker(settings: Settings) -> None:
    """Work until a signal."""
    observe(settings, "faregate-worker")
    with site_of(settings) as site, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        prepare(site.database_url)
        runner.run(_work(site))


async def _work(site: Site) -> None:
    stop = stop_event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(kept_running(site.settings))
        opened = await worker(stack, site)
        await opened.engine.open()
        stack.push_async_callback(opened.engine.close)
        keeper = LoopKeeper(opened.loops)
        metrics = worker_metrics(opened)
        count_backlog(metrics, await backlog_reader(stack, site))
        metrics.add_probe(await webhooks_probe(stack, site))
        metrics.add_probe(hot_probe(metrics, opened.log))
        await stack.enter_async_context(_health(site, opened, keeper, metrics))
        _log.info("worker_ready", loops=sorted(opened.loops))
        await keeper.run(stop)


def worker_metrics(opened: Worker) -> Metrics:
    """Return metrics that tell how far the consumer groups and the audit chain are behind."""
    metrics = Metrics()
    events = metrics.gauge("faregate_eventlog_lag_events", "Events still to handle", labels=("group",))
    seconds = metrics.gauge("faregate_eventlog_lag_seconds", "Age of the oldest of them", labels=("group",))

    waiting = metrics.gauge(
        "faregate_eventlog_unsequenced_events", "Committed events that no group can read yet"
    )
    age = metrics.gauge("faregate_eventlog_unsequenced_seconds", "Age of the oldest of them")

    async def probe() -> None:
        async with opened.log.connection() as conn:
            for group in await lag(conn):
                events.labels(group.group).set(group.events)
                seconds.labels(group.group).set(group.seconds)
            behind = await unsequenced(conn)
        waiting.set(behind.events)
        age.set(behind.seconds)

    metrics.add_probe(probe)
    _count_unsealed(metrics, opened.database)
    _count_notices(metrics, opened.database)
    return metrics


def _count_unsealed(metrics: Metrics, database: Database) -> None:
    """Add gauges that tell how far the audit chain is behind what was recorded."""
    links = metrics.gauge("faregate_audit_links", "Rows that the audit chain seals")
    rows = metrics.gauge("faregate_audit_unsealed_rows", "Rows that wait to be sealed")
    seconds = metrics.gauge("faregate_audit_unsealed_seconds", "Age of the oldest of them")

    async def probe() -> None:
        status = await chain_status(database)
        links.set(status.links)
        rows.set(status.unsealed)
        seconds.set(status.unsealed_s)

    metrics.add_probe(probe)


def _count_notices(metrics: Metrics, database: Database) -> None:
    """Add gauges that tell how many notices of adverse action are still to be sent."""
    waiting = metrics.gauge("faregate_notices_open", "Notices of adverse action that were not sent yet")
    late = metrics.gauge("faregate_notices_overdue", "Those of them whose 30 days have passed")

    async def probe() -> None:
        async with database.connection() as conn:
            total, overdue = await count_open(conn, now=SystemClock().now())
        waiting.set(total)
        late.set(overdue)

    metrics.add_probe(probe)


@asynccontextmanager
async def _health(site: Site, opened: Worker, keeper: LoopKeeper, metrics: Metrics) -> AsyncIterator[str]:
    """Serve health and metrics of a worker beside its work."""
    app = create_app(
        title="faregate worker",
        version=faregate.__version__,
        routers=[],
        checks=readiness(opened, keeper),
        metrics=metrics,
    )
    listener = listen(host=site.settings.api_host, port=site.settings.worker_port)
    async with serving(app, listener=listener) as url:
        yield url
