"""A running event log for tests: producers, members of consumer groups, and the effects that they leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import (
    EventSource,
    Handler,
    Listener,
    PostgresEventSource,
    Sequencer,
    append,
    lag,
    replay,
)
from faregate.infra.kafka import (
    RELAY_GROUP,
    KafkaAddress,
    KafkaEventSource,
    Relay,
    Topics,
    ensure_topics,
    replay_from_kafka,
)
from faregate.infra.kafka.relay import SETTLE_AFTER
from faregate.kernel.event import Event, NewEvent

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
LEASE_S = 0.6
SESSION_S = 2.0
"""Of a member of a group on Kafka; the broker allows nothing shorter than half of it."""
DEADLINE_S = 30.0


def event(key: str = "app_1", *, n: int = 0, kind: str = "credit.tested") -> NewEvent:
    return NewEvent(
        id=uuid4(),
        type=kind,
        aggregate_type="credit.application",
        aggregate_id=key,
        time=NOON,
        data={"n": n},
    )


def recorder(group: str) -> Handler:
    """A handler whose effect is one row an event, with no protection of its own against doing it twice."""

    async def record(conn: Connection, events: Sequence[Event]) -> None:
        await conn.execute(
            "insert into credit.effect (consumer_group, event_id, key, n) "
            "select %s, * from unnest(%s::uuid[], %s::text[], %s::int[])",
            (group, [e.id for e in events], [e.aggregate_id for e in events], [e.data["n"] for e in events]),
        )

    return record


async def eventually(condition: Callable[[], Awaitable[bool]], *, what: str) -> None:
    """Wait until the condition holds; fail with its name after a generous while."""
    async with asyncio.timeout(DEADLINE_S):
        try:
            while not await condition():  # noqa: ASYNC110 - the condition is in the database
                await asyncio.sleep(0.01)
        except TimeoutError:
            raise AssertionError(f"never came true: {what}") from None


@asynccontextmanager
async def running(*runs: Callable[[asyncio.Event], Awaitable[None]]) -> AsyncIterator[None]:
    """Run sequencers or subscriptions beside the block, and stop them in order at its end."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for run in runs:
            group.create_task(run(stop))  # type: ignore[arg-type]
        try:
            yield
        finally:
            stop.set()


@dataclass(frozen=True)
class Log:
    """The log with a producer's database, its administrator's, and a source of events."""

    credit: Database
    admin: Database
    source: EventSource
    shared: Callable[[str, int], Awaitable[bool]]
    replay: Callable[[int], Awaitable[None]]
    """Lets `readers` do everything from an event on again."""
    bus: Sequence[str] = ()
    """Where a process finds the topics: Kafka's address and the prefix; nothing for a log in PostgreSQL."""

    async def append(self, *events: NewEvent) -> None:
        async with self.credit.transaction() as conn:
            await append(conn, events)

    def member(
        self,
        group: str = "readers",
        *,
        types: Collection[str] | None = None,
        handler: Handler | None = None,
        batch_max: int = 500,
    ) -> Callable[[asyncio.Event], Awaitable[None]]:
        return self.source.subscribe(
            database=self.credit,
            group=group,
            types=types,
            handler=handler or recorder(group),
            batch_max=batch_max,
        ).run

    async def rows(self, query: str, *parameters: Any) -> list[Any]:
        """Run a query as the log's administrator."""
        async with self.admin.connection() as conn:
            return await (await conn.execute(query, parameters or None)).fetchall()

    async def effects(self, group: str = "readers") -> list[Any]:
        async with self.credit.connection() as conn:
            query = "select event_id, key, n from credit.effect where consumer_group = %s order by ord"
            return await (await conn.execute(query, (group,))).fetchall()

    async def until_effects(self, count: int, group: str = "readers") -> list[Any]:
        async def enough() -> bool:
            return len(await self.effects(group)) >= count

        await eventually(enough, what=f"{count} effects of {group}")
        return await self.effects(group)

    async def until_one(self, n: int, group: str = "readers") -> list[Any]:
        """Wait until the event of that number had its effect; return all effects."""

        async def has_come() -> bool:
            return any(row["n"] == n for row in await self.effects(group))

        await eventually(has_come, what=f"an effect of event {n} of {group}")
        return await self.effects(group)

    async def until_shared(self, members: int, group: str = "readers") -> None:
        """Wait until so many members of a group hold all its partitions among them."""

        async def are_shared() -> bool:
            return await self.shared(group, members)

        await eventually(are_shared, what=f"{members} members with a share each")

    async def until_sequenced(self, count: int) -> None:
        async def enough() -> bool:
            (row,) = await self.rows("select count(*) as n from eventlog.event")
            return bool(row["n"] >= count)

        await eventually(enough, what=f"{count} events in the log")

    async def until_published(self) -> None:
        """Wait until the relay, if there is one, has published the whole log."""

        async def is_published() -> bool:
            async with self.admin.connection() as conn:
                return not any(group.events for group in await lag(conn, groups=[RELAY_GROUP]))

        await eventually(is_published, what="everything is on Kafka")


