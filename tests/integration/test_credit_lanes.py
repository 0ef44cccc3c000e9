"""What tells of decisions does not wait behind what comes for every step: a real worker with a real backlog."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import psycopg
import pytest

from faregate.credit.store.decisions import insert_decision
from faregate.events.credit import DecisionFinalized, ExternalCompleted
from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.eventlog import append
from faregate.infra.settings import Settings
from faregate.kernel.event import NewEvent
from tests.credit_worker import servers_of_module, working
from tests.credit_world import ACME, CreditWorld, open_credit_world
from tests.integration.test_credit_reading import decision_of
from tests.sandbox import until

__all__ = ["servers_of_module"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

BULK = 10_000


def completed(application_id: str) -> NewEvent:
    now = datetime.now(UTC)
    return ExternalCompleted(
        application_id=application_id,
        provider="kyc",
        provider_request_id=f"{application_id}:kyc:1",
        status="not_done",
        signal_payload={},
        received_at=now,
    ).to_event(id=uuid4(), time=now)


def finalized(application_id: str) -> NewEvent:
    return DecisionFinalized(
        application_id=application_id,
        outcome="approved",
        risk_score=0.1,
        reason_codes=("BUREAU_OK",),
        ruleset_version="card-eligibility@1",
    ).to_event(id=uuid4(), time=datetime.now(UTC))


@asynccontextmanager
async def locked(url: str, application_ids: Sequence[str]) -> AsyncIterator[None]:
    """Let whoever works on these applications wait for the length of the block."""
    async with await psycopg.AsyncConnection.connect(url) as conn:
        query = "select 1 from credit.application where id = any(%s) order by id for update"
        await conn.execute(query, (list(application_ids),))
        yield
        await conn.rollback()


@asynccontextmanager
async def exhausted(database: Database) -> AsyncIterator[None]:
    """Hold every connection of a pool for the length of the block."""
    released = asyncio.Event()

    async def hold() -> None:
        async with database.connection():
            await released.wait()

    async with asyncio.TaskGroup() as group:
        for _ in range(database.statistics["pool_max"]):
            group.create_task(hold())
        await until(lambda: _waited(database), lambda seconds: seconds > 0)
        yield
        released.set()


async def _waited(database: Database) -> float:
    return database.waited_s()


async def handled(world: CreditWorld, group: str) -> int:
    [row] = await world.sql(
        "select count(*) as events from eventlog.inbox where consumer_group = %(group)s", group=group
    )
    return int(row["events"])


async def snapshot(cache: Cache, application_id: str) -> bytes:
    return await cache.get(f"credit:status:{application_id}") or b""


@pytest.mark.requirement("C30")
async def test_a_decision_is_told_while_ten_thousand_other_events_wait(
    servers_of_module: Settings,
) -> None:
    assert servers_of_module.valkey_url is not None
    async with AsyncExitStack() as stack:
        cache = await Cache.open(servers_of_module.valkey_url.get_secret_value())
        stack.push_async_callback(cache.close)
        world = await stack.enter_async_context(open_credit_world(servers_of_module, cache=cache))
        busy = [await world.submitted() for _ in range(16)]
        decided = await world.submitted(client=ACME)
        await append_all(world, [completed(busy[n % 16]) for n in range(BULK)])
        await insert_decision(world.connection, decision_of(decided), now=datetime.now(UTC))
        await append_all(world, [finalized(decided)])
        lock = await stack.enter_async_context(AsyncExitStack())
        await lock.enter_async_context(locked(world.site.database_url, busy))
        async with working(world.site) as worker, lock, exhausted(worker.databases["credit"]):
            await until(lambda: snapshot(cache, decided), lambda found: b'"approved"' in found)
            assert await handled(world, "credit.signals") == 0
            await until(lambda: handled(world, "credit.webhooks"), lambda events: events == 1)
            [log] = await world.sql("select count(*) as events from eventlog.event")
            assert log["events"] > BULK


async def append_all(world: CreditWorld, events: Sequence[NewEvent]) -> None:
    async with world.connection.transaction():
        await append(world.connection, events)
