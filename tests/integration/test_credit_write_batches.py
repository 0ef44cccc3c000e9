"""Events first, derived state after, in batches: counted by the server's own statistics, over a burst."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import psycopg
import pytest
from pydantic import SecretStr

from faregate.entrypoints.bootstrap.worker import worker
from faregate.events.credit import ExternalCompleted
from faregate.infra.cache import Cache
from faregate.infra.eventlog import append
from faregate.infra.settings import Settings
from faregate.kernel.event import NewEvent
from tests.credit_world import CreditWorld, new_form, open_credit_world
from tests.eventlog import running
from tests.sandbox import until
from tests.servers import own_servers

BURST = 300
PROVIDERS = ("bureau", "kyc", "fraud", "income")
_CALLS = """
select coalesce(sum(calls), 0)::int as calls from pg_stat_statements where query ~* %(pattern)s and toplevel
"""


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[CreditWorld]:
    """An API on a server that counts statements."""
    with own_servers(tmp_path / "own") as servers:
        await _count_statements(servers.database_url, servers.postgres.restart)
        valkey_url = f"unix://{servers.valkey_socket}"
        cache = await Cache.open(valkey_url)
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=tmp_path / "home",
            database_url=SecretStr(servers.database_url),
            valkey_url=SecretStr(valkey_url),
        )
        async with open_credit_world(settings, cache=cache) as running_world:
            yield running_world
        await cache.close()


async def _count_statements(url: str, restart: Callable[[], None]) -> None:
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute("alter system set shared_preload_libraries = 'pg_stat_statements'")
    await asyncio.to_thread(restart)
    async with await psycopg.AsyncConnection.connect(url, autocommit=True) as conn:
        await conn.execute("create extension pg_stat_statements")


async def calls(world: CreditWorld, pattern: str) -> int:
    [row] = await world.sql(_CALLS, pattern=pattern)
    return int(row["calls"])


async def count(world: CreditWorld, table: str) -> int:
    [row] = await world.sql(f"select count(*) as rows from {table}")
    return int(row["rows"])


def completed(application_id: str, provider: str) -> NewEvent:
    now = datetime.now(UTC)
    return ExternalCompleted(
        application_id=application_id,
        provider=provider,
        provider_request_id=f"{application_id}:{provider}:1",
        status="not_done",
        signal_payload={},
        received_at=now,
    ).to_event(id=uuid4(), time=now)


@pytest.mark.requirement("C31")
async def test_a_burst_is_kept_as_events_first_and_derived_state_follows_in_far_fewer_statements(
    world: CreditWorld,
) -> None:
    replies = await asyncio.gather(*(world.submit(new_form()) for _ in range(BURST)))
    ids = [reply.json["application_id"] for reply in replies]
    assert await count(world, "credit.application") == BURST
    assert await calls(world, "insert into credit.application ") <= BURST / 10

    events = [completed(application_id, provider) for application_id in ids for provider in PROVIDERS]
    async with world.connection.transaction():
        await append(world.connection, events)
    assert (await count(world, "eventlog.outbox"), await count(world, "credit.risk_signal")) == (
        BURST + len(events),
        0,
    )
    await consume(world, "credit.signals", until_rows=len(events))
    for statement in ("insert into credit.risk_signal", "update credit.application a set latest_step"):
        assert 1 <= await calls(world, statement) <= len(events) / 50
    [row] = await world.sql("select count(*) as rows from credit.application where revision > 1")
    assert row["rows"] == BURST


async def consume(world: CreditWorld, name: str, *, until_rows: int) -> None:
    """Sequence and let one consumer group of a worker work until every signal is there."""
    async with AsyncExitStack() as stack:
        loops = (await worker(stack, world.site, ["sequencer", f"consumers.{name}"])).loops
        async with running(loops["sequencer"], loops[name]):
            await until(lambda: count(world, "credit.risk_signal"), lambda rows: rows == until_rows)
