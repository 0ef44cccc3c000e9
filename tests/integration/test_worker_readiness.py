"""What a worker answers about its readiness, each check by name, and its metrics: how far behind, how many wanted."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack

import pytest
from pydantic import SecretStr

from faregate.entrypoints.bootstrap.backlog import count_lag
from faregate.entrypoints.bootstrap.runs import EngineNotLaunched, require_launched
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.worker import worker
from faregate.entrypoints.worker import readiness
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection
from faregate.infra.eventlog import CaughtUp, ConsumersBehind
from faregate.infra.http.health import readiness_of
from faregate.infra.loops import LoopKeeper
from faregate.infra.scaling import members_wanted
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.workflow.dbos_engine import DbosEngine
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.eventlog import event, running, running_log
from tests.sandbox import until


async def test_a_worker_whose_engine_is_not_launched_is_not_ready(database_url: str) -> None:
    with pytest.raises(EngineNotLaunched):
        await require_launched(DbosEngine(database_url=database_url, clock=SystemClock()))


async def test_a_whole_worker_says_what_it_needs_by_name(settings: Settings) -> None:
    assert isinstance(settings.database_url, SecretStr)
    assert isinstance(settings.valkey_url, SecretStr)
    site = Site(
        settings=settings,
        database_url=settings.database_url.get_secret_value(),
        valkey_url=settings.valkey_url.get_secret_value(),
    )
    async with AsyncExitStack() as stack:
        opened = await worker(stack, site)
        found = await readiness_of(readiness(opened, LoopKeeper(opened.loops)))
    parts = (
        "credit",
        "eventlog",
        "gateway",
        "members",
        "payments",
        "points",
        "travel",
        "webhooks",
        "workflow",
    )
    databases = [f"database.{part}" for part in parts]
    assert sorted(name for name, said in found.items() if said == "ok") == [*databases, "engine", "loops"]
    behind = {f"lag.credit.{name}" for name in ("runs", "signals", "snapshots", "webhooks")}
    behind |= {"lag.members.enrolment", "lag.members.tiers", "lag.points.accounts"}
    behind |= {"lag.points.payments", "lag.points.tiers", "lag.payments.cards"}
    unready = {name: said for name, said in found.items() if said != "ok"}
    assert unready == dict.fromkeys(behind, "ConsumersBehind: no member has joined yet")


async def test_the_role_of_features_alone_is_not_ready_before_they_are_filled(settings: Settings) -> None:
    assert isinstance(settings.database_url, SecretStr)
    assert isinstance(settings.valkey_url, SecretStr)
    site = Site(
        settings=settings,
        database_url=settings.database_url.get_secret_value(),
        valkey_url=settings.valkey_url.get_secret_value(),
    )
    async with AsyncExitStack() as stack:
        opened = await worker(stack, site, ["features"])
        found = await readiness_of(readiness(opened, LoopKeeper(opened.loops)))
    # Cold, unless another test has filled the same Valkey; behind in any case.
    assert found["lag.features.payments"].partition(":")[0] in ("FeaturesCold", "ConsumersBehind")


@pytest.mark.requirement("P2")
async def test_a_consumer_is_not_ready_until_it_has_caught_up_once(open_database: OpenDatabase) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    may_work = asyncio.Event()

    async def handle_when_told(conn: Connection, events: Sequence[Event]) -> None:
        await may_work.wait()

    ready = CaughtUp(database=credit, group="readers", lag_s_max=1e-6)
    with pytest.raises(ConsumersBehind, match="no member has joined yet"):
        await ready.check()
    async with (
        running_log(credit=credit, admin=admin) as log,
        running(log.member(handler=handle_when_told)),
    ):
        await log.append(event())
        await log.until_sequenced(1)
        await until(lambda: said(ready), lambda text: "s behind, more than 1e-06" in text)
        may_work.set()
        await until(lambda: said(ready), lambda text: text == "ok")
        may_work.clear()
        await log.append(event(n=1))
        await log.until_sequenced(2)
        assert await said(ready) == "ok"  # what comes later is load, for the autoscaler
        may_work.set()


async def said(ready: CaughtUp) -> str:
    return (await readiness_of({"lag": ready.check}))["lag"]


@pytest.mark.requirement("P2")
async def test_metrics_tell_the_lag_of_each_consumer_group_and_how_many_members_that_asks_for(
    open_database: OpenDatabase,
) -> None:
    credit, admin, metrics = await open_database("credit"), await open_database("eventlog"), Metrics()
    may_work = asyncio.Event()

    async def handle_when_told(conn: Connection, events: Sequence[Event]) -> None:
        await may_work.wait()

    async def rendered() -> str:
        return (await metrics.render()).decode()

    count_lag(metrics, credit, groups=["readers"], members_max=16)
    async with (
        running_log(credit=credit, admin=admin) as log,
        running(log.member(handler=handle_when_told)),
    ):
        await log.append(*(event(f"app_{n}") for n in range(401)))
        text = await until(rendered, lambda text: 'lag_events{group="readers"} 401.0' in text)
        assert 'faregate_consumer_members_wanted{group="readers"} 2.0' in text
        assert 'faregate_consumer_lag_seconds{group="readers"} 0.0\n' not in text
        may_work.set()
        text = await until(rendered, lambda text: 'lag_events{group="readers"} 0.0' in text)
        assert 'faregate_consumer_members_wanted{group="readers"} 1.0' in text


def test_a_lag_asks_for_one_member_at_least_and_for_no_more_than_there_is_work_for() -> None:
    wanted = [members_wanted(events, members_max=16) for events in (0, 1, 400, 401, 6_400, 10**9)]
    assert wanted == [1, 1, 1, 2, 16, 16]
