"""The event log under kill -9 of processes and database: nothing lost, nothing done twice, order kept."""

from __future__ import annotations

import asyncio
import random
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import psycopg
import pytest

from faregate.infra.database import Database, DatabaseUnavailable
from faregate.infra.eventlog import Sequencer
from faregate.kernel.event import NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import (
    LEASE_S,
    Log,
    assert_each_once_and_in_order,
    event,
    eventually,
    log_on,
    running,
    running_log,
)
from tests.servers import own_servers


@pytest.fixture(params=["postgres", "kafka"])
async def log(request: pytest.FixtureRequest, open_database: OpenDatabase) -> AsyncIterator[Log]:
    async with log_on(request, open_database) as log:
        yield log


def many(count: int, *, start: int = 0) -> list[NewEvent]:
    return [event(f"app_{n % 40}", n=n) for n in range(start, start + count)]


@asynccontextmanager
async def processes(url: str, *, log: Log, count: int) -> AsyncIterator[list[Process]]:
    """Members of the group `readers` as processes; those still alive at the end are killed."""
    members = [await start_member(url, log) for _ in range(count)]
    try:
        yield members
    finally:
        for member in members:
            await kill9(member)


async def start_member(url: str, log: Log) -> Process:
    command = (sys.executable, "-m", "tests.eventlog_member", url, "readers", *log.bus)
    return await asyncio.create_subprocess_exec(*command)


async def kill9(member: Process) -> None:
    if member.returncode is None:
        member.kill()
    await member.wait()


@pytest.mark.requirement("C28")
async def test_a_consumer_killed_in_the_middle_loses_nothing_and_repeats_nothing(
    log: Log, database_url: str
) -> None:
    sent = many(500)
    await log.append(*sent)
    async with processes(database_url, log=log, count=1) as members:
        for done in (50, 120, 200):
            await log.until_effects(done)
            await asyncio.sleep(random.uniform(0, 0.03))  # anywhere in a batch, not a wait for something
            await kill9(members[-1])
            members.append(await start_member(database_url, log))
        await log.until_effects(500)
    assert_each_once_and_in_order(await log.effects(), sent)


async def test_the_partitions_of_a_killed_member_pass_to_the_living(log: Log, database_url: str) -> None:
    sent = many(600)
    async with processes(database_url, log=log, count=2) as members:
        await log.until_shared(2)
        await log.append(*sent[:300])
        await log.until_effects(100)
        await kill9(members[0])
        await log.append(*sent[300:])
        await log.until_effects(600)
        await log.until_shared(1)
    assert_each_once_and_in_order(await log.effects(), sent)


async def test_a_frozen_member_is_shut_out_and_its_batch_is_done_by_another(
    log: Log, database_url: str
) -> None:
    sent = many(300)
    await log.append(*sent)
    async with processes(database_url, log=log, count=1) as members:
        await log.until_effects(40)
        members[0].send_signal(19)  # SIGSTOP: alive for the operating system, silent for us
        async with running(log.member(batch_max=20)):
            await log.until_effects(300)
            members[0].send_signal(18)  # SIGCONT: it wakes up and tries to go on
            await log.until_shared(2)
    assert_each_once_and_in_order(await log.effects(), sent)


async def test_consumers_and_sequencer_survive_a_restart_and_a_crash_of_the_database(tmp_path: Path) -> None:
    sent = many(300)
    with own_servers(tmp_path / "home") as servers:
        async with (
            databases(servers.database_url) as (credit, admin),
            running_log(credit=credit, admin=admin) as log,
            running(log.member(batch_max=5)),
        ):
            await log.append(*sent[:150])
            await log.until_effects(20)
            await asyncio.to_thread(servers.postgres.restart)
            await append_after_outage(log, sent[150:250])
            await asyncio.to_thread(servers.postgres.kill9)
            await asyncio.to_thread(servers.postgres.start)
            await append_after_outage(log, sent[250:])
            await eventually(lambda: has_effects(log, 300), what="all effects after the crash")
            assert_each_once_and_in_order(await log.effects(), sent)


async def test_the_lease_of_a_dead_sequencer_passes_to_the_one_standing_by(
    open_database: OpenDatabase,
) -> None:
    admin = await open_database("eventlog")
    dead = Sequencer(database=admin, holder="dead", lease_s=LEASE_S)
    async with admin.connection() as conn:
        assert await dead.acquire(conn)
    async with running_log(credit=await open_database("credit"), admin=admin) as log:
        await log.append(*many(10))
        await log.until_sequenced(10)


@asynccontextmanager
async def databases(url: str) -> AsyncIterator[tuple[Database, Database]]:
    credit = await Database.open(url, role="faregate_credit")
    admin = await Database.open(url, role="faregate_eventlog")
    yield credit, admin
    await credit.close()
    await admin.close()


async def append_after_outage(log: Log, events: Sequence[NewEvent]) -> None:
    """Append as a client would that tries again: pooled connections are found broken one by one."""

    async def appended() -> bool:
        try:
            await log.append(*events)
        except (psycopg.OperationalError, DatabaseUnavailable):
            return False
        return True

    await eventually(appended, what="the database takes writes again")


async def has_effects(log: Log, count: int) -> bool:
    try:
        return len(await log.effects()) >= count
    except (psycopg.OperationalError, DatabaseUnavailable):
        return False
