"""The balances at an instant are what the account showed then, whether or not what was due is entered by now."""

from __future__ import annotations

from copy import deepcopy
from datetime import datetime, timedelta
from typing import Any

import pytest

from faregate.points.contracts.ledger import Balance, Burn, Earn, Hold, Operation, Request, SetFloor
from faregate.points.handlers import reading
from tests.conftest import OpenDatabase
from tests.points_ledger import MEMBERS, START, Beside, RandomRequests, day_of

pytestmark = [pytest.mark.requirement("L13")]
TODAY = START.date()


@pytest.fixture
async def beside(open_database: OpenDatabase) -> Beside:
    made = Beside(await open_database("points"), ["ada", "bob"])
    await made.open()
    return made


async def done(beside: Beside, request: Request) -> None:
    [answer] = await beside.writer.write([request])
    assert isinstance(answer, Operation)
    assert answer.refusal is None


async def at(beside: Beside, instant: datetime, member: str = "ada") -> Balance:
    return (await reading.balance_at(beside.database, member, at=instant, day_of=day_of)).balance


async def touch(beside: Beside) -> None:
    await done(beside, SetFloor(key=f"touch-{beside.clock.time}", member_id="ada", floor=0, reason="test"))


async def earned(beside: Beside, amount: int, *, days: int | None, **fields: Any) -> None:
    day = None if days is None else TODAY + timedelta(days=days)
    await done(
        beside, Earn(key=f"e-{amount}-{days}", member_id="ada", amount=amount, expires_on=day, **fields)
    )


@pytest.mark.parametrize("is_entered", [False, True])
async def test_a_lot_whose_day_is_over_does_not_count_before_and_after_its_expiry_is_entered(
    beside: Beside, is_entered: bool
) -> None:
    await earned(beside, 100, days=0)
    await earned(beside, 30, days=1)
    await earned(beside, 5, days=None)
    if is_entered:
        beside.move(timedelta(days=9))
        await touch(beside)
    midnights = [datetime(2026, 3, 2 + n, tzinfo=START.tzinfo) for n in (0, 1)]
    moment = timedelta(microseconds=1)
    assert [(await at(beside, one - moment)).posted for one in midnights] == [135, 35]
    assert [(await at(beside, one)).posted for one in midnights] == [35, 5]


@pytest.mark.parametrize("is_entered", [False, True])
async def test_a_hold_whose_time_is_over_is_released_and_what_expired_in_it_is_gone(
    beside: Beside, is_entered: bool
) -> None:
    await earned(beside, 100, days=0)
    await done(beside, Hold(key="h", member_id="ada", amount=40, expires_in_s=86_400))
    if is_entered:
        beside.move(timedelta(days=9))
        await touch(beside)
    ends, midnight = START + timedelta(days=1), datetime(2026, 3, 2, tzinfo=START.tzinfo)
    moment = timedelta(microseconds=1)
    assert await at(beside, midnight - moment) == Balance(posted=100, held=40)
    assert await at(beside, midnight) == Balance(posted=40, held=40)  # held, it can still be posted
    assert await at(beside, ends - moment) == Balance(posted=40, held=40)
    assert await at(beside, ends) == Balance()


async def test_rolling_points_end_with_the_activity_that_was_known_then(beside: Beside) -> None:
    await earned(beside, 100, days=None, is_rolling=True, active_until=TODAY + timedelta(days=2))
    beside.move(timedelta(days=1))
    spend = Burn(key="b", member_id="ada", amount=1, active_until=TODAY + timedelta(days=4))
    await done(beside, spend)
    for is_entered in (False, True):
        if is_entered:
            beside.move(timedelta(days=20))
            await touch(beside)
        assert [(await at(beside, START + timedelta(days=days))).posted for days in (3, 4, 5)] == [99, 99, 0]


async def test_before_anything_happened_there_is_nothing(beside: Beside) -> None:
    await earned(beside, 100, days=0)
    assert await at(beside, START - timedelta(days=1)) == Balance()


async def test_in_any_history_each_instant_is_told_then_and_later_as_the_model_has_it(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("points")
    asked = 0
    for seed in range(12):
        beside = Beside(database, [f"{name}-{seed}" for name in MEMBERS])
        await beside.open()
        requests = RandomRequests(seed, members=beside.members, prefix=str(seed))
        told: list[tuple[str, datetime, Balance]] = []
        for _ in range(30):
            await beside.ask([requests.next(beside) for _ in range(requests.size())])
            wait = requests.wait()
            for share in (0.3, 0.9):
                instant = beside.clock.time + wait * share
                for member in beside.members:
                    found = await at(beside, instant, member)
                    assert found == modelled(beside, instant, member), (seed, member, instant)
                    told.append((member, instant, found))
            beside.move(wait)
        for member, instant, found in told:
            assert await at(beside, instant, member) == found, (seed, member, instant)
            asked += 1
    assert asked > 2_000


def modelled(beside: Beside, instant: datetime, member: str) -> Balance:
    """Return what the model would have at an instant if nothing else happened."""
    model = deepcopy(beside.model)
    model.now, model.today = instant, day_of(instant)
    model.settle(member)
    posted, pending, held, owed = model.accounts[member].balance()
    return Balance(posted=posted, pending=pending, held=held, owed=owed)
