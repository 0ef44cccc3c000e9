"""Payments earn, earning makes tiers, and what is outstanding is what the balances say, whatever happened before."""

from __future__ import annotations

import tomllib
from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction
from importlib.resources import files
from itertools import count
from typing import Any
from uuid import uuid4

import pytest

from faregate.events.payments import (
    PaymentAuthorised,
    PaymentCaptured,
    PaymentEvent,
    PaymentRefunded,
    PaymentReversed,
)
from faregate.infra.database import Database
from faregate.points.contracts.ledger import Balance, Earn, Layer, Reverse
from faregate.points.contracts.liability import Valuation
from faregate.points.domain.earning import EARNING
from faregate.points.domain.lots import NEVER, ROLLING
from faregate.points.domain.programme import CapPeriod, Programme, Promotion, read_programme
from faregate.points.domain.reconciliation import Records
from faregate.points.handlers import reading
from faregate.points.handlers.earning import EarnRules, publish_first_earn_rules
from faregate.points.handlers.liability import liability
from faregate.points.handlers.payments import PaymentEarning
from faregate.points.handlers.reconcile import reconcile
from faregate.points.handlers.tiers import TierKeeper
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from faregate.points.store.programme import outstanding
from faregate.points.store.records import records_after
from faregate.rules import api as rules
from faregate.rules.api import Rulesets
from tests.conftest import OpenDatabase
from tests.earn_rules import next_version
from tests.points_ledger import MovedClock, day_of, run_seed

pytestmark = [pytest.mark.requirement("L13")]
NOW = datetime.now(UTC)
VALUATION = Valuation(value_micro_minor=500_000, breakage_dated_bp=0, breakage_open_bp=0)
_payments = count()


def programme() -> Programme:
    declared = tomllib.loads((files("faregate.points") / "artefacts" / "programme.toml").read_text("utf-8"))
    return replace(read_programme(declared), promotions=())


