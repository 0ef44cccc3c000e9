"""What is due happens by itself, not before its time, and never shows where it has not happened yet."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from faregate.points.contracts.ledger import Balance, Burn, Earn, Hold, Operation, Refusal, Request, Void
from faregate.points.handlers import reading
from faregate.points.handlers.due import Due
from tests.conftest import OpenDatabase
from tests.points_ledger import START, Beside, day_of

pytestmark = [pytest.mark.requirement("L13")]
TODAY = START.date()


@pytest.fixture
async def beside(open_database: OpenDatabase) -> Beside:
    made = Beside(await open_database("points"), ["ada", "bob"])
    await made.open()
    return made


def due_of(beside: Beside) -> Due:
    return Due(database=beside.database, writer=beside.writer, day_of=day_of, clock=beside.clock)


async def done(beside: Beside, request: Request) -> Operation:
    [answer] = await beside.writer.write([request])
    assert isinstance(answer, Operation)
    return answer


async def balance(beside: Beside, member: str = "ada") -> Balance:
    instant = beside.clock.time
    return (
        await reading.balance_at(
            beside.database, member, at=instant + timedelta(milliseconds=1), day_of=day_of
        )
    ).balance


async def earned(beside: Beside, amount: int, *, days: int | None = None, **fields: Any) -> Operation:
    day = None if days is None else TODAY + timedelta(days=days)
    key = f"earn-{amount}-{days}-{fields}"
    return await done(beside, Earn(key=key, member_id="ada", amount=amount, expires_on=day, **fields))


@pytest.mark.parametrize(("seconds", "released"), [(59, 0), (60, 1)])
async def test_a_hold_is_released_when_its_time_is_over_and_not_before(
    beside: Beside, seconds: int, released: int
) -> None:
    await earned(beside, 100)
    await done(beside, Hold(key="hold", member_id="ada", amount=40, expires_in_s=60))
    beside.move(timedelta(seconds=seconds))
    assert await due_of(beside).release_holds() == released
    assert (await balance(beside)).held == (0 if released else 40)


async def test_points_can_be_spent_on_their_last_day_and_are_gone_on_the_next(beside: Beside) -> None:
    await earned(beside, 100, days=2)
    beside.move(timedelta(days=2))
    assert await due_of(beside).expire_points() == 0
    assert (await done(beside, Burn(key="last", member_id="ada", amount=1))).refusal is None
    beside.move(timedelta(days=1))
    assert await due_of(beside).expire_points() == 1
    assert await balance(beside) == Balance()
    await beside.check()


async def test_what_expired_is_not_spent_even_if_nobody_let_it_expire_yet(beside: Beside) -> None:
    await earned(beside, 100, days=0)
    await earned(beside, 5)
    beside.move(timedelta(days=1))
    answer = await done(beside, Burn(key="late", member_id="ada", amount=6))
    assert answer.refusal is Refusal.INSUFFICIENT_POINTS
    assert (await balance(beside)).posted == 5


async def test_what_is_due_does_not_show_in_an_account_that_is_read(beside: Beside) -> None:
    await earned(beside, 100, days=0)
    await earned(beside, 5)
    hold = await done(beside, Hold(key="hold", member_id="ada", amount=50, expires_in_s=1))
    assert hold.refusal is None
    async with beside.database.connection() as conn:  # the read goes by the clock of the database
        await conn.execute("update points.reservation set expires_at = '2020-01-01'")
    found = await reading.account_state(beside.database, "ada", day_of=day_of)
    assert (found.balance, found.holds) == (Balance(posted=5), [])
    assert [one.amount for one in found.expiries] == [5]


@pytest.mark.parametrize(("days", "left"), [(3, 100), (4, 60)])
async def test_points_that_expire_while_they_are_held_can_be_spent_but_are_gone_when_released(
    beside: Beside, days: int, left: int
) -> None:
    await earned(beside, 40, days=3)
    await earned(beside, 60)
    hold = await done(beside, Hold(key="hold", member_id="ada", amount=40, expires_in_s=999_999))
    beside.move(timedelta(days=days))
    await done(beside, Void(key="void", subject=hold.no))
    assert await balance(beside) == Balance(posted=left)


async def test_rolling_points_live_as_long_as_their_member_is_active(beside: Beside) -> None:
    first = {"is_rolling": True, "active_until": TODAY + timedelta(days=5)}
    await earned(beside, 100, **first)
    beside.move(timedelta(days=5))
    spend = Burn(key="spend", member_id="ada", amount=1, active_until=TODAY + timedelta(days=10))
    assert (await done(beside, spend)).refusal is None
    beside.move(timedelta(days=5))
    assert await due_of(beside).expire_points() == 0
    beside.move(timedelta(days=1))
    assert await due_of(beside).expire_points() == 1
    assert await balance(beside) == Balance()


async def test_a_day_is_let_expire_once_and_a_missed_one_later(beside: Beside) -> None:
    await earned(beside, 1, days=0)
    await earned(beside, 2, days=1)
    beside.move(timedelta(days=4))
    due = due_of(beside)
    assert [await due.expire_points() for _ in range(2)] == [1, 0]
    assert await balance(beside) == Balance()
