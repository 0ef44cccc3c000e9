"""Callbacks: early, late, twice, out of order, contradicting: harmless, and the first final one counts."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from faregate.gateway import api
from faregate.gateway.api import ProviderRequestNotFound
from faregate.gateway.contracts import Callback
from faregate.infra.database import Database, DatabaseUnavailable
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown
from tests.conftest import OpenDatabase
from tests.integration.gateway_world import ONE_SHOT, ScriptedProvider, World, new_intent, until

VERIFIED = Done({"identity_verified": True}, b"raw callback")
FAILED = NotDone("failure")
FOREVER = [Accepted(0.1)] * 999


@pytest.fixture
async def credit(open_database: OpenDatabase) -> Database:
    return await open_database("credit")


async def call_back(
    database: Database,
    outcome: Outcome,
    *,
    key: str = "msg_1",
    request_id: str = "app_1:bureau:1",
    provider: str = "bureau",
) -> bool:
    callback = Callback(provider=provider, provider_request_id=request_id, outcome=outcome)
    async with database.transaction() as conn:
        return await api.accept_callback(
            conn, callback=callback, dedupe_key=key, seal=lambda _, raw: b"s:" + raw
        )


async def declare(database: Database, *subject_ids: str, budget_s: float = 5.0) -> None:
    async with database.transaction() as conn:
        await api.declare(conn, [new_intent(one, budget_s=budget_s) for one in subject_ids])


async def state_of(database: Database, subject_id: str = "app_1") -> str:
    async with database.connection() as conn:
        return str((await api.history(conn, subject_id=subject_id))[-1]["state"])


async def results(open_database: OpenDatabase) -> list[str]:
    gateway = await open_database("gateway")
    async with gateway.connection() as conn:
        rows = await (await conn.execute("select result from gateway.callback order by ord")).fetchall()
    return [row["result"] for row in rows]


@pytest.mark.requirement("C9")
async def test_a_callback_settles_an_accepted_intent(credit: Database, open_database: OpenDatabase) -> None:
    world = World(credit, [ScriptedProvider(script=[Accepted(1.0)], found=list(FOREVER))])
    await declare(credit, "app_1")
    async with world.serving():
        await until(lambda: bool(world.providers[0].sent))
        assert await call_back(credit, VERIFIED)
        await until(lambda: world.owner.statuses() == ["done"])
    assert world.owner.told[0].facts == {"identity_verified": True}
    gateway = await open_database("gateway")
    async with gateway.connection() as conn:
        row = await (await conn.execute("select response from gateway.intent")).fetchone()
    assert row == {"response": b"s:raw callback"}


@pytest.mark.requirement("C9")
async def test_a_callback_before_the_call_returned_is_not_overwritten_by_it(credit: Database) -> None:
    returning = asyncio.Event()

    async def slow() -> Outcome:
        await returning.wait()
        return NotDone("too late", retryable=True)

    provider = ScriptedProvider(script=[slow])
    world = World(credit, [provider])
    await declare(credit, "app_1")
    async with world.serving():
        await until(lambda: bool(provider.sent))
        await call_back(credit, VERIFIED)
        await until(lambda: world.owner.statuses() == ["done"])
        returning.set()
    assert (await state_of(credit), world.owner.statuses(), len(provider.sent)) == ("done", ["done"], 1)


async def test_a_callback_before_anything_was_sent_is_taken(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()])
    await declare(credit, "app_1")
    await call_back(credit, VERIFIED)
    assert await world.settler().settle() == 1
    async with world.serving():
        pass
    assert (world.owner.statuses(), world.providers[0].sent) == (["done"], [])


@pytest.mark.requirement("C9")
async def test_a_repeated_callback_is_kept_once(credit: Database) -> None:
    await declare(credit, "app_1")
    assert [await call_back(credit, VERIFIED) for _ in range(3)] == [True, False, False]


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    ("first", "second", "at_once", "told", "second_result"),
    [
        (VERIFIED, VERIFIED, True, ["done"], "repeated"),
        (VERIFIED, FAILED, False, ["done"], "contradicts"),
        (FAILED, VERIFIED, True, ["not_done"], "contradicts"),
        (Accepted(1.0), VERIFIED, True, ["done"], "applied"),
        (Unknown("?"), FAILED, False, ["not_done"], "applied"),
    ],
)
async def test_the_first_final_callback_counts(
    credit: Database,
    open_database: OpenDatabase,
    first: Outcome,
    second: Outcome,
    at_once: bool,
    told: list[str],
    second_result: str,
) -> None:
    world = World(credit, [ScriptedProvider()])
    await declare(credit, "app_1")
    await call_back(credit, first, key="msg_1")
    if not at_once:
        await world.settler().settle()
    await call_back(credit, second, key="msg_2")
    await world.settler().settle()
    assert world.owner.statuses() == told
    assert (await results(open_database))[1] == second_result


@pytest.mark.requirement("C9")
async def test_a_late_success_is_told_after_the_check_ended_unknown(credit: Database) -> None:
    world = World(credit, [ScriptedProvider(script=[Accepted(1.0)], found=list(FOREVER))])
    await declare(credit, "app_1", budget_s=0.3)
    async with world.serving():
        await until(lambda: world.owner.statuses() == ["unknown"])
        await call_back(credit, VERIFIED)
        await until(lambda: world.owner.statuses() == ["unknown", "done"])


async def test_a_late_failure_closes_the_journal_without_telling_again(credit: Database) -> None:
    world = World(credit, [ScriptedProvider(script=[Accepted(1.0)], found=list(FOREVER))])
    await declare(credit, "app_1", budget_s=0.3)
    async with world.serving():
        await until(lambda: world.owner.statuses() == ["unknown"])
    await call_back(credit, FAILED)
    await world.settler().settle()
    assert (await state_of(credit), world.owner.statuses()) == ("not_done", ["unknown"])


async def test_a_failure_callback_makes_room_for_the_fallback(credit: Database) -> None:
    alternative = ScriptedProvider(capabilities=replace(ONE_SHOT, provider="bureau_alt"))
    world = World(credit, [ScriptedProvider(script=[Accepted(1.0)], found=list(FOREVER)), alternative])
    await declare(credit, "app_1")
    async with world.serving():
        await until(lambda: bool(world.providers[0].sent))
        await call_back(credit, FAILED)
        await until(lambda: world.owner.statuses() == ["done"])
    assert alternative.sent == ["app_1:bureau_alt:1"]


async def test_a_lost_callback_is_made_up_for_by_asking(credit: Database) -> None:
    provider = ScriptedProvider(script=[Accepted(1.0)], executed=["app_1:bureau:1"])
    world = World(credit, [provider])
    await declare(credit, "app_1", budget_s=1.0)
    async with world.serving():
        await until(lambda: world.owner.statuses() == ["done"])
    assert provider.asked == ["app_1:bureau:1"]


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    ("request_id", "provider"),
    [("app_2:bureau:1", "bureau"), ("app_1:bureau:2", "bureau"), ("app_1:bureau:1", "kyc")],
)
async def test_a_callback_without_an_intent_is_not_found_and_changes_nothing(
    credit: Database, open_database: OpenDatabase, request_id: str, provider: str
) -> None:
    await declare(credit, "app_1")
    with pytest.raises(ProviderRequestNotFound, match=request_id):
        await call_back(credit, VERIFIED, request_id=request_id, provider=provider)
    assert await results(open_database) == []


async def test_another_owners_request_is_not_found(credit: Database, open_database: OpenDatabase) -> None:
    await declare(credit, "app_1")
    with pytest.raises(ProviderRequestNotFound):
        await call_back(await open_database("rules"), VERIFIED)


async def test_a_callback_at_fault_does_not_hold_up_the_others(
    credit: Database, open_database: OpenDatabase
) -> None:
    world = World(credit, [ScriptedProvider()])
    world.owner.failing.add("app_2")
    await declare(credit, "app_1", "app_2", "app_3")
    for number in (1, 2, 3):
        await call_back(credit, VERIFIED, key=f"msg_{number}", request_id=f"app_{number}:bureau:1")
    stop = asyncio.Event()
    settling = asyncio.create_task(world.settler().run(stop))
    await until(lambda: len(world.owner.told) == 2)
    stop.set()
    await settling
    assert await results(open_database) == ["applied", "failed", "applied"]


async def test_those_of_a_failed_batch_are_taken_singly_and_the_next_ones_together_again(
    credit: Database,
) -> None:
    world = World(credit, [ScriptedProvider()])
    world.owner.failing.add("app_2")
    await declare(credit, *(f"app_{number}" for number in range(1, 7)))
    for number in (1, 2, 3):
        await call_back(credit, VERIFIED, key=f"msg_{number}", request_id=f"app_{number}:bureau:1")
    settler = world.settler()
    with pytest.raises(RuntimeError):
        await settler.settle()
    for number in (4, 5, 6):
        await call_back(credit, VERIFIED, key=f"msg_{number}", request_id=f"app_{number}:bureau:1")
    assert [await settler.settle() for _ in range(4)] == [1, 1, 1, 3]


@pytest.mark.requirement("C28")
async def test_after_an_outage_callbacks_are_settled_together(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()])
    world.owner.outages.append(DatabaseUnavailable("the connection was lost"))
    await declare(credit, "app_1", "app_2", "app_3")
    for number in (1, 2, 3):
        await call_back(credit, VERIFIED, key=f"msg_{number}", request_id=f"app_{number}:bureau:1")
    settler = world.settler()
    with pytest.raises(DatabaseUnavailable):
        await settler.settle()
    assert await settler.settle() == 3


async def test_several_settlers_settle_each_callback_once(credit: Database) -> None:
    world = World(credit, [ScriptedProvider()])
    subjects = [f"app_{number}" for number in range(60)]
    await declare(credit, *subjects)
    for copy in ("a", "b"):
        for one in subjects:
            await call_back(credit, VERIFIED, key=f"{copy}_{one}", request_id=f"{one}:bureau:1")
    settlers = [world.settler() for _ in range(4)]
    while sum(await asyncio.gather(*(settler.settle() for settler in settlers))):
        continue
    assert sorted(result.subject_id for result in world.owner.told) == sorted(subjects)


async def test_the_roles_of_contexts_cannot_touch_the_tables(credit: Database) -> None:
    for table in ("gateway.intent", "gateway.callback"):
        with pytest.raises(Exception, match="permission denied"):
            async with credit.connection() as conn:
                await conn.execute(f"select from {table}")
