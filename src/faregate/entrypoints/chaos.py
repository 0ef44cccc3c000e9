"""Starts a system of its own and runs the fault run of `bench.chaos` on it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from uuid import uuid4

import aiohttp

from faregate.bench.chaos.clients import Readers
from faregate.bench.chaos.injector import Injector
from faregate.bench.chaos.plan import ChaosPlan
from faregate.bench.chaos.run import Chaos, ChaosRun
from faregate.bench.chaos.stranded import undecided
from faregate.bench.chaos.topics import TopicsFound, compare_topics
from faregate.bench.chaos.world import WorldUnderFaults
from faregate.bench.partner import Habits, Operation, Partner, wait_until
from faregate.entrypoints.bootstrap.events import kafka_topics
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.local_client import connected, new_token
from faregate.entrypoints.processes import roles_of
from faregate.infra.eventlog import lag
from faregate.infra.kafka import RELAY_GROUP, KafkaAddress
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.settings import Settings
from faregate.infra.witness import PostgresWitness
from faregate.sandbox.faults import FaultPlan
from faregate.sandbox.people import application
from faregate.sandbox.plans import PLANS

APIS = WORKERS = 2
RELAYED_S_MAX = 60.0
ENVIRONMENT = {"FAREGATE_APPLICATION_DEADLINE_S": "240"}
"""Long enough that it is the recovery which decides the applications, not their deadline."""


async def run_chaos(
    plan: ChaosPlan,
    *,
    home: Path,
    on_event: Callable[[str], None],
    on_progress: Callable[[str], None] = lambda _: None,
    faults: FaultPlan = PLANS["rough"],
) -> ChaosRun:
    """Run everything in `home`, break parts of it as planned, and return what came of it.

    `faults` go wrong all the time; incidents of providers come on top.
    """
    local = Plan(
        home=home,
        temporary=True,
        workers=0 if plan.processes else WORKERS,
        apis=APIS,
        roles=roles_of(kafka=plan.kafka) if plan.processes else (),
        kafka=plan.kafka,
        faults_file=written(faults, home),
        environment=ENVIRONMENT,
    )
    async with local_system(local) as system, connected(system) as (site, credit, session):
        token = await new_token(site, client_id="chaos-partner")
        world = WorldUnderFaults(session=session, url=system.sandbox_url, faults_file=home / "faults.json")
        operations: list[Operation] = []
        partner, readers = _clients(plan, system, session=session, token=token, operations=operations)
        with PostgresWitness(system.database_url) as witness:
            injector = Injector(
                plan,
                supervisor=system.supervisor,
                home=home,
                world=world,
                witness=witness,
                faults=faults,
                on_event=on_event,
            )
            chaos = Chaos(
                plan,
                injector=injector,
                world=world,
                supervisor=system.supervisor,
                credit=credit,
                session=session,
                witness=witness,
                operations=operations,
                calm=PLANS["calm"],
                on_event=on_event,
                on_progress=on_progress,
                read_stranded=partial(undecided, system.database_url),
                read_topics=partial(_topics, site, system) if plan.kafka else None,
            )
            return await chaos.run(partner, readers, sandbox_url=system.sandbox_url)


async def _topics(site: Site, system: LocalSystem) -> TopicsFound:
    """Compare what Kafka holds with the log, once everything was relayed."""
    settings, bootstrap = Settings(), system.environment["FAREGATE_KAFKA_BOOTSTRAP"]
    address = KafkaAddress(bootstrap=bootstrap)
    async with AsyncExitStack() as stack:
        log = await site.database(stack, "eventlog")

        async def is_relayed() -> bool:
            async with log.connection() as conn:
                return not any(group.events for group in await lag(conn) if group.group == RELAY_GROUP)

        await wait_until(is_relayed, timeout_s=RELAYED_S_MAX)
        async with log.connection() as conn:
            rows = await (await conn.execute("select id from eventlog.event")).fetchall()
    logged = [row["id"] for row in rows]
    return await asyncio.to_thread(compare_topics, address, kafka_topics(settings), logged=logged)


def _clients(
    plan: ChaosPlan,
    system: LocalSystem,
    *,
    session: aiohttp.ClientSession,
    token: str,
    operations: list[Operation],
) -> tuple[Partner, Readers]:
    """Those who submit, evenly over the run, and those who read; both note what became of their operations."""
    partner = Partner(
        session=session,
        urls=system.api_urls,
        token=token,
        body_of=application,
        run=uuid4().hex[:8],
        habits=Habits(rate_per_s=plan.applications / plan.seconds, seed=plan.seed),
        on_operation=operations.append,
    )
    readers = Readers(
        session=session,
        urls=system.api_urls,
        token=token,
        on_operation=operations.append,
        applications=partner.known,
        seed=plan.seed,
    )
    return partner, readers


def written(faults: FaultPlan, home: Path) -> Path:
    """Write the plan to a file, which a sandbox that was killed reads again."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "faults.json"
    file.write_text(faults.model_dump_json(), encoding="utf-8")
    return file
