"""What every event source must do, with real producers and consumers. A new bus adds a parameter to `log`."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import structlog

from faregate.infra.database import Connection
from faregate.infra.eventlog import (
    EVENT_BYTES_MAX,
    EventTooLarge,
    ReplayPlaceUnknown,
    append,
    forget_group,
    lag,
)
from faregate.kernel.errors import UnavailableError
from faregate.kernel.event import Event, NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import (
    Log,
    assert_each_once_and_in_order,
    event,
    eventually,
    log_on,
    recorder,
    running,
)
from tests.eventlog_producer import FACTS

KEYS = [f"app_{number}" for number in range(40)]


@pytest.fixture(params=["postgres", "kafka"])
async def log(request: pytest.FixtureRequest, open_database: OpenDatabase) -> AsyncIterator[Log]:
    async with log_on(request, open_database) as log:
        yield log


@pytest.fixture(autouse=True)
def log_lines() -> Iterator[list[Any]]:
    """What was logged; captured always, since the console's rendering of tracebacks is slow."""
    with structlog.testing.capture_logs() as lines:
        yield lines


def many(count: int, *, start: int = 0) -> list[NewEvent]:
    return [event(KEYS[n % len(KEYS)], n=n) for n in range(start, start + count)]


async def test_an_event_arrives_as_it_was_appended(log: Log) -> None:
    seen: list[Event] = []

    async def remember(conn: Connection, events: Sequence[Event]) -> None:
        seen.extend(events)
        await recorder("readers")(conn, events)

    sent = NewEvent(
        id=event().id,
        type="credit.tested",
        aggregate_type="credit.application",
        aggregate_id="app_é",
        time=event().time,
        data={"n": 1, "nested": {"list": [1, 2.5, None, "ß"]}},
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    )
    async with running(log.member(handler=remember)):
        await log.append(sent)
        await log.until_effects(1)
    fields = ("id", "type", "aggregate_type", "aggregate_id", "time", "data", "traceparent")
    assert [[getattr(got, f) for f in fields] for got in seen] == [[getattr(sent, f) for f in fields]]


async def test_events_of_a_rolled_back_transaction_never_arrive(log: Log) -> None:
    async with running(log.member()):
        async with log.credit.transaction() as conn:
            await append(conn, [event("lost")])
            raise psycopg.Rollback
        await log.append(event("kept"))
        effects = await log.until_effects(1)
    assert [row["key"] for row in effects] == ["kept"]


async def test_events_of_a_key_arrive_in_the_order_of_appending(log: Log) -> None:
    sent = many(400)
    async with running(log.member(batch_max=7)):
        for start in range(0, 400, 9):
            await log.append(*sent[start : start + 9])
        effects = await log.until_effects(400)
    assert_each_once_and_in_order(effects, sent)


async def test_every_group_gets_every_event_from_the_start_of_the_log(log: Log) -> None:
    sent = many(50)
    await log.append(*sent)
    async with running(log.member("early")):
        await log.until_effects(50, "early")
        async with running(log.member("late")):
            effects = await log.until_effects(50, "late")
    assert_each_once_and_in_order(effects, sent)
    assert_each_once_and_in_order(await log.effects("early"), sent)


async def test_a_group_gets_only_the_types_that_it_handles(log: Log) -> None:
    async with running(log.member(types=["wanted"])):
        await log.append(*(event(n=n, kind="wanted" if n % 3 == 0 else "other") for n in range(30)))
        await log.append(event(n=99, kind="wanted"))
        effects = await log.until_effects(11)
    assert [row["n"] for row in effects] == [*range(0, 30, 3), 99]


async def test_a_transaction_held_open_neither_delays_later_events_nor_loses_its_own(log: Log) -> None:
    async with running(log.member()):
        async with log.credit.transaction() as held:
            await append(held, [event("held", n=-1)])
            for n in range(20):
                await log.append(event("later", n=n))
            effects = await log.until_effects(20)
            assert {row["key"] for row in effects} == {"later"}
        effects = await log.until_effects(21)
    assert [row["n"] for row in effects] == [*range(20), -1]


