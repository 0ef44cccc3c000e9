"""What a worker answers about its readiness: the database, the engine and the loops, each by name."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import cast

import pytest

from faregate.entrypoints.bootstrap.worker import EngineNotLaunched, Worker, readiness
from faregate.entrypoints.worker import worker_metrics
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection
from faregate.infra.eventlog import Listener, PostgresEventSource
from faregate.infra.loops import LoopKeeper
from faregate.infra.workflow.dbos_engine import DbosEngine
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.sandbox import until


async def test_a_worker_whose_engine_is_not_launched_is_not_ready(
    open_database: OpenDatabase, database_url: str
) -> None:
    engine = DbosEngine(database_url=database_url, clock=SystemClock())
    opened = Worker(
        loops={}, engine=engine, database=await open_database("credit"), log=await open_database("eventlog")
    )
    checks = readiness(opened, LoopKeeper({}))
    assert set(checks) == {"database", "engine", "loops"}
    await asyncio.gather(checks["database"](), checks["loops"]())
    with pytest.raises(EngineNotLaunched):
        await checks["engine"]()


async def test_metrics_tell_the_lag_of_each_consumer_group(open_database: OpenDatabase) -> None:
    log = await open_database("eventlog")
    opened = Worker(loops={}, engine=cast(DbosEngine, None), database=await open_database("credit"), log=log)
    stop = asyncio.Event()
    async with Listener(log) as listener:
        source = PostgresEventSource(listener=listener)

        async def ignore(conn: Connection, events: Sequence[Event]) -> None:
            """Handle nothing: the group only has to exist."""

        member = source.subscribe(database=opened.database, group="lag.test", types=None, handler=ignore)
        running = asyncio.create_task(member.run(stop))
        sample = b'faregate_eventlog_lag_events{group="lag.test"} 0.0'
        assert sample in await until(worker_metrics(opened).render, lambda text: sample in text)
        stop.set()
        await running
    assert b"faregate_eventlog_lag_seconds" in await worker_metrics(opened).render()
