"""An operator's own view of a system that runs on this machine: its tables, its sandbox, an API key."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import aiohttp

from faregate.credit.api import CreditApi
from faregate.entrypoints.bootstrap.backlog import backlog_reader
from faregate.entrypoints.bootstrap.credit import credit_api
from faregate.entrypoints.bootstrap.gateway import gateway_desk
from faregate.entrypoints.bootstrap.site import Site
from faregate.infra.clock import SystemClock
from faregate.infra.http.api_keys import create_api_key
from faregate.infra.http.client_limits import READ, SUBMIT, set_client_limit
from faregate.infra.local_system import LocalSystem, workers_scaled
from faregate.infra.rate import Rate
from faregate.infra.scaling import ScalingPolicy
from faregate.infra.settings import Settings
from faregate.sandbox.faults import FaultPlan

UNLIMITED = Rate(per_s=1e6, burst=10**9)
"""What a generator of load may do: the system is measured, not the limit of its client."""


@asynccontextmanager
async def connected(system: LocalSystem) -> AsyncIterator[tuple[Site, CreditApi, aiohttp.ClientSession]]:
    """Open the tables of a running system and an HTTP session."""
    site = site_of_system(system)
    async with AsyncExitStack() as stack:
        connector = aiohttp.TCPConnector(limit=0)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
        yield site, await credit_api(stack, site), session


def site_of_system(system: LocalSystem) -> Site:
    """Return the servers and settings of a running system."""
    settings = Settings(home=Path(system.environment["FAREGATE_HOME"]))
    return Site(settings=settings, database_url=system.database_url, valkey_url=system.valkey_url)


@asynccontextmanager
async def scaled(
    system: LocalSystem, policy: ScalingPolicy, *, say: Callable[[str], None]
) -> AsyncIterator[None]:
    """Let the system's workers come and go with its backlog; nothing is watched where their number is fixed."""
    if policy.workers_min == policy.workers_max:
        yield
        return
    async with AsyncExitStack() as stack:
        site = site_of_system(system)
        desk = await gateway_desk(stack, site)
        read = await backlog_reader(stack, site, held_back=desk.held_back)
        await stack.enter_async_context(workers_scaled(system, policy=policy, read_backlog=read, say=say))
        yield


async def new_token(
    site: Site,
    *,
    client_id: str,
    submits: Rate = UNLIMITED,
    scopes: Sequence[str] = ("credit:submit", "credit:read"),
) -> str:
    """Make an API key that may read as often as it likes, and submit at this rate; return its token."""
    async with AsyncExitStack() as stack:
        database = await site.database(stack, "access", connections_max=1)
        now = SystemClock().now()
        async with database.transaction() as conn:
            key = await create_api_key(
                conn,
                client_id=client_id,
                scopes=list(scopes),
                now=now,
                note="made for this run",
            )
            for policy, rate in ((SUBMIT, submits), (READ, UNLIMITED)):
                await set_client_limit(conn, client_id=client_id, policy=policy, rate=rate, now=now)
    return key.token


async def set_faults(session: aiohttp.ClientSession, system: LocalSystem, plan: FaultPlan) -> None:
    """Tell the sandbox what to do wrong from now on."""
    async with session.put(f"{system.sandbox_url}/admin/faults", data=plan.model_dump_json()) as answer:
        answer.raise_for_status()
