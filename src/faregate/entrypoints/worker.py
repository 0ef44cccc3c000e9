"""A worker process: works until SIGTERM or SIGINT, then finishes the batches at hand and gives the rest back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import structlog
import uvloop

import faregate
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.travel_needs import parts_apart
from faregate.entrypoints.bootstrap.worker import Worker, opening, worker
from faregate.entrypoints.processes import ROLES, acts_as
from faregate.entrypoints.servers import kept_running, observe, site_of
from faregate.infra.http.app import create_app
from faregate.infra.http.health import Check
from faregate.infra.http.server import listen, serving
from faregate.infra.lifetime import freeze_start_up, stop_event
from faregate.infra.logins import require_roles
from faregate.infra.loops import LoopKeeper
from faregate.infra.settings import Settings

_log = structlog.get_logger(__name__)


def run_worker(settings: Settings, roles: Sequence[str] = ()) -> None:
    """Work in these roles, in all if none is named, until a signal. Raises UnknownPart."""
    opening(roles)
    observe(settings, "-".join(["faregate-worker", *roles]))
    with site_of(settings) as site, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        require_roles(site.database_url, acts_as(roles, ROLES, apart=parts_apart(site.settings)))
        runner.run(_work(site, roles))


async def _work(site: Site, roles: Sequence[str]) -> None:
    stop = stop_event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(kept_running(site.settings))
        opened = await worker(stack, site, roles)
        keeper = LoopKeeper(opened.loops)
        await stack.enter_async_context(_health(site, opened, keeper))
        freeze_start_up()
        _log.info("worker_ready", roles=list(roles) or "all", loops=sorted(opened.loops))
        await keeper.run(stop)


def readiness(opened: Worker, keeper: LoopKeeper) -> Mapping[str, Check]:
    """Return what a worker needs to work: what its roles say, and every one of its loops."""
    return {**opened.checks, "loops": keeper.check}


@asynccontextmanager
async def _health(site: Site, opened: Worker, keeper: LoopKeeper) -> AsyncIterator[str]:
    """Serve health and metrics of a worker beside its work."""
    app = create_app(
        title="faregate worker",
        version=faregate.__version__,
        routers=[],
        checks=readiness(opened, keeper),
        metrics=opened.metrics,
    )
    listener = listen(host=site.settings.api_host, port=site.settings.worker_port)
    async with serving(app, listener=listener) as url:
        yield url