async def test_a_stopped_group_goes_on_where_it_was(log: Log) -> None:
    sent = many(60)
    async with running(log.member()):
        await log.append(*sent[:30])
        await log.until_effects(30)
    await log.append(*sent[30:])
    async with running(log.member()):
        effects = await log.until_effects(60)
    assert_each_once_and_in_order(effects, sent)


async def test_a_group_that_is_set_back_does_everything_from_there_again(log: Log) -> None:
    sent = many(120)
    async with running(log.member()):
        await log.append(*sent)
        await log.until_effects(120)
    await log.replay(81)
    async with running(log.member()):
        effects = await log.until_effects(160)
        await log.append(event("after", n=120))
        await log.until_effects(161)
    assert_each_once_and_in_order(effects[:120], sent)
    assert_each_once_and_in_order(effects[120:], sent[80:])


async def test_a_forgotten_group_is_gone_and_begins_anew_if_it_returns_without_doing_anything_twice(
    log: Log,
) -> None:
    sent = many(40)
    async with running(log.member()):
        await log.append(*sent)
        await log.until_effects(40)
    async with log.admin.transaction() as conn:
        await forget_group(conn, group="readers")
        assert not await lag(conn, groups=["readers"])
    async with running(log.member()):
        await log.append(event("after", n=40))
        effects = await log.until_effects(41)
    assert_each_once_and_in_order(effects[:40], sent)


@pytest.mark.parametrize("from_seq", [-1, 0, 121, 10**15])
async def test_a_replay_from_a_place_that_the_log_does_not_have_changes_nothing(
    log: Log, from_seq: int
) -> None:
    sent = many(160)
    async with running(log.member()):
        await log.append(*sent[:120])
        await log.until_effects(120)
        with pytest.raises(ReplayPlaceUnknown, match="its newest is 120"):
            await log.replay(from_seq)
        await log.append(*sent[120:])
        effects = await log.until_effects(160)
    assert_each_once_and_in_order(effects, sent)


async def test_a_replay_never_moves_a_group_forwards(log: Log) -> None:
    sent = many(160)
    async with running(log.member()):
        await log.append(*sent[:80])
        await log.until_effects(80)
    await log.append(*sent[80:])
    await log.until_sequenced(160)
    await log.until_published()
    await log.replay(140)
    async with running(log.member()):
        effects = await log.until_effects(160)
    assert_each_once_and_in_order(effects, sent)


async def test_a_live_group_that_is_set_back_notices_it_though_nothing_comes(log: Log) -> None:
    async with running(log.member()):
        await log.append(*many(80))
        await log.until_effects(80)
        await log.replay(41)
        effects = await log.until_effects(120)
    assert sorted(row["n"] for row in effects[80:]) == list(range(40, 80))


async def test_a_live_group_that_is_set_back_notices_it_with_what_comes_next(log: Log) -> None:
    sent = many(80)
    async with running(log.member()):
        await log.append(*sent)
        await log.until_effects(80)
        await log.replay(1)
        await log.append(*many(40, start=80))  # one for each key
        effects = await log.until_effects(200)
    assert sorted(row["n"] for row in effects) == sorted([*range(80), *range(120)])


async def test_a_slow_handler_is_not_overrun_and_gets_everything_in_order(log: Log) -> None:
    batches: list[int] = []

    async def slow(conn: Connection, events: Sequence[Event]) -> None:
        batches.append(len(events))
        await asyncio.sleep(0.005)
        await recorder("readers")(conn, events)

    sent = many(2000)
    async with running(log.member(handler=slow, batch_max=25)):
        for start in range(0, 2000, 500):
            await log.append(*sent[start : start + 500])
        effects = await log.until_effects(2000)
    assert_each_once_and_in_order(effects, sent)
    assert max(batches) <= 25


