"""A group that changes its bus, that comes too late for Kafka, or whose topics grow, loses nothing and repeats nothing.

Nothing is taken from the inbox here: it is emptied, as it is after a month.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import pytest
import structlog
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from faregate.infra.eventlog import Listener, PostgresEventSource, lag
from faregate.infra.kafka import (
    KafkaAddress,
    KafkaEventSource,
    RecordsGone,
    Topics,
    ensure_topics,
    replay_from_kafka,
)
from tests.conftest import OpenDatabase
from tests.eventlog import (
    LEASE_S,
    SESSION_S,
    Log,
    assert_each_once_and_in_order,
    event,
    eventually,
    recorder,
    running,
    running_log_on_kafka,
    topics_of_test,
)

Run = Callable[[asyncio.Event], Any]
KEYS = [f"app_{number}" for number in range(40)]


@pytest.fixture
async def log(open_database: OpenDatabase, kafka_address: KafkaAddress) -> AsyncIterator[Log]:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log_on_kafka(credit=credit, admin=admin, address=kafka_address) as log:
        yield log


@pytest.fixture
def topics(log: Log) -> Topics:
    return topics_of_test(prefix=log.bus[1])


@pytest.fixture(autouse=True)
def log_lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


@asynccontextmanager
async def member_on_log(log: Log) -> AsyncIterator[Run]:
    """A member of `readers` that reads the log itself."""
    async with Listener(log.credit) as listener:
        source = PostgresEventSource(listener=listener, lease_s=LEASE_S, retry_max_s=0.2)
        yield source.subscribe(
            database=log.credit, group="readers", types=None, handler=recorder("readers")
        ).run


async def forget_inbox(log: Log) -> None:
    await log.rows("with gone as (delete from eventlog.inbox returning 1) select count(*) from gone")


async def delete_records(address: KafkaAddress, topics: Topics) -> None:
    """Do to the topics of events what retention does."""

    def delete() -> None:
        admin = AdminClient(address.config())
        ends = [TopicPartition(t, p, -1) for t in topics.of_events for p in range(topics.partitions)]
        for future in admin.delete_records(ends).values():
            future.result(15)

    await asyncio.to_thread(delete)


async def test_a_group_goes_on_where_it_stood_from_the_log_to_kafka_and_back(log: Log) -> None:
    sent = [event(KEYS[n % len(KEYS)], n=n) for n in range(240)]
    async with member_on_log(log) as on_log, running(on_log):
        await log.append(*sent[:80])
        await log.until_effects(80)
    await forget_inbox(log)
    async with running(log.member(), log.member()):
        await log.append(*sent[80:160])
        await log.until_effects(160)
    await forget_inbox(log)
    await log.append(*sent[160:200])
    async with member_on_log(log) as on_log, running(on_log):
        await log.until_effects(200)
    await forget_inbox(log)
    async with running(log.member()):
        await log.append(*sent[200:])
        await log.until_effects(240)

        async def is_handled() -> bool:
            async with log.admin.connection() as conn:
                return not any(group.events for group in await lag(conn, groups=["readers"]))

        await eventually(is_handled, what="no lag")
    assert_each_once_and_in_order(await log.effects(), sent)


async def test_what_kafka_deleted_before_a_group_read_it_is_told_and_read_from_the_log(
    log: Log, kafka_address: KafkaAddress, topics: Topics, log_lines: list[Any]
) -> None:
    sent = [event(KEYS[n % len(KEYS)], n=n) for n in range(160)]
    async with running(log.member()):
        await log.append(*sent[:80])
        await log.until_effects(80)
    await log.append(*sent[80:120])
    await log.until_published()
    await delete_records(kafka_address, topics)
    await log.append(*sent[120:])
    await log.until_published()

    async def is_told() -> bool:
        return any(line["event"] == "kafka.records_gone" for line in log_lines)

    async with running(log.member()):
        await eventually(is_told, what="the loss is told")
        assert len(await log.effects()) == 80
    await forget_inbox(log)
    async with member_on_log(log) as on_log, running(on_log):
        await log.until_effects(160)
    async with running(log.member()):
        await log.append(event("after", n=160))
        effects = await log.until_effects(161)
    assert_each_once_and_in_order(effects[:160], sent)


async def test_a_replay_of_what_kafka_deleted_is_refused(
    log: Log, kafka_address: KafkaAddress, topics: Topics
) -> None:
    sent = [event(KEYS[n % len(KEYS)], n=n) for n in range(120)]
    async with running(log.member()):
        await log.append(*sent[:80])
        await log.until_effects(80)
        await delete_records(kafka_address, topics)
        await log.append(*sent[80:])
        await log.until_effects(120)
    before = await log.rows("select * from eventlog.bus_position order by 1, 2, 3")
    with pytest.raises(RecordsGone, match="before event"):
        await replay_from_kafka(
            log.admin, address=kafka_address, topics=topics, group="readers", from_seq=41, effects_again=True
        )
    assert await log.rows("select * from eventlog.bus_position order by 1, 2, 3") == before


async def test_a_topic_that_grows_makes_no_lag_and_loses_nothing(
    log: Log, kafka_address: KafkaAddress, topics: Topics
) -> None:
    sent = [event(KEYS[n % len(KEYS)], n=n) for n in range(80)]
    async with running(log.member()):
        await log.append(*sent)
        await log.until_effects(80)
    grown = replace(topics, partitions=32)
    await asyncio.to_thread(ensure_topics, kafka_address, grown)
    source = KafkaEventSource(address=kafka_address, topics=grown, session_s=SESSION_S, retry_max_s=0.2)
    member = source.subscribe(database=log.credit, group="readers", types=None, handler=recorder("readers"))
    async with running(member.run):

        async def is_known() -> bool:
            found = await log.rows("select count(*) as n from eventlog.bus_position where partition >= 16")
            return bool(found[0]["n"] == 16)

        await eventually(is_known, what="the member has the new parts")
        async with log.admin.connection() as conn:
            assert [group.events for group in await lag(conn, groups=["readers"])] == [0]
        await log.append(event("after", n=80))
        effects = await log.until_effects(81)
    assert_each_once_and_in_order(effects[:80], sent)
