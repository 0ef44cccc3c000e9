"""An API process: serves until SIGTERM or SIGINT, then lets requests in flight end."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import structlog
import uvloop

from faregate.entrypoints.bootstrap.api import api_app
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.travel_needs import parts_apart
from faregate.entrypoints.processes import CONTEXTS, acts_as, require_known
from faregate.entrypoints.servers import kept_running, observe, site_of
from faregate.infra.http.server import listen, serving
from faregate.infra.lifetime import freeze_start_up, stop_event
from faregate.infra.logins import require_roles
from faregate.infra.settings import Settings

_log = structlog.get_logger(__name__)


def run_api(settings: Settings, contexts: Sequence[str] = ()) -> None:
    """Serve these contexts, all if none is named, until a signal. Raises UnknownPart."""
    require_known(contexts, list(CONTEXTS), kind="context")
    observe(settings, "-".join(["faregate-api", *contexts]))
    with site_of(settings) as site, asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        require_roles(site.database_url, acts_as(contexts, CONTEXTS, apart=parts_apart(site.settings)))
        runner.run(_serve(site, contexts))


async def _serve(site: Site, contexts: Sequence[str]) -> None:
    stop = stop_event()
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(kept_running(site.settings))
        app = await api_app(stack, site, contexts)
        listener = listen(host=site.settings.api_host, port=site.settings.api_port)
        url = await stack.enter_async_context(serving(app, listener=listener))
        freeze_start_up()
        _log.info("api_ready", url=url, contexts=list(contexts) or "all")
        await stop.wait()