async def test_an_event_of_a_megabyte_arrives_whole(log: Log) -> None:
    seen: list[str] = []

    async def measure(conn: Connection, events: Sequence[Event]) -> None:
        seen.extend(e.data["text"] for e in events)
        await recorder("readers")(conn, events)

    text = "ß" * (1024 * 1024)
    big = replace(event(), data={"n": 0, "text": text})
    async with running(log.member(handler=measure)):
        await log.append(big, replace(event(n=1), data={"n": 1, "text": "small"}))
        await log.until_effects(2)
    assert seen == [text, "small"]


async def test_the_largest_event_arrives_and_a_larger_one_is_refused_when_it_is_appended(log: Log) -> None:
    def with_text(n: int, text_bytes: int) -> NewEvent:
        return replace(event(n=n), data={"n": n, "text": "x" * text_bytes})

    room = EVENT_BYTES_MAX - len('{"n": 0, "text": ""}')
    async with running(log.member()):
        await log.append(with_text(0, room))
        with pytest.raises(EventTooLarge):
            await log.append(event(n=1), with_text(2, room + 1))
        await log.append(event(n=3))
        effects = await log.until_effects(2)
    assert [row["n"] for row in effects] == [0, 3]


async def test_the_order_is_that_of_appending_whatever_the_clocks_of_producers_say(log: Log) -> None:
    now, skews = datetime.now(UTC), (0, 86_400, -86_400, 7_200, -5)
    sent = [replace(event("skewed", n=n), time=now + timedelta(seconds=skews[n % 5])) for n in range(50)]
    async with running(log.member(batch_max=8)):
        for one in sent:
            await log.append(one)
        effects = await log.until_effects(50)
    assert [row["n"] for row in effects] == list(range(50))


async def test_what_a_failing_handler_did_is_rolled_back_and_tried_again(log: Log) -> None:
    attempts = []

    async def fails_twice(conn: Connection, events: Sequence[Event]) -> None:
        await recorder("readers")(conn, events)
        attempts.append(len(events))
        if len(attempts) < 3:
            raise RuntimeError("not yet")

    async with running(log.member(handler=fails_twice)):
        await log.append(event())
        effects = await log.until_effects(1)
    assert len(effects) == 1
    assert attempts == [1, 1, 1]


async def test_pauses_grow_while_what_a_handler_needs_is_away_and_begin_again_once_it_handled(
    log: Log, log_lines: list[Any]
) -> None:
    attempts = 0

    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        nonlocal attempts
        attempts += 1
        if attempts not in (4, 6):
            raise UnavailableError("what the handler needs is away")
        await recorder("readers")(conn, events)

    async with running(log.member(handler=handle)):
        await log.append(event(n=0))
        await log.until_effects(1)
        await log.append(event(n=1))
        await log.until_effects(2)
    assert [line["retry_s"] for line in log_lines if "disconnected" in line["event"]] == [0.1, 0.2, 0.4, 0.1]


@pytest.mark.parametrize("batch_max", [1, 50])
async def test_a_poisonous_event_holds_up_its_own_key_only(log: Log, batch_max: int) -> None:
    sent = [event("poison" if n == 5 else KEYS[n % len(KEYS)], n=n) for n in range(100)]
    behind_it = event("poison", n=100)
    handler, poison = refuses(5)
    async with running(log.member(handler=handler, batch_max=batch_max)):
        await log.append(*sent, behind_it)
        await log.until_effects(80)
        assert not {5, 100} & {row["n"] for row in await log.effects()}
        poison.clear()
        effects = await log.until_effects(101)
    assert_each_once_and_in_order(effects, [*sent, behind_it])


