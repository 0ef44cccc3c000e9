"""What a group on Kafka cannot handle is set aside, and the group goes on: records of others, events given up."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from confluent_kafka import Producer

from faregate.infra.database import Connection
from faregate.infra.eventlog import prune_inbox
from faregate.infra.kafka import DeadLetters, KafkaAddress, Topics, replay_from_kafka
from faregate.infra.kafka.topics import MESSAGE_BYTES_MAX
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.eventlog import Log, event, eventually, recorder, running, running_log_on_kafka, topics_of_test

KEY = "app_1"


@pytest.fixture
async def log(open_database: OpenDatabase, kafka_address: KafkaAddress) -> AsyncIterator[Log]:
    """A log on Kafka whose groups give an event up after its first failure."""
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log_on_kafka(credit=credit, admin=admin, address=kafka_address, attempts_max=1) as log:
        yield log


@pytest.fixture
def topics(log: Log) -> Topics:
    return topics_of_test(prefix=log.bus[1])


@pytest.fixture
def letters(kafka_address: KafkaAddress, topics: Topics) -> DeadLetters:
    return DeadLetters(address=kafka_address, topics=topics)


@pytest.fixture(autouse=True)
def log_lines() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs() as lines:
        yield lines


def write(address: KafkaAddress, topics: Topics, **record: Any) -> None:
    """Write what the relay never would: into the topic of events and the partition of `KEY`, if not told elsewhere."""
    producer = Producer(address.config(message_max_bytes=MESSAGE_BYTES_MAX))
    failed: list[Any] = []
    place = {"topic": topics.of_events[0], "partition": topics.partition_of(KEY)}
    producer.produce(
        on_delivery=lambda error, _: failed.append(error) if error else None, **{**place, **record}
    )
    assert producer.flush(15) == 0
    assert not failed


FOREIGN = {
    "no headers": {"value": b"hello", "key": b"\xff\xfe"},
    "no value": {"key": KEY, "value": None, "headers": {"type": "credit.tested"}},
    "no JSON": {"value": b"\x00\x01\xff", "headers": {"type": "credit.tested", "seq": "1"}},
    "no envelope": {"value": b'{"id": 5}', "headers": {"type": "credit.tested", "seq": "999999999999999999"}},
    "a header that is no text": {"value": b"[]", "headers": {"type": b"credit.tested\xff", "seq": "nine"}},
    "nothing but the greatest length": {"value": b"x" * (MESSAGE_BYTES_MAX - 1000)},
}


@pytest.mark.parametrize("foreign", FOREIGN.values(), ids=FOREIGN)
async def test_a_record_of_somebody_else_is_set_aside_with_its_bytes_and_the_group_goes_on(
    log: Log,
    kafka_address: KafkaAddress,
    topics: Topics,
    letters: DeadLetters,
    log_lines: list[Any],
    foreign: dict[str, Any],
) -> None:
    await log.append(event(KEY, n=0))
    async with running(log.member()):
        await log.until_effects(1)
        await asyncio.to_thread(write, kafka_address, topics, **foreign)
        await log.append(event(KEY, n=1))
        assert [row["n"] for row in await log.until_effects(2)] == [0, 1]
    [letter] = await asyncio.to_thread(lambda: list(letters.all(group="readers")))
    assert letter.event is None
    value, kept = foreign["value"], letter.message.value()
    assert kept == value or (kept and value.startswith(kept) and len(kept) > 0.9 * len(value))
    [line] = [line for line in log_lines if line["event"] == "kafka.foreign_record"]
    place = f"{line['topic']}/{line['partition']}/{line['offset']}"
    assert (line["group"], place) == ("readers", letter.origin)
    assert await asyncio.to_thread(letters.give_back, letters.all()) == 0
    [behind] = await log.rows("select events from eventlog.lag('{readers}')")
    assert behind["events"] == 0


async def test_a_relay_finds_how_far_it_came_among_records_of_somebody_else(
    log: Log, kafka_address: KafkaAddress, topics: Topics
) -> None:
    async with running(log.member()):
        await log.append(event(KEY, n=0))
        await log.until_effects(1)
        for foreign in ({"key": b"other", "value": b"7"}, {"key": b"relay", "value": b"hello"}):
            await asyncio.to_thread(
                write, kafka_address, topics, topic=topics.relay_progress, partition=0, **foreign
            )
        await log.rows("update eventlog.relay set fence = fence + 1, expires_at = '-infinity' returning 1")
        await eventually(
            lambda: leads_again(log), what="the relay noticed that it was shut out, and leads again"
        )
        await log.append(event(KEY, n=1))
        effects = await log.until_effects(2)
    assert [row["n"] for row in effects] == [0, 1]


async def leads_again(log: Log) -> bool:
    return bool(await log.rows("select from eventlog.relay where expires_at > clock_timestamp()"))


async def test_a_replay_finds_its_place_among_records_of_somebody_else(
    log: Log, kafka_address: KafkaAddress, topics: Topics
) -> None:
    sent = [event(KEY, n=n) for n in range(6)]
    async with running(log.member()):
        for one in sent:
            await log.append(one)
            await log.until_effects(one.data["n"] + 1)
            await asyncio.to_thread(write, kafka_address, topics, **FOREIGN["no headers"])
    await replay_from_kafka(
        log.admin, address=kafka_address, topics=topics, group="readers", from_seq=4, effects_again=True
    )
    async with running(log.member()):
        effects = await log.until_effects(9)
    assert [row["n"] for row in effects] == [0, 1, 2, 3, 4, 5, 3, 4, 5]


async def test_a_member_whose_group_is_set_back_while_it_gives_an_event_up_reads_on_from_there(
    log: Log, letters: DeadLetters
) -> None:
    setting_back: list[asyncio.Task[Any]] = []

    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        if events[0].data["n"] == 1 and not setting_back:
            if len(events) == 1:
                setting_back.append(asyncio.create_task(set_back(log)))
                await eventually(lambda: waits_for_a_lock(log), what="somebody waits to set the group back")
            raise ValueError("this one cannot be handled yet")
        await recorder("readers")(conn, events)

    async with running(log.member(handler=handle)):
        await log.append(event(KEY, n=0))
        await log.until_effects(1)
        await log.append(event(KEY, n=1), event(KEY, n=2))
        assert [row["n"] for row in await log.until_effects(3)] == [0, 1, 2]
    assert len(await asyncio.to_thread(lambda: list(letters.all()))) == 1


async def test_an_event_that_was_given_back_and_handled_is_not_handled_again_however_late_it_comes_back(
    log: Log, letters: DeadLetters, topics: Topics
) -> None:
    poison = {1}

    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        if poison & {e.data["n"] for e in events}:
            raise ValueError("this one cannot be handled yet")
        await recorder("readers")(conn, events)

    async with running(log.member(handler=handle)):
        await log.append(*(event(KEY, n=n) for n in range(3)))
        await log.until_effects(2)
        poison.clear()
        await asyncio.to_thread(letters.give_back, letters.all())
        effects = await log.until_effects(3)
        before = await position_of(log, topics.retries)
        assert await prune_inbox(log.admin, before=datetime.now(UTC) + timedelta(days=1)) == 2
        await asyncio.to_thread(letters.give_back, letters.all())

        async def came_back() -> bool:
            return await position_of(log, topics.retries) > before

        await eventually(came_back, what="the event came a second time")
    assert await log.effects() == effects


async def position_of(log: Log, topic: str) -> int:
    [row] = await log.rows("select position from eventlog.bus_position where topic = %s", topic)
    return int(row["position"])


async def set_back(log: Log) -> None:
    async with log.admin.transaction() as conn:
        await conn.execute("update eventlog.bus_position set position = 0 where position is not null")


async def waits_for_a_lock(log: Log) -> bool:
    return bool(await log.rows("select from pg_locks where not granted"))
