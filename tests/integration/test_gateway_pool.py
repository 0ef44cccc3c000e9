"""Pools against a scripted provider: retries, unknown outcomes, fallback, budgets, fences."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import replace

import psycopg
import pytest

from faregate.gateway import api
from faregate.gateway.intent import State
from faregate.infra.database import Database
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown
from tests.conftest import OpenDatabase
from tests.integration.gateway_world import (
    DEDUPLICATING,
    ONE_SHOT,
    Answer,
    ScriptedProvider,
    World,
    new_intent,
    until,
)

BUSY = NotDone("overloaded", retryable=True)
ALT = replace(ONE_SHOT, provider="bureau_alt")


@pytest.fixture
async def credit(open_database: OpenDatabase) -> Database:
    return await open_database("credit")


async def declare(database: Database, *subject_ids: str, budget_s: float = 5.0) -> None:
    async with database.transaction() as conn:
        await api.declare(conn, [new_intent(one, budget_s=budget_s) for one in subject_ids])


async def history(database: Database, subject_id: str = "app_1") -> list[tuple[str, str]]:
    async with database.connection() as conn:
        rows = await api.history(conn, subject_id=subject_id)
    return [(row["provider_request_id"], row["state"]) for row in rows]


async def serve(world: World, *, budget_s: float = 5.0) -> list[str]:
    """Declare one check, serve it to its end, and return what the owner was told."""
    await declare(world.database, "app_1", budget_s=budget_s)
    async with world.serving():
        await until(lambda: bool(world.owner.told))
    return world.owner.statuses()


async def test_an_intent_is_sent_once_and_its_facts_reach_the_owner(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()])
    assert await serve(world) == ["done"]
    told = world.owner.told[0]
    assert (told.facts, told.provider_request_id, told.attempt) == ({"score": 7}, "app_1:bureau:1", 1)
    assert world.providers[0].sent == ["app_1:bureau:1"]
    assert await history(credit) == [("app_1:bureau:1", "done")]


async def test_the_raw_answer_is_kept_sealed(credit: Database, open_database: OpenDatabase) -> None:
    await serve(World(credit, [ScriptedProvider()]))
    gateway = await open_database("gateway")
    async with gateway.connection() as conn:
        row = await (await conn.execute("select response from gateway.intent")).fetchone()
    assert row == {"response": b"sealed:raw answer"}


@pytest.mark.requirement("C14")
async def test_a_refusal_that_may_pass_is_retried_under_the_same_id(credit: Database) -> None:
    world = World(credit, [ScriptedProvider(script=[BUSY, BUSY])])
    assert await serve(world) == ["done"]
    assert world.providers[0].sent == ["app_1:bureau:1"] * 3


@pytest.mark.requirement("C29")
async def test_the_fallback_is_asked_once_the_primary_is_known_not_done(credit: Database) -> None:
    primary = ScriptedProvider(script=[BUSY, BUSY, BUSY])
    world = World(credit, [primary, ScriptedProvider(capabilities=ALT)])
    assert await serve(world) == ["done"]
    assert await history(credit) == [("app_1:bureau:1", "not_done"), ("app_1:bureau_alt:1", "done")]
    assert [intent.provider_request_id for intent in world.owner.announced] == ["app_1:bureau_alt:1"]


async def test_a_final_refusal_without_a_fallback_is_told_with_its_reason(credit: Database) -> None:
    world = World(credit, [ScriptedProvider(script=[NotDone("malformed")])])
    assert await serve(world) == ["not_done"]
    assert world.owner.told[0].reason == "malformed"


@pytest.mark.requirement("C23")
async def test_an_unknown_outcome_is_looked_up_and_not_sent_again(credit: Database) -> None:
    provider = ScriptedProvider()

    async def executed_but_lost() -> Outcome:
        provider.execute("app_1:bureau:1")
        return Unknown("connection dropped")

    provider.script.append(executed_but_lost)
    assert await serve(World(credit, [provider])) == ["done"]
    assert (provider.sent, provider.executed) == (["app_1:bureau:1"], ["app_1:bureau:1"])


@pytest.mark.requirement("C23")
async def test_a_lagging_look_up_delays_the_next_attempt_until_not_found_is_final(credit: Database) -> None:
    provider = ScriptedProvider(script=[Unknown("timeout")])
    assert await serve(World(credit, [provider])) == ["done"]
    assert provider.sent == ["app_1:bureau:1", "app_1:bureau:2"]
    assert len(provider.asked) > 1
    assert await history(credit) == [("app_1:bureau:1", "not_done"), ("app_1:bureau:2", "done")]


async def test_a_deduplicating_provider_is_sent_the_same_id_again(credit: Database) -> None:
    provider = ScriptedProvider(capabilities=DEDUPLICATING, script=[Unknown("timeout")])
    assert await serve(World(credit, [provider])) == ["done"]
    assert provider.sent == ["app_1:bureau:1", "app_1:bureau:1"]


@pytest.mark.requirement("C29")
async def test_a_check_that_stays_unknown_ends_unknown_and_never_falls_back(credit: Database) -> None:
    primary = ScriptedProvider(script=[Unknown("timeout")], found=[Unknown("down")] * 999)
    alternative = ScriptedProvider(capabilities=ALT)
    assert await serve(World(credit, [primary, alternative]), budget_s=0.5) == ["unknown"]
    assert alternative.sent == []


async def test_a_result_that_is_found_after_the_budget_is_still_told(credit: Database) -> None:
    provider = ScriptedProvider(script=[Accepted(1.0)], found=[Accepted(0.1)] * 999)
    world = World(credit, [provider])
    await declare(credit, "app_1", budget_s=0.5)
    async with world.serving():
        await until(lambda: world.owner.statuses() == ["unknown"])
        provider.executed.append("app_1:bureau:1")
        provider.found.clear()
        await until(lambda: world.owner.statuses() == ["unknown", "done"])
    assert await history(credit) == [("app_1:bureau:1", "done")]


async def test_an_intent_that_nobody_could_send_in_time_is_not_done(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()])
    assert await serve(world, budget_s=-1.0) == ["not_done"]
    assert (world.owner.told[0].reason, world.providers[0].sent) == ("budget_exhausted", [])


async def test_a_polling_provider_is_asked_until_it_is_done(credit: Database) -> None:
    polling = replace(ONE_SHOT, polls=True, callback=False)
    found: list[Answer] = [Accepted(0.02), Accepted(0.02), Done({"annual_income_verified": 1})]
    provider = ScriptedProvider(capabilities=polling, script=[Accepted(0.02)], found=found)
    assert await serve(World(credit, [provider])) == ["done"]
    assert len(provider.asked) == 3


async def test_an_adapter_that_raises_leaves_an_unknown_outcome(credit: Database) -> None:
    async def broken() -> Outcome:
        raise ValueError("an answer that nobody expected")

    provider = ScriptedProvider(script=[broken])
    assert await serve(World(credit, [provider])) == ["done"]
    assert provider.sent == ["app_1:bureau:1", "app_1:bureau:2"]


async def test_a_hanging_call_is_cut_off_with_its_lease(credit: Database) -> None:
    async def hanging() -> Outcome:
        await asyncio.Event().wait()
        raise AssertionError

    world = World(credit, [ScriptedProvider(script=[hanging])], lease_grace_s=0.3)
    assert await serve(world) == ["done"]


async def test_a_request_that_the_owner_cannot_load_is_not_done(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()])
    world.owner.unloadable.add("app_1")
    assert await serve(world) == ["not_done"]
    assert (world.owner.told[0].reason, world.providers[0].sent) == ("request_missing", [])


def slow_once(world: World, seconds: float) -> None:
    """Let the first loading of requests take this long."""

    async def slowly() -> None:
        world.owner.loading = None
        await asyncio.sleep(seconds)

    world.owner.loading = slowly


async def test_a_claim_whose_lease_has_too_little_left_for_a_call_is_put_back(credit: Database) -> None:
    provider = ScriptedProvider(capabilities=replace(ONE_SHOT, timeout_s=9.0))
    world = World(credit, [provider], lease_grace_s=0.3)
    slow_once(world, 0.4)
    assert await serve(world, budget_s=60.0) == ["done"]
    assert provider.sent == ["app_1:bureau:1"], "nothing was sent at first, so that nothing is in doubt"
    assert provider.asked == []


async def test_a_claim_that_outlived_its_lease_sends_nothing(credit: Database) -> None:
    provider = ScriptedProvider()
    world = World(credit, [provider], lease_grace_s=1.5)
    slow_once(world, 2.2)
    assert await serve(world) == ["done"]
    assert len(provider.sent) == 1


async def test_an_owner_that_fails_for_one_result_does_not_hold_up_the_others(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()], lease_grace_s=0.3)
    world.owner.failing.add("app_7")
    await declare(credit, *(f"app_{number}" for number in range(20)), budget_s=60.0)
    async with world.serving():
        await until(lambda: len(world.owner.told) >= 19)
        world.owner.failing.clear()
        await until(lambda: world.owner.statuses("app_7") == ["done"])
    assert Counter(world.providers[0].sent).most_common(1)[0][1] == 1


async def test_a_pool_survives_losing_its_connections(
    credit: Database, open_database: OpenDatabase, database_url: str
) -> None:
    world = World(credit, [ScriptedProvider()])
    cut = "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'faregate_credit'"
    async with world.serving():
        with psycopg.connect(database_url, autocommit=True) as superuser:
            superuser.execute(cut)
        await until(lambda: credit.statistics.get("returns_bad", 0) > 0)
        await declare(await open_database("credit"), "app_1")
        await until(lambda: world.owner.statuses() == ["done"])


@pytest.mark.requirement("C14")
async def test_two_pools_share_the_work_without_sending_anything_twice(credit: Database) -> None:
    provider = ScriptedProvider()
    world = World(credit, [provider, provider])
    await declare(credit, *(f"app_{number}" for number in range(300)))
    async with world.serving():
        await until(lambda: len(world.owner.told) == 300)
    assert len(set(provider.sent)) == len(provider.sent) == 300


async def test_a_pool_never_has_more_calls_in_flight_than_it_may(credit: Database) -> None:
    in_flight = [0, 0]

    async def counted() -> Outcome:
        in_flight[0] += 1
        in_flight[1] = max(in_flight)
        await asyncio.sleep(0.01)
        in_flight[0] -= 1
        return Done({})

    world = World(credit, [ScriptedProvider(script=[counted] * 40)], concurrency=3)
    await declare(credit, *(f"app_{number}" for number in range(40)))
    async with world.serving():
        await until(lambda: len(world.owner.told) == 40)
    assert in_flight[1] == 3


async def test_a_stopped_pool_records_the_calls_in_flight(credit: Database) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def slow() -> Outcome:
        started.set()
        await go.wait()
        return Done({})

    world = World(credit, [ScriptedProvider(script=[slow])])
    await declare(credit, "app_1")
    async with world.serving():
        await started.wait()
        asyncio.get_running_loop().call_later(0.1, go.set)
    assert world.owner.statuses() == ["done"]


@pytest.mark.requirement("C5")
async def test_declaring_twice_or_elsewhere_declares_once(credit: Database) -> None:
    async with credit.transaction() as conn:
        first = await api.declare(conn, [new_intent(), new_intent()])
        again = await api.declare(
            conn, [new_intent(), new_intent(provider="bureau_alt"), new_intent("app_2")]
        )
    assert [intent.provider_request_id for intent in first] == ["app_1:bureau:1"]
    assert [intent.provider_request_id for intent in again] == ["app_2:bureau:1"]
    assert first[0].state is State.DECLARED


async def test_a_declaration_is_rolled_back_with_its_transaction(credit: Database) -> None:
    async def declare_and_fail() -> None:
        async with credit.transaction() as conn:
            await api.declare(conn, [new_intent()])
            raise RuntimeError

    with pytest.raises(RuntimeError):
        await declare_and_fail()
    assert await history(credit) == []


async def test_one_owner_sees_nothing_of_another(credit: Database, open_database: OpenDatabase) -> None:
    await declare(credit, "app_1")
    other = World(await open_database("rules"), [ScriptedProvider()])
    assert await history(other.database) == []
    async with credit.connection() as conn:
        assert (await api.summary(conn))[0]["intents"] == 1
    async with other.database.connection() as conn:
        assert await api.summary(conn) == []


async def test_a_subject_whose_id_begins_like_another_has_its_own_history(credit: Database) -> None:
    await declare(credit, "app_1", "app_10")
    assert await history(credit) == [("app_1:bureau:1", "declared")]
