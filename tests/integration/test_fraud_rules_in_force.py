"""Which rules judge a payment follows what operators do, and a card is always judged by the same ones."""

from __future__ import annotations

import asyncio

import pytest

from faregate.fraud.contracts.lists import ListKind, ListName, NewEntry
from faregate.fraud.domain.rule_check import FRAUD
from faregate.fraud.handlers.lists import ListDesk
from faregate.fraud.handlers.rulesets import RulesInForce, publish_first_rules
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.rules import api as rules
from tests.conftest import OpenDatabase
from tests.fraud_rules import NOON, MovedClock, Paying, act, activate, declining_large, publish


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("fraud")


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


@pytest.fixture
def in_force(database: Database, clock: MovedClock) -> RulesInForce:
    return RulesInForce(database=database, clock=clock)


def label(in_force: RulesInForce, card: str = "crd_1") -> str | None:
    ruleset = in_force.active(Paying(card_token=card))
    return None if ruleset is None else ruleset.label


async def test_nothing_decides_before_something_is_published(in_force: RulesInForce) -> None:
    await in_force.look()
    assert label(in_force) is None
    assert in_force.shadow() is None


@pytest.mark.requirement("F11")
async def test_activation_and_roll_back_are_followed(
    database: Database, in_force: RulesInForce, clock: MovedClock
) -> None:
    await publish_first_rules(database, now=clock.now())
    await publish_first_rules(database, now=clock.now())
    await in_force.look()
    assert label(in_force) == "fraud-payments-1"
    await activate(database, await publish(database, 2, declining_large), at=clock.move(seconds=1))
    await in_force.look()
    assert label(in_force) == "fraud-payments-2"
    async with database.transaction() as conn:
        await rules.roll_back(conn, name=FRAUD, act=act(clock.move(seconds=1)))
    await in_force.look()
    assert label(in_force) == "fraud-payments-1"


@pytest.mark.requirement("F11")
async def test_a_challenger_decides_its_share_of_the_cards_and_keeps_them(
    database: Database, in_force: RulesInForce, clock: MovedClock
) -> None:
    await publish_first_rules(database, now=clock.now())
    await publish(database, 2, declining_large)
    challenged: list[set[str]] = []
    cards = [f"crd_{number}" for number in range(1_000)]
    for basis_points in (1_000, 3_000, 10_000):
        async with database.transaction() as conn:
            await rules.set_split(
                conn, name=FRAUD, version=2, basis_points=basis_points, act=act(clock.move(seconds=1))
            )
        await in_force.look()
        challenged.append({card for card in cards if label(in_force, card) == "fraud-payments-2"})
    assert 60 < len(challenged[0]) < 140
    assert challenged[0] < challenged[1] < challenged[2]
    assert len(challenged[2]) == 1_000


@pytest.mark.requirement("F11")
async def test_a_shadow_watches_and_decides_nothing(
    database: Database, in_force: RulesInForce, clock: MovedClock
) -> None:
    await publish_first_rules(database, now=clock.now())
    await publish(database, 2, declining_large)
    async with database.transaction() as conn:
        await rules.set_shadow(conn, name=FRAUD, version=2, act=act(clock.move(seconds=1)))
    await in_force.look()
    shadow = in_force.shadow()
    assert shadow is not None
    assert (label(in_force), shadow.label) == ("fraud-payments-1", "fraud-payments-2")


async def test_the_last_known_rules_go_on_deciding_when_nobody_can_be_asked(
    open_database: OpenDatabase, database: Database, clock: MovedClock
) -> None:
    await publish_first_rules(database, now=clock.now())
    own = await open_database("fraud")
    in_force = RulesInForce(database=own, clock=clock)
    await in_force.look()
    await own.close()
    async with in_force.watched():
        await asyncio.sleep(0)
        assert label(in_force) == "fraud-payments-1"


async def test_changes_are_seen_by_a_process_that_watches(database: Database) -> None:
    clock = SystemClock()
    await publish_first_rules(database, now=NOON)
    in_force, desk = RulesInForce(database=database, clock=clock), ListDesk(database=database, clock=clock)
    async with in_force.watched():
        async with database.transaction() as conn:
            blocked = [NewEntry(kind=ListKind.CARD, value="crd_1")]
            await desk.add(conn, ListName.BLOCK, blocked, actor="ada", reason="a test")
        while not in_force.memberships(Paying(), at=clock.now())["block_card"]:  # noqa: ASYNC110 - see `watched`
            await asyncio.sleep(0.01)
        assert label(in_force) == "fraud-payments-1"
