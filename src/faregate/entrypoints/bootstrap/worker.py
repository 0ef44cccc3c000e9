"""The worker process: sequencer, consumers, provider pools, callback settler and workflow engine."""

from __future__ import annotations

import asyncio
import os
import random
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import uuid4

from faregate.credit.consumers import consumer_groups
from faregate.credit.handlers.audit import note_anchor
from faregate.credit.handlers.checks import GatewayHooks
from faregate.credit.handlers.decide import DecisionService, decide_overdue, publish_first_ruleset
from faregate.credit.handlers.following import adopt_strays
from faregate.credit.handlers.sealing import Sealer
from faregate.credit.store.artefacts import load_check_plans, load_scorecard
from faregate.credit.store.audit.anchors import ANCHOR_FILE
from faregate.credit.workflows import application_workflow
from faregate.entrypoints.bootstrap.archive import segments_loop
from faregate.entrypoints.bootstrap.gateway import gateway_control
from faregate.entrypoints.bootstrap.providers import adapters, gateway_hooks, policies, provider_session
from faregate.entrypoints.bootstrap.site import Site, database_check, tools
from faregate.entrypoints.bootstrap.webhooks import webhook_loops
from faregate.gateway.callbacks import CallbackSettler, SettlerOptions
from faregate.gateway.contracts import Adapter
from faregate.gateway.control import Control
from faregate.gateway.policy import Policies
from faregate.gateway.poller import Intervals
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog import Listener, PostgresEventSource, Sequencer
from faregate.infra.eventlog.admin import INBOX_RETENTION_DAYS, prune_inbox
from faregate.infra.http.health import Check
from faregate.infra.http.idempotency_store import prune_keys
from faregate.infra.loops import LoopKeeper
from faregate.infra.periodic import run_periodically
from faregate.infra.workflow.dbos_engine import DbosEngine
from faregate.kernel.errors import UnavailableError
from faregate.rules.api import Rulesets

HOUSEKEEPING_S = 3600.0
OVERDUE_S = 10.0
ANCHOR_S = 300.0
"""How often the end of the audit chain is noted: what is older cannot be rewritten unnoticed."""
GATHER_S = 0.03
"""How long each hop of an application gathers work under load: a batch costs little more than one item does.

Six hops of this are a fifth of a second, against the ten seconds that a decision may take.
"""
URGENT_CONNECTIONS_MAX = 4
"""Connections that are kept for what tells of decisions, however busy the others are."""
_INTERVALS = Intervals(busy_s=GATHER_S, idle_s=0.05)

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the event is set."""


class EngineNotLaunched(UnavailableError):
    """The workflow engine lost its stay and could not begin a new one yet: it executes no run."""


@dataclass(frozen=True, kw_only=True)
class Worker:
    """The loops of a worker process by name, the workflow engine beside them, its database, and the event log's."""

    loops: Mapping[str, Loop]
    engine: DbosEngine
    database: Database
    log: Database


async def worker(stack: AsyncExitStack, site: Site) -> Worker:
    """Open a worker process: sequencer, consumers, provider pools, callback settler and workflow engine."""
    settings, clock = site.settings, SystemClock()
    database = await site.database(stack, "credit", connections_max=2 * settings.database_connections_max)
    log = await site.database(stack, "eventlog", connections_max=6)
    known = adapters(settings, await provider_session(stack))
    control = await gateway_control(stack, site, database=database)
    rules = policies(known, control.book)
    hooks = gateway_hooks(settings, rules)
    service = DecisionService(
        tools=tools(),
        hooks=hooks,
        rulesets=Rulesets(),
        scorecard=load_scorecard(settings.scorecard),
        plans=load_check_plans(settings.check_plans),
    )
    await publish_first_ruleset(database, now=clock.now())
    engine = DbosEngine(database_url=site.database_url, clock=clock)
    engine.register(
        application_workflow(
            service=service,
            database=database,
            working_max=settings.working_steps_max,
            in_flight_max=settings.applications_in_flight_max,
        )
    )
    loops = {
        "housekeeping": _housekeeping(database, log),
        "overdue": _overdue(database, service),
        **_audit_loops(site, database),
        **await _event_loops(stack, site, database, log, service),
        **await webhook_loops(stack, site),
        **_gateway_loops(database, known, hooks, rules, control),
    }
    return Worker(loops=loops, engine=engine, database=database, log=log)


