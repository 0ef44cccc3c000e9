"""The role that handles events: every consumer group, or one of them. What a group does stands in its context."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from faregate.credit import consumers as credit
from faregate.credit.handlers.status import StatusSnapshots
from faregate.entrypoints.bootstrap.backlog import count_events, count_lag
from faregate.entrypoints.bootstrap.decisions import decision_service
from faregate.entrypoints.bootstrap.events import event_source, partitions
from faregate.entrypoints.bootstrap.members import CONNECTIONS_MAX as MEMBERS_CONNECTIONS_MAX
from faregate.entrypoints.bootstrap.members import enroller_on, members_on
from faregate.entrypoints.bootstrap.payments import issuer
from faregate.entrypoints.bootstrap.points import payment_earning, points_api, tier_keeper
from faregate.entrypoints.bootstrap.process import Loop, Opened, Process
from faregate.infra.database import Database
from faregate.infra.eventlog import CaughtUp, ConsumerGroup, EventSource
from faregate.infra.http.health import Check
from faregate.infra.settings import Settings
from faregate.members import consumers as members
from faregate.payments import consumers as payments
from faregate.points import consumers as points

URGENT_CONNECTIONS_MAX = 4
"""Connections that are kept for what tells of decisions, however busy the others are."""

Served = Sequence[tuple[ConsumerGroup, Database]]
"""Groups with the database in which each has its effects."""


def group_names() -> Sequence[str]:
    """Return the names of all consumer groups, without opening anything."""
    nothing: Any = None
    known = [
        *credit.consumer_groups(service=nothing, snapshots=nothing),
        *members.consumer_groups(members=nothing, enroller=nothing),
        *payments.consumer_groups(issuer=nothing),
        *points.consumer_groups(points=nothing, earning=nothing, tiers=nothing),
    ]
    return [group.name for group in known]


async def consumers(process: Process, *, only: str | None = None) -> Opened:
    """Open the members of the consumer groups, or of one alone; a group that is far behind must catch up first."""
    settings, database = process.site.settings, await process.database("credit")
    source = await process.once(_source)
    contexts = [only.partition(".")[0]] if only else list(GROUPS)
    known = [served for context in contexts for served in await GROUPS[context](process)]
    groups = [(group, own) for group, own in known if only in (None, group.name)]
    names, most = [group.name for group, _ in groups], partitions(settings)
    count_lag(process.metrics, database, groups=names, members_max=most)
    count_events(process.metrics, database)
    return Opened(
        loops={group.name: _member(group, source, own) for group, own in groups},
        checks={f"lag.{group.name}": _caught_up(group, own, settings) for group, own in groups},
    )


def _member(group: ConsumerGroup, source: EventSource, database: Database) -> Loop:
    member = source.subscribe(database=database, group=group.name, types=group.types, handler=group.handler)
    return member.run


def _caught_up(group: ConsumerGroup, database: Database, settings: Settings) -> Check:
    return CaughtUp(database=database, group=group.name, lag_s_max=settings.ready_lag_s_max).check


async def _of_credit(process: Process) -> Served:
    database, urgent = await process.database("credit"), await process.once(_urgent_database)
    service, snapshots = await process.once(decision_service), await process.once(_snapshots)
    groups = credit.consumer_groups(service=service, snapshots=snapshots)
    return [(group, urgent if group.is_urgent else database) for group in groups]


async def _of_members(process: Process) -> Served:
    database = await process.database("members", connections_max=MEMBERS_CONNECTIONS_MAX)
    settings = process.site.settings
    enroller = enroller_on(settings, applications=await process.database("credit"))
    groups = members.consumer_groups(members=members_on(database, settings), enroller=enroller)
    return [(group, database) for group in groups]


async def _of_payments(process: Process) -> Served:
    database = await process.database("payments")
    groups = payments.consumer_groups(issuer=await process.once(issuer))
    return [(group, database) for group in groups]


async def _of_points(process: Process) -> Served:
    database = await process.database("points")
    api = await points_api(process.stack, process.site, database=database)
    settings = process.site.settings
    groups = points.consumer_groups(
        points=api, earning=await payment_earning(api, settings), tiers=tier_keeper(settings)
    )
    return [(group, database) for group in groups]


GROUPS: Mapping[str, Callable[[Process], Awaitable[Served]]] = {
    "credit": _of_credit,
    "members": _of_members,
    "payments": _of_payments,
    "points": _of_points,
}
"""What opens the groups of each context."""


async def _source(process: Process) -> EventSource:
    return await event_source(process.stack, process.site.settings, await process.database("credit"))


async def _snapshots(process: Process) -> StatusSnapshots:
    return await process.site.snapshots(process.stack)


async def _urgent_database(process: Process) -> Database:
    return await process.site.database(process.stack, "credit", connections_max=URGENT_CONNECTIONS_MAX)
