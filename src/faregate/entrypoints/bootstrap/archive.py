"""The archive of the event log, and what a worker does for it. What reads Parquet is loaded only where it is used."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

from faregate.entrypoints.bootstrap.site import Site
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog import hot, open_segment_ahead
from faregate.infra.periodic import run_periodically
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics

if TYPE_CHECKING:
    from faregate.infra.eventlog.archive import Archive
    from faregate.infra.eventlog.cold import ColdEvents

SEGMENTS_S = 15.0
"""How often a worker looks whether the next segment is to be opened; the sequencer does it if nobody has."""


async def event_archive(stack: AsyncExitStack, site: Site) -> Archive:
    """Open the archive of the event log."""
    from faregate.infra.eventlog.archive import Archive

    database = await site.database(stack, "eventlog", connections_max=2)
    return Archive(database=database, cold=cold_events(site.settings), clock=SystemClock())


def cold_events(settings: Settings) -> ColdEvents:
    """Return the events in cold storage."""
    from faregate.infra.eventlog.cold import ColdEvents

    return ColdEvents((settings.archive_dir or settings.home / "archive").absolute())


def segments_loop(log: Database) -> Callable[[asyncio.Event], Coroutine[Any, Any, None]]:
    """Return the loop that opens segments of the log ahead of the events."""

    async def work() -> None:
        async with log.transaction() as conn:
            await open_segment_ahead(conn)

    return lambda stop: run_periodically(stop, name="segments", every_s=SEGMENTS_S, work=work)


def hot_probe(metrics: Metrics, log: Database) -> Callable[[], Awaitable[None]]:
    """Return a probe that sets the gauges of what is in PostgreSQL of the log."""
    events = metrics.gauge("faregate_eventlog_hot_events", "Events in PostgreSQL, not in cold storage")
    age = metrics.gauge("faregate_eventlog_hot_seconds", "Age of the oldest of them")

    async def probe() -> None:
        async with log.connection() as conn:
            found = await hot(conn)
        events.set(found.rows)
        oldest = found.oldest_at
        age.set(0 if oldest is None else (SystemClock().now() - oldest).total_seconds())

    return probe