async def test_a_failure_is_logged_once_an_attempt_with_the_id_of_the_event_at_fault(
    log: Log, log_lines: list[Any]
) -> None:
    sent = [event(KEYS[n], n=n) for n in range(20)]
    handler, poison = refuses(7)
    async with running(log.member(handler=handler)):
        await log.append(*sent)
        await eventually(has_line(log_lines, "eventlog.handler_failed"), what="a line about the failure")
        poison.clear()
        await log.until_effects(20)
    failures = [line for line in log_lines if line["log_level"] == "error"]
    assert {line["event_id"] for line in failures} == {str(sent[7].id)}
    assert [line["attempt"] for line in failures] == list(range(1, len(failures) + 1))
    assert {line["group"] for line in failures} == {"readers"}


async def test_members_of_a_group_share_its_keys_and_keep_their_order(log: Log) -> None:
    seen: dict[str, set[str]] = {"a": set(), "b": set(), "c": set()}
    sent = many(1200)
    async with running(*(log.member(handler=noting(name, seen), batch_max=5) for name in seen)):
        await log.until_shared(3)
        for start in range(0, 1200, 40):
            await log.append(*sent[start : start + 40])
        effects = await log.until_effects(1200)
    assert_each_once_and_in_order(effects, sent)
    assert set().union(*seen.values()) == set(KEYS)
    assert all(seen.values())


async def test_order_holds_while_members_come_and_go(log: Log) -> None:
    sent = many(900)

    async def produce() -> None:
        for start in range(0, 900, 10):
            await log.append(*sent[start : start + 10])
            await asyncio.sleep(0.02)

    producing = asyncio.create_task(produce())
    async with running(log.member(batch_max=5)):
        for _ in range(3):
            async with running(log.member(batch_max=5), log.member(batch_max=5)):
                await log.until_shared(3)
        effects = await log.until_effects(900)
    await producing
    assert_each_once_and_in_order(effects, sent)


@pytest.mark.requirement("C28")
async def test_of_a_producer_killed_while_it_appends_arrives_what_it_committed_and_nothing_else(
    log: Log, database_url: str
) -> None:
    async with running(log.member()):
        for start in (0, 10_000, 20_000):
            before = len(await log.effects(FACTS))
            producer = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "tests.eventlog_producer", database_url, str(start))
            )
            try:
                await log.until_effects(before + 30, FACTS)
                await asyncio.sleep(
                    random.uniform(0, 0.01)
                )  # anywhere in a transaction, not a wait for something
            finally:
                producer.kill()
                await producer.wait()

        async def all_arrived() -> bool:
            done, facts = await log.effects(), await log.effects(FACTS)
            return {row["event_id"] for row in done} >= {row["event_id"] for row in facts}

        await eventually(all_arrived, what="every fact's event arrived")
        await log.append(event("last", n=-1))
        effects = [row for row in await log.until_one(-1) if row["n"] != -1]
    facts = await log.effects(FACTS)
    assert len(facts) % 3 == 0
    assert sorted(row["event_id"] for row in effects) == sorted(row["event_id"] for row in facts)
    for key in {row["key"] for row in facts}:
        wanted = [row["n"] for row in facts if row["key"] == key]
        assert [row["n"] for row in effects if row["key"] == key] == wanted


def refuses(n: int) -> tuple[Any, set[int]]:
    """A handler that refuses the event of that number until the returned set is emptied."""
    poison = {n}

    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        if poison & {e.data["n"] for e in events}:
            raise RuntimeError("cannot handle this")
        await recorder("readers")(conn, events)

    return handle, poison


def noting(name: str, seen: dict[str, set[str]]) -> Any:
    async def handle(conn: Connection, events: Sequence[Event]) -> None:
        seen[name].update(e.aggregate_id for e in events)
        await recorder("readers")(conn, events)

    return handle


def has_line(lines: list[Any], name: str) -> Callable[[], Any]:
    async def found() -> bool:
        return any(line["event"] == name for line in lines)

    return found
