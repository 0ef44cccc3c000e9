"""The role that keeps the features of payments up to date in Valkey, and what fills them again from the event log."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from math import isfinite

from faregate.entrypoints.bootstrap.archive import cold_events
from faregate.entrypoints.bootstrap.backlog import count_lag
from faregate.entrypoints.bootstrap.events import event_source, partitions
from faregate.entrypoints.bootstrap.process import Opened, Process
from faregate.entrypoints.bootstrap.site import Site
from faregate.features.keeping import DISORDER, HORIZON, LAG_S_MAX, FeatureKeeper, WarmUp, live_features
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog import history, place_before
from faregate.infra.periodic import run_periodically
from faregate.infra.settings import Settings
from faregate.kernel.event import Event

LOOK_S = 0.5
"""How often it is looked whether Valkey was started again."""
TIMEOUT_MS = 5_000
LAG_CHECK = "lag.features.payments"
"""How `/readyz` names the gate, whichever version of the set it is about."""


async def features(process: Process) -> Opened:
    """Open the consumer of payments, the loop that fills Valkey again, and the gate before both."""
    settings, log = process.site.settings, await process.database("eventlog")
    keeper = await feature_keeper(process.stack, process.site)
    source = await event_source(process.stack, settings, log)
    group = keeper.consumer_group(clock=SystemClock())
    count_lag(process.metrics, log, groups=[group.name], members_max=partitions(settings))
    member = source.subscribe(database=log, group=group.name, types=group.types, handler=group.handler)

    async def fill() -> None:
        await keeper.fill(recent_events(log, settings, now=SystemClock().now()))

    return Opened(
        loops={
            group.name: member.run,
            "features.fill": lambda stop: run_periodically(
                stop, name="features.fill", every_s=LOOK_S, work=fill
            ),
        },
        checks_alone={LAG_CHECK: WarmUp(keeper, log, lag_s_max=_lag_s_max(settings)).check},
    )


def _lag_s_max(settings: Settings) -> float:
    """Return a second, except where lag is to keep nobody from being ready."""
    return LAG_S_MAX if isfinite(settings.ready_lag_s_max) else settings.ready_lag_s_max


async def rebuild_features(stack: AsyncExitStack, site: Site, *, say: Callable[[int], None]) -> int:
    """Forget the features of payments and fill them again from the log; return how many events had a part."""
    log = await site.database(stack, "eventlog", connections_max=2)
    keeper = await feature_keeper(stack, site)
    events = recent_events(log, site.settings, now=SystemClock().now())
    return await keeper.rebuild(events, say=say)


async def feature_keeper(stack: AsyncExitStack, site: Site) -> FeatureKeeper:
    """Open the features of payments in Valkey."""
    cache = await Cache.open(site.valkey_url, request_timeout_ms=TIMEOUT_MS)
    stack.push_async_callback(cache.close)
    return FeatureKeeper(live_features(cache), cache)


async def recent_events(log: Database, settings: Settings, *, now: datetime) -> AsyncIterator[Event]:
    """Yield the events of the log that a window may still reach."""
    after = await place_before(log, now - HORIZON - DISORDER)
    async for event in history(log, cold_events(settings), after=after):
        if event.time >= now - HORIZON - DISORDER:
            yield event