async def make_effects_table(credit: Database) -> None:
    async with credit.transaction() as conn:
        await conn.execute(
            "create table if not exists credit.effect (ord bigint generated always as identity primary key, "
            "consumer_group text not null, event_id uuid not null, key text not null, n int not null)"
        )


@asynccontextmanager
async def running_log(*, credit: Database, admin: Database) -> AsyncIterator[Log]:
    """A log whose sequencer runs and whose source reads PostgreSQL."""
    await make_effects_table(credit)
    sequencer = Sequencer(database=admin, holder=uuid4().hex, lease_s=LEASE_S)
    async with running(sequencer.run), Listener(credit) as listener:
        yield Log(
            credit=credit,
            admin=admin,
            source=PostgresEventSource(listener=listener, lease_s=LEASE_S, retry_max_s=0.2),
            shared=lambda group, members: _shared_in_postgres(admin, group, members),
            replay=lambda from_seq: _replay_in_postgres(admin, from_seq),
        )


@asynccontextmanager
async def running_log_on_kafka(
    *,
    credit: Database,
    admin: Database,
    address: KafkaAddress,
    attempts_max: int | None = None,
    settle_after: int = SETTLE_AFTER,
) -> AsyncIterator[Log]:
    """A log whose sequencer and relay run and whose source reads topics of its own on Kafka."""
    await make_effects_table(credit)
    topics = topics_of_test(prefix=f"t{uuid4().hex[:12]}.")
    sequencer = Sequencer(database=admin, holder=uuid4().hex, lease_s=LEASE_S)
    kafka = AdminClient(address.config())
    async with Listener(admin) as listener:
        relay = Relay(
            database=admin,
            listener=listener,
            holder=uuid4().hex,
            address=address,
            topics=topics,
            schema_id=lambda _: None,
            lease_s=LEASE_S,
            settle_after=settle_after,
        )
        async with running(sequencer.run, relay.run):
            await asyncio.to_thread(ensure_topics, address, topics)
            yield Log(
                credit=credit,
                admin=admin,
                source=KafkaEventSource(
                    address=address,
                    topics=topics,
                    session_s=SESSION_S,
                    retry_max_s=0.2,
                    attempts_max=attempts_max,
                ),
                shared=lambda group, members: asyncio.to_thread(
                    _shared_in_kafka, kafka, topics, group, members
                ),
                replay=lambda from_seq: replay_from_kafka(
                    admin,
                    address=address,
                    topics=topics,
                    group="readers",
                    from_seq=from_seq,
                    effects_again=True,
                ),
                bus=(address.bootstrap, topics.prefix),
            )


def topics_of_test(*, prefix: str) -> Topics:
    return Topics(aggregate_of={"credit.tested": "credit.application"}, prefix=prefix)


@asynccontextmanager
async def log_on(
    request: pytest.FixtureRequest, open_database: Callable[[str], Awaitable[Database]]
) -> AsyncIterator[Log]:
    """A log on the bus that the fixture is parametrized with: `postgres` or `kafka`."""
    credit, admin = await open_database("credit"), await open_database("eventlog")
    if request.param == "postgres":
        opened = running_log(credit=credit, admin=admin)
    else:
        address: KafkaAddress = request.getfixturevalue("kafka_address")
        opened = running_log_on_kafka(credit=credit, admin=admin, address=address)
    async with opened as log:
        yield log


async def _shared_in_postgres(admin: Database, group: str, members: int) -> bool:
    async with admin.connection() as conn:
        found = await conn.execute(
            "select count(member) as held, count(distinct member) as members "
            "from eventlog.assignment where consumer_group = %s",
            (group,),
        )
        row: Any = await found.fetchone()
    return bool(row["held"] == 16 and row["members"] == members)


async def _replay_in_postgres(admin: Database, from_seq: int) -> None:
    async with admin.transaction() as conn:
        await replay(conn, group="readers", from_seq=from_seq, effects_again=True)


def _shared_in_kafka(kafka: AdminClient, topics: Topics, group: str, members: int) -> bool:
    name = topics.prefix + group
    try:
        found = kafka.describe_consumer_groups([name], request_timeout=1.0)[name].result(2)
    except (KafkaException, TimeoutError):  # its coordinator is not there yet
        return False
    held = [
        sum(place.topic in topics.of_events for place in member.assignment.topic_partitions)
        for member in found.members
    ]
    return len(held) == members and all(held) and sum(held) == topics.partitions


def assert_each_once_and_in_order(effects: Sequence[Any], sent: Sequence[NewEvent]) -> None:
    """Every event sent has exactly one effect, and those of a key stand in the order of sending."""
    assert sorted(str(row["event_id"]) for row in effects) == sorted(str(e.id) for e in sent)
    for key in {e.aggregate_id for e in sent}:
        wanted = [e.data["n"] for e in sent if e.aggregate_id == key]
        assert [row["n"] for row in effects if row["key"] == key] == wanted