def readiness(opened: Worker, keeper: LoopKeeper) -> Mapping[str, Check]:
    """Return what a worker needs to work: its database, its engine and every one of its loops."""

    async def engine() -> None:
        if not opened.engine.is_launched:
            raise EngineNotLaunched("the workflow engine is not launched")

    return {"database": database_check(opened.database), "engine": engine, "loops": keeper.check}


def _housekeeping(database: Database, log: Database) -> Loop:
    """Return the loop that forgets what its published retention has ended for."""

    async def prune() -> None:
        now = SystemClock().now()
        await prune_inbox(log, before=now - timedelta(days=INBOX_RETENTION_DAYS))
        async with database.transaction() as conn:
            await prune_keys(conn, now=now)

    return lambda stop: run_periodically(stop, name="housekeeping", every_s=HOUSEKEEPING_S, work=prune)


def _overdue(database: Database, service: DecisionService) -> Loop:
    """Return the loop that decides what no run decided, and queues for review what stands in no queue."""

    async def sweep() -> None:
        await decide_overdue(database, service=service)
        await adopt_strays(database, tools=service.tools)

    return lambda stop: run_periodically(stop, name="overdue", every_s=OVERDUE_S, work=sweep)


def _audit_loops(site: Site, database: Database) -> dict[str, Loop]:
    """Return the loops that seal what was recorded, and note the end of the chain outside of the database."""
    path, clock = site.settings.home / ANCHOR_FILE, SystemClock()

    async def anchor() -> None:
        await note_anchor(database, path=path, clock=clock)

    return {
        "sealer": Sealer(database=database, clock=clock, holder=_instance()).run,
        "anchors": lambda stop: run_periodically(stop, name="anchors", every_s=ANCHOR_S, work=anchor),
    }


def _instance() -> str:
    """Name this holder of leases uniquely among all."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


async def _event_loops(
    stack: AsyncExitStack, site: Site, database: Database, log: Database, service: DecisionService
) -> dict[str, Loop]:
    sequencer = Sequencer(database=log, holder=_instance(), pause_s=GATHER_S)
    listener = await stack.enter_async_context(Listener(database))
    source = PostgresEventSource(listener=listener)
    groups = consumer_groups(service=service, snapshots=await site.snapshots(stack))
    urgent = await site.database(stack, "credit", connections_max=URGENT_CONNECTIONS_MAX)
    consumers = {
        group.name: source.subscribe(
            database=urgent if group.is_urgent else database,
            group=group.name,
            types=group.types,
            handler=group.handler,
        ).run
        for group in groups
    }
    return {"sequencer": sequencer.run, "segments": segments_loop(log), **consumers}


def _gateway_loops(
    database: Database, known: Mapping[str, Adapter], hooks: GatewayHooks, rules: Policies, control: Control
) -> dict[str, Loop]:
    recorder = Recorder(database=database, hooks=hooks, pause_s=GATHER_S)
    pools = {
        f"pool.{name}": ProviderPool(
            adapter=adapter,
            database=database,
            hooks=hooks,
            policies=rules,
            recorder=recorder,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            chance=random.random,
            new_token=uuid4,
            gate=control.gate(name),
            options=PoolOptions(intervals=_INTERVALS),
        ).run
        for name, adapter in known.items()
    }
    settler = CallbackSettler(
        database=database,
        hooks=hooks,
        policies=rules,
        chance=random.random,
        options=SettlerOptions(intervals=_INTERVALS),
    )
    beside = {"gateway.policies": control.run_policies, "gateway.others": control.run_others}
    return {**pools, **beside, "callbacks": settler.run}
