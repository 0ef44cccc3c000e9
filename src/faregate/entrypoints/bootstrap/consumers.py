"""The role that handles events: every consumer group, or one of them. What a group does stands in its context."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faregate.credit.consumers import ConsumerGroup, consumer_groups
from faregate.credit.handlers.status import StatusSnapshots
from faregate.entrypoints.bootstrap.backlog import count_events, count_lag
from faregate.entrypoints.bootstrap.decisions import decision_service
from faregate.entrypoints.bootstrap.events import event_source, partitions
from faregate.entrypoints.bootstrap.process import Loop, Opened, Process
from faregate.infra.database import Database
from faregate.infra.eventlog import CaughtUp, EventSource
from faregate.infra.http.health import Check
from faregate.infra.settings import Settings

URGENT_CONNECTIONS_MAX = 4
"""Connections that are kept for what tells of decisions, however busy the others are."""


def group_names() -> Sequence[str]:
    """Return the names of all consumer groups, without opening anything."""
    nothing: Any = None
    return [group.name for group in consumer_groups(service=nothing, snapshots=nothing)]


async def consumers(process: Process, *, only: str | None = None) -> Opened:
    """Open the members of the consumer groups, or of one alone; a group that is far behind must catch up first."""
    settings, database = process.site.settings, await process.database("credit")
    source, snapshots = await process.once(_source), await process.once(_snapshots)
    known = consumer_groups(service=await process.once(decision_service), snapshots=snapshots)
    groups = [group for group in known if only in (None, group.name)]
    names, most = [group.name for group in groups], partitions(settings)
    count_lag(process.metrics, database, groups=names, members_max=most)
    count_events(process.metrics, database)
    urgent = await process.once(_urgent_database)
    return Opened(
        loops={
            group.name: _member(group, source, urgent if group.is_urgent else database) for group in groups
        },
        checks={f"lag.{group.name}": _caught_up(group, database, settings) for group in groups},
    )


def _member(group: ConsumerGroup, source: EventSource, database: Database) -> Loop:
    member = source.subscribe(database=database, group=group.name, types=group.types, handler=group.handler)
    return member.run


def _caught_up(group: ConsumerGroup, database: Database, settings: Settings) -> Check:
    return CaughtUp(database=database, group=group.name, lag_s_max=settings.ready_lag_s_max).check


async def _source(process: Process) -> EventSource:
    return await event_source(process.stack, process.site.settings, await process.database("credit"))


async def _snapshots(process: Process) -> StatusSnapshots:
    return await process.site.snapshots(process.stack)


async def _urgent_database(process: Process) -> Database:
    return await process.site.database(process.stack, "credit", connections_max=URGENT_CONNECTIONS_MAX)