def begins(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    database = await open_database("points")
    async with database.transaction() as conn:
        await open_accounts(conn, ["ada", "bob"], at=NOW)
    await publish_first_earn_rules(database, now=NOW)
    return database


@pytest.fixture
def earning(database: Database) -> PaymentEarning:
    writer = LedgerWriter(database=database, day_of=day_of)
    return PaymentEarning(
        database=database,
        writer=writer,
        programme=programme(),
        rules=EarnRules(Rulesets()),
        day_of=day_of,
        begins=begins,
    )


def authorised(
    amount: int = 10_000, *, member: str | None = "ada", category: int = 5999
) -> PaymentAuthorised:
    return PaymentAuthorised(
        payment_id=f"pay_{next(_payments)}",
        member_id=member,
        amount_minor=amount,
        currency="EUR",
        merchant_category=category,
        merchant="mer_1",
        authorised_at=NOW,
    )


def captured(of: PaymentAuthorised, amount: int | None = None) -> PaymentCaptured:
    taken = of.amount_minor if amount is None else amount
    return PaymentCaptured(payment_id=of.payment_id, amount_minor=taken, captured_at=NOW)


def refunded(of: PaymentAuthorised, amount: int, refund: str = "ref_1") -> PaymentRefunded:
    return PaymentRefunded(payment_id=of.payment_id, refund_id=refund, amount_minor=amount, refunded_at=NOW)


async def follow(
    database: Database, earning: PaymentEarning, *events: PaymentEvent, lost: bool = False
) -> None:
    """Handle events as a consumer does; `lost`: the transaction that would have remembered it is rolled back."""
    async with database.connection() as conn, conn.transaction(force_rollback=lost):
        await earning.follow(conn, events)


async def balance(database: Database, member: str = "ada") -> Balance:
    return (await reading.balance_at(database, member, at=datetime.now(UTC), day_of=day_of)).balance


async def test_authorised_promises_and_captured_gives(database: Database, earning: PaymentEarning) -> None:
    payment = authorised()
    await follow(database, earning, payment)
    assert await balance(database) == Balance(pending=100)
    await follow(database, earning, captured(payment))
    assert await balance(database) == Balance(posted=100)


async def test_a_whole_life_may_come_in_one_batch(database: Database, earning: PaymentEarning) -> None:
    payment, other = authorised(), authorised(member="bob")
    await follow(
        database, earning, payment, other, captured(payment), captured(other), refunded(payment, 5_000)
    )
    assert (await balance(database), await balance(database, "bob")) == (
        Balance(posted=50),
        Balance(posted=100),
    )


async def test_a_part_that_is_captured_gives_its_share(database: Database, earning: PaymentEarning) -> None:
    payment = authorised()
    await follow(database, earning, payment, captured(payment, 3_333))
    assert await balance(database) == Balance(posted=33)


@pytest.mark.parametrize("end", ["reversed", "captured 0"])
async def test_what_was_not_captured_is_promised_no_more(
    database: Database, earning: PaymentEarning, end: str
) -> None:
    payment = authorised()
    ended = PaymentReversed(payment_id=payment.payment_id, reversed_at=NOW)
    await follow(database, earning, payment, ended if end == "reversed" else captured(payment, 0))
    assert await balance(database) == Balance()


async def test_refunds_take_back_what_the_purchase_earned_although_the_tier_is_another_now(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised()
    await follow(database, earning, payment, captured(payment))
    async with database.connection() as conn:
        await conn.execute("insert into points.tier values ('ada', 'gold', '2099-12-31')")
    for number, amount in enumerate([3_333, 3_333, 3_334]):
        await follow(database, earning, refunded(payment, amount, f"ref_{number}"))
    assert await balance(database) == Balance()


async def test_an_event_that_comes_again_does_nothing_again(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised()
    life = [payment, captured(payment), refunded(payment, 2_000)]
    for events in (life[:2], life[:2], life[1:], life[2:], life):
        await follow(database, earning, *events)
    assert await balance(database) == Balance(posted=80)


async def test_what_the_ledger_did_before_a_crash_is_found_after_it(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised()
    await follow(database, earning, payment, lost=True)
    other = authorised(9_900_000)  # which changes what the first would earn now: the cap of the day is near
    await follow(database, earning, other)
    await follow(database, earning, payment, captured(payment), lost=True)
    await follow(database, earning, payment, captured(payment))
    found = await balance(database)
    assert (found.posted, found.pending) == (100, 50_000)


async def test_tier_and_caps_are_those_of_the_member(database: Database, earning: PaymentEarning) -> None:
    async with database.connection() as conn:
        await conn.execute("insert into points.tier values ('ada', 'gold', '2099-12-31')")
    await follow(database, earning, authorised(), *(authorised(4_000_000) for _ in range(3)))
    assert await balance(database) == Balance(
        pending=100_000
    )  # 150, then 50,000 at most a purchase and 100,000 a day


async def test_a_batch_over_midnight_counts_each_payment_against_the_cap_of_its_day(
    database: Database, earning: PaymentEarning
) -> None:
    large = [authorised(5_000_000) for _ in range(6)]
    days = [
        one.model_copy(update={"authorised_at": NOW - timedelta(days=n % 2)}) for n, one in enumerate(large)
    ]
    await follow(database, earning, *days)
    assert await balance(database) == Balance(pending=200_000)  # 100,000 a day at most


async def test_a_payment_in_another_currency_earns_nothing(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised().model_copy(update={"currency": "JPY"})
    await follow(database, earning, payment, captured(payment))
    assert await balance(database) == Balance()


async def test_a_payment_may_come_before_the_account_of_its_member(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised(member="eve")
    await follow(database, earning, payment, captured(payment))
    assert await balance(database, "eve") == Balance(posted=100)


async def test_what_cannot_be_given_any_more_is_promised_no_more(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised()
    then = NOW - timedelta(days=60)
    writer = LedgerWriter(database=database, day_of=day_of, clock=MovedClock(then))
    past = replace(earning, writer=writer, programme=replace(earning.programme, months=0))
    await follow(database, past, payment.model_copy(update={"authorised_at": then}))
    assert (await balance(database)).pending == 100
    await follow(database, earning, captured(payment), refunded(payment, 100))
    assert await balance(database) == Balance()


async def test_one_batch_over_two_days_has_one_first_purchase(
    database: Database, earning: PaymentEarning
) -> None:
    welcome = Promotion(name="welcome", is_for_first_purchase=True, bonus=500)
    greeting = replace(earning, programme=replace(earning.programme, promotions=(welcome,)))
    before = authorised().model_copy(update={"authorised_at": NOW - timedelta(days=1)})
    await follow(database, greeting, before, authorised())
    assert await balance(database) == Balance(pending=700)


def promoting(earning: PaymentEarning, cap_per: CapPeriod, *, cap: int = 150, **more: Any) -> PaymentEarning:
    """Return the same with a promotion that doubles, up to a cap."""
    twice = Promotion(name="twice", multiplier=Fraction(2), cap=cap, cap_per=cap_per, **more)
    return replace(earning, programme=replace(earning.programme, promotions=(twice,)))


@pytest.mark.parametrize(
    ("cap_per", "points"),
    [
        (CapPeriod.PURCHASE, 4 * 200),
        (CapPeriod.DAY, 4 * 100 + 2 * 150),
        (CapPeriod.MONTH, 4 * 100 + 150),
        (CapPeriod.PROMOTION, 4 * 100 + 150),
    ],
)
@pytest.mark.parametrize("is_one_batch", [True, False])
async def test_a_promotion_gives_a_member_no_more_than_its_cap_in_its_period(
    database: Database, earning: PaymentEarning, cap_per: CapPeriod, points: int, is_one_batch: bool
) -> None:
    capped, middle = promoting(earning, cap_per), NOW.replace(day=15)
    events = [
        authorised().model_copy(update={"authorised_at": middle - timedelta(days=days)})
        for days in (0, 1, 1, 0)
    ]
    for part in [events] if is_one_batch else [[event] for event in events]:
        await follow(database, capped, *part)
    assert await balance(database) == Balance(pending=points)


async def test_a_cap_of_the_whole_promotion_counts_other_months_but_not_what_came_before_it(
    database: Database, earning: PaymentEarning
) -> None:
    middle = NOW.replace(day=15)
    months = [middle - timedelta(days=31 * n) for n in range(3)]
    await follow(
        database,
        promoting(earning, CapPeriod.MONTH),
        authorised().model_copy(update={"authorised_at": months[2]}),
    )
    assert (await balance(database)).pending == 200
    lasting = promoting(earning, CapPeriod.PROMOTION, begins=months[1].date())
    for at in (months[1], months[0]):
        await follow(database, lasting, authorised().model_copy(update={"authorised_at": at}))
    assert (await balance(database)).pending == 200 + 200 + 150


async def test_a_cap_is_each_members_and_what_was_withdrawn_does_not_count(
    database: Database, earning: PaymentEarning
) -> None:
    capped, payment = promoting(earning, CapPeriod.MONTH), authorised()
    ended = PaymentReversed(payment_id=payment.payment_id, reversed_at=NOW)
    await follow(database, capped, payment, authorised(member="bob"))
    await follow(database, capped, ended)
    await follow(database, capped, authorised(), authorised())
    assert (await balance(database), await balance(database, "bob")) == (
        Balance(pending=350),
        Balance(pending=200),
    )


async def test_what_a_promotion_gave_before_a_crash_counts_after_it(
    database: Database, earning: PaymentEarning
) -> None:
    capped, payment = promoting(earning, CapPeriod.MONTH), authorised()
    await follow(database, capped, payment, lost=True)
    await follow(database, capped, authorised())  # the cap knew nothing of the first, and leaves it less now
    await follow(database, capped, payment, authorised())
    assert await balance(database) == Balance(pending=200 + 200 + 100)


async def test_a_payment_of_nobody_earns_nothing(database: Database, earning: PaymentEarning) -> None:
    payment = authorised(member=None)
    await follow(database, earning, payment, captured(payment), refunded(payment, 10))
    assert (await reconcile(database)).operations == 0


async def deploy(database: Database, version: int, *, at: datetime, **points_per_unit: str) -> None:
    """Publish other rates, and make them the active ones from an instant on."""
    async with database.transaction() as conn:
        document = next_version(version, **points_per_unit)
        await rules.publish(conn, document=document, published_at=at, published_by="ada")
        await rules.activate(conn, name=EARNING, version=version, activated_at=at, activated_by="ada")


async def test_a_payment_earns_by_the_rules_that_were_active_when_it_was_authorised(
    database: Database, earning: PaymentEarning
) -> None:
    later = NOW + timedelta(seconds=1)
    await deploy(database, 2, at=later, everything_else="7")
    before, after = authorised(), authorised().model_copy(update={"authorised_at": later})
    long_ago = authorised().model_copy(update={"authorised_at": NOW - timedelta(days=1)})
    await follow(database, earning, after, before, long_ago)
    assert await balance(database) == Balance(pending=700 + 100 + 100)
    async with database.connection() as conn:
        rows = await (
            await conn.execute(
                "select details ->> 'reference' as payment, details ->> 'earned_by' as by from points.operation"
            )
        ).fetchall()
    assert {row["payment"]: row["by"] for row in rows} == {
        before.payment_id: "points-earning-1 programme-2026-1",
        after.payment_id: "points-earning-2 programme-2026-1",
        long_ago.payment_id: "points-earning-1 programme-2026-1",
    }


async def test_what_was_promised_before_a_crash_stands_although_other_rules_were_activated_since(
    database: Database, earning: PaymentEarning
) -> None:
    payment = authorised()
    await follow(database, earning, payment, lost=True)
    await deploy(database, 2, at=NOW + timedelta(microseconds=1), everything_else="7")
    other = replace(earning, rules=EarnRules(Rulesets()))
    late = payment.model_copy(update={"authorised_at": NOW + timedelta(seconds=1)})
    await follow(database, other, late, captured(payment))
    assert await balance(database) == Balance(posted=100)


async def test_a_batch_asks_for_the_rules_once_however_many_payments_are_in_it(database: Database) -> None:
    statements: list[str] = []

    class Counting:
        def __init__(self, conn: Any) -> None:
            self._conn = conn

        async def execute(self, query: str, given: Any = None) -> Any:
            statements.append(query)
            return await self._conn.execute(query, given)

    earn_rules = EarnRules(Rulesets())
    instants = [NOW + timedelta(seconds=n) for n in range(500)]
    async with database.connection() as conn:
        for _ in range(3):
            found = await earn_rules.active_at(Counting(conn), instants)  # type: ignore[arg-type]
            assert len(found) == 500
    assert len(statements) == 3 + 1  # the activations each time, the content of the version once


async def test_the_first_earn_rules_are_published_once(database: Database) -> None:
    await publish_first_earn_rules(database, now=NOW + timedelta(days=1))
    async with database.connection() as conn:
        assert [one.version for one in await rules.activations(conn, name=EARNING)] == [1]


def keeper() -> TierKeeper:
    return TierKeeper(programme=programme(), day_of=day_of, begins=begins, new_id=uuid4)


async def tier_of(database: Database) -> tuple[str, date] | None:
    async with database.connection() as conn:
        row: Any = await (await conn.execute("select tier, valid_until from points.tier")).fetchone()
    return row and (row["tier"], row["valid_until"])


async def test_qualifying_points_make_a_tier_and_what_is_reversed_does_not_count(
    database: Database, earning: PaymentEarning
) -> None:
    earns = [Earn(key=f"e{n}", member_id="ada", amount=8_000, qualifying=5_000) for n in range(2)]
    first, second = await earning.writer.write(earns)
    async with database.transaction() as conn:
        assert await keeper().look_at(conn, ["ada", "ada"], now=datetime.now(UTC)) == 1
    this_year = datetime.now(UTC).year
    assert await tier_of(database) == ("silver", date(this_year + 1, 12, 31))
    assert first is not None
    assert second is not None
    await earning.writer.write([Reverse(key="back", subject=second.no, amount=4_000)])  # type: ignore[union-attr]
    async with database.transaction() as conn:
        later = datetime(this_year + 2, 1, 1, 12, tzinfo=UTC)
        assert await keeper().look_at(conn, ["ada"], now=later) == 1
    assert await tier_of(database) == ("blue", date(this_year + 3, 12, 31))


async def test_a_tier_that_does_not_hold_any_more_is_lost_and_told(database: Database) -> None:
    async with database.connection() as conn:
        await conn.execute("insert into points.tier values ('ada', 'gold', '2020-12-31')")
    assert await keeper().look_at_overdue(database) == 1
    assert await keeper().look_at_overdue(database) == 0
    found = await tier_of(database)
    assert found is not None
    assert found[0] == "silver"


def outstanding_of(records: Records) -> Counter[date | None]:
    """Return what is there or held of an account by the day on which it expires, point range by point range."""
    account, days = records.account, Counter[date | None]()
    held = [no for no, one in records.reservations.items() if one.layer is Layer.HELD and not one.resolved_by]
    cuts = [cut for one in records.done if one.no in held for cut in one.cuts]
    for track, is_rolling in ((account.fixed, False), (account.rolling, True)):
        mine = [cut for cut in cuts if (cut.end.expires_on == ROLLING) is is_rolling]
        for piece in [*track.open_pieces(), *track.pieces(mine)]:
            day = account.rolling_until if is_rolling else piece.expires_on
            days[None if day == NEVER else day] += piece.amount
    return days


@pytest.mark.requirement("L2")
async def test_in_any_history_the_outstanding_lots_are_the_balances(open_database: OpenDatabase) -> None:
    database = await open_database("points")
    for seed in range(12):
        await run_seed(database, seed, operations=80, checked_each=False)
    found = await liability(database, valuation=VALUATION, day_of=lambda _: date.min)
    assert (found.is_reconciled, found.overdue) == (True, 0)
    assert found.posted > 100
    async with database.connection() as conn:
        all_records = await records_after(conn, after=0, limit=999)
        by_day = {one.expires_on: one.points for one in await outstanding(conn)}
    expected: Counter[date | None] = sum(map(outstanding_of, all_records), Counter())
    assert by_day == dict(+expected)
