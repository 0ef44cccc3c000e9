"""Kafka under kill -9 of relay and broker: topics hold every event once, in the order of the log; effects come once."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from uuid import uuid4

import orjson
import pytest
from confluent_kafka import Message

from faregate.events import schema_id
from faregate.infra.database import Connection
from faregate.infra.eventlog import Listener
from faregate.infra.kafka import DeadLetters, KafkaAddress, KafkaUnavailable, Relay, Topics, ensure_topics
from faregate.infra.kafka.look import read_all
from faregate.infra.kafka.records import event_of, headers_of
from faregate.kernel.event import Event, NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import (
    Log,
    assert_each_once_and_in_order,
    event,
    eventually,
    recorder,
    running,
    running_log,
    running_log_on_kafka,
    topics_of_test,
)
from tests.servers import own_kafka

pytestmark = pytest.mark.requirement("P2")


def many(count: int, *, start: int = 0) -> list[NewEvent]:
    return [event(f"app_{n % 40}", n=n) for n in range(start, start + count)]


async def start_relay(url: str, address: KafkaAddress, topics: Topics) -> Process:
    command = (sys.executable, "-m", "tests.eventlog_relay", url, address.bootstrap, topics.prefix)
    return await asyncio.create_subprocess_exec(*command)


async def kill9(process: Process) -> None:
    if process.returncode is None:
        process.kill()
    await process.wait()


@asynccontextmanager
async def relays(url: str, address: KafkaAddress, topics: Topics) -> AsyncIterator[list[Process]]:
    """One relay that works and one that stands by, each a process; those still alive at the end are killed."""
    started = [await start_relay(url, address, topics) for _ in range(2)]
    try:
        yield started
    finally:
        for process in started:
            await kill9(process)


def published(address: KafkaAddress, topics: Topics) -> Sequence[Event]:
    """Every event in the topics; along each partition the places in the log must grow."""
    found = []
    for topic in topics.of_events:
        last: dict[int, int] = {}
        for message in read_all(address, topic):
            event = event_of(message.value() or b"")
            partition = message.partition() or 0
            assert event.seq > last.get(partition, 0), "published twice, or out of order"
            last[partition] = event.seq
            found.append(event)
    return found


async def until_published(address: KafkaAddress, topics: Topics, count: int) -> Sequence[Event]:
    found: Sequence[Event] = ()

    async def enough() -> bool:
        nonlocal found
        found = await asyncio.to_thread(published, address, topics)
        return len(found) >= count

    await eventually(enough, what=f"{count} events in the topics")
    return found


@pytest.mark.requirement("C28")
async def test_relays_killed_in_the_middle_publish_every_event_once_and_in_order(
    open_database: OpenDatabase, database_url: str, kafka_address: KafkaAddress
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    topics = topics_of_test(prefix=f"t{uuid4().hex[:12]}.")
    await asyncio.to_thread(ensure_topics, kafka_address, topics)
    sent = many(1500)
    async with (
        running_log(credit=credit, admin=admin) as log,
        relays(database_url, kafka_address, topics) as started,
    ):
        for part in range(3):
            await log.append(*sent[part * 500 : part * 500 + 250])
            await until_published(kafka_address, topics, part * 500 + 1)
            await log.append(*sent[part * 500 + 250 : part * 500 + 500])
            await asyncio.sleep(random.uniform(0, 0.05))  # anywhere in a batch, not a wait for something
            for process in started[:-1]:  # whichever leads is among them, or is killed the next time
                await kill9(process)
            started.append(await start_relay(database_url, kafka_address, topics))
        found = await until_published(kafka_address, topics, 1500)
    assert sorted(e.id for e in found) == sorted(e.id for e in sent)


@pytest.mark.requirement("C28")
async def test_a_frozen_relay_that_wakes_up_after_another_took_over_publishes_nothing(
    open_database: OpenDatabase, database_url: str, kafka_address: KafkaAddress
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    topics = topics_of_test(prefix=f"t{uuid4().hex[:12]}.")
    await asyncio.to_thread(ensure_topics, kafka_address, topics)
    sent = many(1500)
    async with running_log(credit=credit, admin=admin) as log, relays(database_url, kafka_address, topics):
        for part in range(3):
            await log.append(*sent[part * 500 : part * 500 + 400])
            await until_marked(log, part * 500 + 1)
            frozen = await leader(log)
            await asyncio.sleep(random.uniform(0, 0.02))  # anywhere in a batch, not a wait for something
            os.kill(frozen, signal.SIGSTOP)
            try:
                await eventually(partial(leads_another, log, frozen), what="the other relay leads")
                await log.append(*sent[part * 500 + 400 : part * 500 + 450])
                await until_published(kafka_address, topics, part * 500 + 450)
            finally:
                os.kill(frozen, signal.SIGCONT)
            await log.append(*sent[part * 500 + 450 : part * 500 + 500])
            await until_published(kafka_address, topics, part * 500 + 500)
        found = await until_published(kafka_address, topics, 1500)
    assert sorted(e.id for e in found) == sorted(e.id for e in sent)


async def until_marked(log: Log, position: int) -> None:
    """Wait until the relay has marked that much as published: it is in the middle of what was appended."""
    query = "select from eventlog.assignment where consumer_group = 'kafka.relay' and position >= %s limit 1"

    async def is_marked() -> bool:
        return bool(await log.rows(query, position))

    await eventually(is_marked, what=f"{position} events published")


async def leader(log: Log) -> int:
    """The process id of the relay that leads."""
    found: list[int] = []

    async def there_is_one() -> bool:
        rows = await log.rows("select holder from eventlog.relay where expires_at > clock_timestamp()")
        found.extend(int(row["holder"]) for row in rows)
        return bool(found)

    await eventually(there_is_one, what="a relay leads")
    return found[-1]


async def leads_another(log: Log, frozen: int) -> bool:
    return await leader(log) != frozen


@pytest.mark.requirement("C10")
async def test_a_record_names_the_schema_that_its_data_follows(
    open_database: OpenDatabase, kafka_address: KafkaAddress
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    kind = "credit.application.submitted"
    topics = Topics(aggregate_of={kind: "credit.application"}, prefix=f"t{uuid4().hex[:12]}.")
    async with running_log(credit=credit, admin=admin) as log, Listener(admin) as listener:
        relay = Relay(
            database=admin,
            listener=listener,
            holder="me",
            address=kafka_address,
            topics=topics,
            schema_id=schema_id,
        )
        async with running(relay.run):
            await log.append(event(kind=kind), event(kind="not.ours"))
            await eventually(lambda: has_records(kafka_address, topics, 2), what="two records")
    ours, other = await asyncio.to_thread(records, kafka_address, topics)
    named = schema_id(kind)
    assert named is not None
    assert named.startswith(f"{kind}/")
    assert headers_of(ours.headers()) == {
        "content-type": "application/cloudevents+json",
        "type": kind,
        "seq": "1",
        "schema-id": named,
    }
    assert orjson.loads(ours.value() or b"")["dataschema"] == named
    assert "schema-id" not in headers_of(other.headers())


def records(address: KafkaAddress, topics: Topics) -> Sequence[Message]:
    found = [message for topic in topics.of_events for message in read_all(address, topic)]
    return sorted(found, key=lambda message: int(headers_of(message.headers())["seq"]))


async def has_records(address: KafkaAddress, topics: Topics, count: int) -> bool:
    try:
        return len(await asyncio.to_thread(records, address, topics)) >= count
    except KafkaUnavailable:  # the relay has not made the topic yet
        return False


@pytest.mark.requirement("C28")
async def test_a_broker_killed_while_events_flow_loses_and_doubles_nothing(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    sent = many(600)
    with own_kafka(tmp_path / "home") as broker:
        address = KafkaAddress(bootstrap=broker.bootstrap)
        async with (
            running_log_on_kafka(credit=credit, admin=admin, address=address) as log,
            running(log.member(batch_max=10)),
        ):
            await log.append(*sent[:200])
            await log.until_effects(50)
            await asyncio.to_thread(broker.kafka.kill9)
            await log.append(*sent[200:400])  # business goes on without a broker
            await asyncio.to_thread(broker.kafka.start)
            await log.append(*sent[400:])
            await until_all(log, 600)
            topics = topics_of_test(prefix=log.bus[1])
            found = await asyncio.to_thread(published, address, topics)
    assert_each_once_and_in_order(await log.effects(), sent)
    assert sorted(e.id for e in found) == sorted(e.id for e in sent)


async def until_all(log: Log, count: int) -> None:
    """A broker that restarts takes its time: the group forms anew, the relay opens its transactions again."""
    for _ in range(6):
        try:
            await log.until_effects(count)
        except AssertionError:
            continue
        return
    await log.until_effects(count)


async def test_an_event_that_cannot_be_handled_goes_to_the_dead_letters_and_comes_back_by_command(
    open_database: OpenDatabase, kafka_address: KafkaAddress
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    poison = {3}

    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        if poison & {e.data["n"] for e in events}:
            raise ValueError("this one cannot be handled")
        await recorder("readers")(conn, events)

    opened = running_log_on_kafka(credit=credit, admin=admin, address=kafka_address, attempts_max=3)
    async with opened as log, running(log.member(handler=handle)):
        sent = [event("same", n=n) for n in range(6)]
        await log.append(*sent)
        assert [row["n"] for row in await log.until_effects(5)] == [0, 1, 2, 4, 5]
        letters = DeadLetters(address=kafka_address, topics=topics_of_test(prefix=log.bus[1]))
        [letter] = await asyncio.to_thread(lambda: list(letters.all(group="readers")))
        assert (letter.event.id, letter.attempts) == (sent[3].id, 3)
        assert letter.error == "ValueError: this one cannot be handled"
        poison.clear()
        assert await asyncio.to_thread(letters.give_back, letters.all()) == 1
        assert await asyncio.to_thread(letters.give_back, letters.all()) == 1
        assert [row["n"] for row in await log.until_effects(6)] == [0, 1, 2, 4, 5, 3]
        await log.append(event("same", n=6))
        assert [row["n"] for row in await log.until_effects(7)][-2:] == [3, 6]
