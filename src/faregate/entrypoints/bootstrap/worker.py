"""A worker process: which role opens what. Names and purposes stand in `entrypoints/processes.py`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial

from faregate.entrypoints.bootstrap.audit import audit
from faregate.entrypoints.bootstrap.consumers import consumers, group_names
from faregate.entrypoints.bootstrap.features import features
from faregate.entrypoints.bootstrap.gateway import providers
from faregate.entrypoints.bootstrap.housekeeping import housekeeping
from faregate.entrypoints.bootstrap.payments import payments
from faregate.entrypoints.bootstrap.points import points
from faregate.entrypoints.bootstrap.process import Loop, Opened, Process
from faregate.entrypoints.bootstrap.runs import runs
from faregate.entrypoints.bootstrap.sequencer import relay, sequencer
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.travel import partner_pools
from faregate.entrypoints.bootstrap.webhooks import deliveries
from faregate.entrypoints.processes import require_known
from faregate.infra.database import Database
from faregate.infra.http.health import Check
from faregate.infra.telemetry.metrics import Metrics
from faregate.kernel.errors import InvalidError

Open = Callable[[Process], Awaitable[Opened]]

OPENS: Mapping[str, Open] = {
    "sequencer": sequencer,
    "relay": relay,
    "consumers": consumers,
    "runs": runs,
    "providers": providers,
    "partners": partner_pools,
    "audit": audit,
    "webhooks": deliveries,
    "points": points,
    "payments": payments,
    "features": features,
    "housekeeping": housekeeping,
}


class NothingToDo(InvalidError):
    """A role was asked for by name that has nothing to do with these settings."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """The loops of a worker process by name, what must hold for it to be ready, its metrics, and its pools by part."""

    loops: Mapping[str, Loop]
    checks: Mapping[str, Check]
    metrics: Metrics
    databases: Mapping[str, Database]


def opening(roles: Sequence[str] = ()) -> Mapping[str, Open]:
    """Return what opens each of these roles, all if none is named. Raises UnknownPart."""
    known: dict[str, Open] = {**OPENS}
    known |= {f"consumers.{group}": partial(consumers, only=group) for group in group_names()}
    require_known(roles, list(known), kind="role")
    return {role: known[role] for role in roles or OPENS}


async def worker(stack: AsyncExitStack, site: Site, roles: Sequence[str] = ()) -> Worker:
    """Open a worker process with these roles, or with all; roles that share a process share its connections."""
    opens = opening(roles)
    most = site.settings.database_connections_max * min(2, len(opens))
    process = Process(stack, site, connections_max=most)
    opened = {role: await open_role(process) for role, open_role in opens.items()}
    idle = [name for name in roles if not opened[name].loops]
    if idle:
        raise NothingToDo(f"{', '.join(idle)}: there is nothing to do with these settings")
    loops: dict[str, Loop] = {}
    checks = process.checks
    for role in opened.values():
        loops.update(role.loops)
        checks.update(role.checks)
        if len(opened) == 1:
            checks.update(role.checks_alone)
    return Worker(loops=loops, checks=checks, metrics=process.metrics, databases=process.databases)
