"""What purchases earn, tiers, refunds and conversions: tables with both sides of each boundary."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from datetime import UTC, date, datetime
from importlib.resources import files
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.points.contracts.programme import Earner, Purchase, TierState
from faregate.points.domain.conversion import LessThanOneBlock, Ratio, RatioInvalid, convert
from faregate.points.domain.programme import (
    Expiry,
    Programme,
    ProgrammeInvalid,
    Stacking,
    active_until,
    earn_for,
    expires_on,
    months_after,
    read_programme,
    refund_points,
)
from faregate.points.domain.tiers import earned_tier, new_member_tier, period_of, tier_change
from tests.earn_rules import rates_of

pytestmark = [pytest.mark.requirement("L13")]

DECLARED: dict[str, Any] = tomllib.loads(
    (files("faregate.points.artefacts") / "programme.toml").read_text(encoding="utf-8")
)
PROGRAMME = read_programme(DECLARED)
RATES = rates_of()
ON = date(2026, 3, 1)
BLUE = Earner(tier="blue")


def earned(
    amount: int, category: int = 5999, *, earner: Earner = BLUE, on: date = ON, by: Programme = PROGRAMME
) -> dict[str, int]:
    """Return the parts of what a purchase earns."""
    purchase = Purchase(amount_minor=amount, merchant_category=category, occurred_at=datetime.now(UTC))
    quote = earn_for(purchase, earner, by, rates=RATES, on=on)
    assert sum(part.points for part in quote.parts) == quote.points
    return {part.name: part.points for part in quote.parts}


@pytest.mark.parametrize(
    ("amount", "category", "earner", "on", "parts"),
    [
        (9_999, 5999, BLUE, ON, {"everything else": 99}),
        (10_000, 5999, BLUE, ON, {"everything else": 100}),
        (10_000, 4511, BLUE, ON, {"travel": 300}),
        (10_000, 3000, BLUE, ON, {"travel": 300}),
        (10_000, 3999, BLUE, ON, {"travel": 300}),
        (10_000, 4000, BLUE, ON, {"everything else": 100}),
        (10_000, 6011, BLUE, ON, {}),
        (10_000, 5812, BLUE, date(2026, 2, 28), {"dining": 200}),
        (10_000, 5812, BLUE, ON, {"dining": 200, "double dining in spring": 200}),
        (10_000, 5812, BLUE, date(2026, 5, 31), {"dining": 200, "double dining in spring": 200}),
        (10_000, 5812, BLUE, date(2026, 6, 1), {"dining": 200}),
        (10_000, 5999, Earner(tier="gold"), ON, {"everything else": 100, "tier gold": 50}),
        (99, 5999, Earner(tier="gold"), ON, {"tier gold": 1}),
        (10_000, 5999, Earner(tier="gone"), ON, {"everything else": 100}),
        (10_000, 5999, replace(BLUE, is_first_purchase=True), ON, {"everything else": 100, "welcome": 500}),
        (10_000_000, 5999, BLUE, ON, {"everything else": 100_000, "cap of a purchase": -50_000}),
        (10_000, 5999, replace(BLUE, earned_today=99_950), ON, {"everything else": 100, "cap of the day": -50}),
        (100, 5999, replace(BLUE, earned_this_month=500_000), ON, {"everything else": 1, "cap of the month": -1}),
    ],
)  # fmt: skip
def test_a_purchase_earns_by_the_first_rule_that_fits(
    amount: int, category: int, earner: Earner, on: date, parts: dict[str, int]
) -> None:
    assert earned(amount, category, earner=earner, on=on) == parts


@pytest.mark.parametrize(
    ("stacking", "promotions"),
    [
        (Stacking.BEST_ONLY, {"welcome": 500}),
        (Stacking.ADD, {"double dining in spring": 200, "welcome": 500}),
        (Stacking.MULTIPLY, {"double dining in spring": 200, "welcome": 500}),
    ],
)
def test_promotions_that_apply_at_once_follow_the_declared_rule(
    stacking: Stacking, promotions: dict[str, int]
) -> None:
    parts = earned(
        10_000, 5812, earner=replace(BLUE, is_first_purchase=True), by=replace(PROGRAMME, stacking=stacking)
    )
    assert parts == {"dining": 200, **promotions}


@pytest.mark.parametrize(("stacking", "points"), [("best_only", 300), ("add", 400), ("multiply", 600)])
def test_two_multipliers_are_taken_singly_added_or_multiplied(stacking: str, points: int) -> None:
    two = [{"name": "twice", "multiplier": "2"}, {"name": "thrice", "multiplier": "3"}]
    by = read_programme({**DECLARED, "promotions": {"stacking": stacking, "list": two}})
    assert sum(earned(10_000, by=by).values()) == points


def promotions(*declared: dict[str, Any], stacking: str = "add") -> Programme:
    return read_programme({**DECLARED, "promotions": {"stacking": stacking, "list": list(declared)}})


TWICE = {"name": "twice", "multiplier": "2", "cap": 150, "cap_per": "month"}
THRICE = {"name": "thrice", "multiplier": "3", "cap": 10, "cap_per": "purchase"}


@pytest.mark.parametrize(
    ("stacking", "so_far", "parts"),
    [
        ("add", 0, {"twice": 100, "thrice": 200, "cap of thrice": -190}),
        ("add", 60, {"twice": 100, "cap of twice": -10, "thrice": 200, "cap of thrice": -190}),
        ("add", 150, {"twice": 100, "cap of twice": -100, "thrice": 200, "cap of thrice": -190}),
        ("add", 999, {"twice": 100, "cap of twice": -100, "thrice": 200, "cap of thrice": -190}),
        ("best_only", 0, {"twice": 100}),
        ("best_only", 145, {"thrice": 200, "cap of thrice": -190}),
        ("multiply", 60, {"twice": 100, "cap of twice": -10, "thrice": 380, "cap of thrice": -370}),
    ],
)
def test_a_promotion_gives_what_its_own_cap_leaves_and_the_cut_is_a_part_of_the_quote(
    stacking: str, so_far: int, parts: dict[str, int]
) -> None:
    earner = replace(BLUE, promoted={"twice": so_far, "thrice": 999})
    found = earned(10_000, earner=earner, by=promotions(TWICE, THRICE, stacking=stacking))
    assert found == {"everything else": 100, **parts}


@given(
    st.lists(st.integers(0, 40_000), max_size=12), st.integers(0, 400), st.sampled_from(list(Stacking)),
    st.sampled_from(["1.3", "2", "0.5"]), st.integers(0, 70),
)  # fmt: skip
def test_however_purchases_come_no_promotion_gives_more_than_its_cap(
    amounts: list[int], cap: int, stacking: Stacking, multiplier: str, bonus: int
) -> None:
    capped = {"name": "a", "multiplier": multiplier, "bonus": bonus, "cap": cap, "cap_per": "month"}
    by = promotions(capped, {"name": "b", "multiplier": "1.7"}, stacking=stacking.value)
    promoted: dict[str, int] = {}
    for amount in amounts:
        purchase = Purchase(amount_minor=amount, merchant_category=5999, occurred_at=datetime.now(UTC))
        quote = earn_for(purchase, replace(BLUE, promoted=promoted), by, rates=RATES, on=ON)
        assert sum(part.points for part in quote.parts) == quote.points >= 0
        for name, points in quote.promoted.items():
            promoted[name] = promoted.get(name, 0) + points
    assert promoted.get("a", 0) <= cap


@given(
    st.integers(0, 10**9), st.sampled_from([3000, 5812, 5999, 6011]), st.sampled_from(["blue", "silver", "gold"]),
    st.integers(0, 200_000), st.sampled_from(list(Stacking)),
)  # fmt: skip
def test_the_parts_add_up_and_no_cap_is_passed(
    amount: int, category: int, tier: str, today: int, stacking: Stacking
) -> None:
    earner = Earner(tier=tier, earned_today=today, is_first_purchase=True)
    points = sum(earned(amount, category, earner=earner, by=replace(PROGRAMME, stacking=stacking)).values())
    assert 0 <= points <= min(PROGRAMME.cap_per_purchase, max(0, PROGRAMME.cap_per_day - today))


@given(st.integers(1, 10**7), st.integers(0, 10**6), st.lists(st.integers(0, 10**6), max_size=8))
def test_refunds_in_any_parts_take_back_what_was_earned_and_no_more(
    amount: int, points: int, refunds: list[int]
) -> None:
    refunded = taken = 0
    for refund in [*refunds, amount]:
        part = min(refund, amount - refunded)
        taken += refund_points(amount_minor=amount, points=points, refunded_minor=refunded, refund_minor=part)
        refunded += part
        assert taken <= points
    assert taken == points


def test_more_than_was_paid_cannot_be_refunded() -> None:
    with pytest.raises(ProgrammeInvalid, match="cannot be refunded"):
        refund_points(amount_minor=100, points=10, refunded_minor=60, refund_minor=41)


@pytest.mark.parametrize(
    ("kind", "earned_on", "last_day", "lives_until"),
    [
        ({"kind": "fixed", "months": 1}, date(2026, 1, 31), date(2026, 2, 28), None),
        ({"kind": "fixed", "months": 1}, date(2028, 1, 31), date(2028, 2, 29), None),
        ({"kind": "fixed", "months": 36}, date(2026, 3, 15), date(2029, 3, 15), None),
        ({"kind": "end_of_month", "months": 2}, date(2026, 12, 1), date(2027, 2, 28), None),
        ({"kind": "never"}, date(2026, 3, 15), None, None),
        ({"kind": "rolling", "days": 90}, date(2026, 3, 15), None, date(2026, 6, 13)),
    ],
)
def test_points_expire_by_the_declared_rule(
    kind: dict[str, Any], earned_on: date, last_day: date | None, lives_until: date | None
) -> None:
    by = read_programme({**DECLARED, "expiry": kind})
    assert (expires_on(earned_on, by), active_until(earned_on, by)) == (last_day, lives_until)
    assert by.expiry is Expiry(kind["kind"])


def state(tier: str, until: date) -> TierState:
    return TierState(tier=tier, valid_until=until)


THIS, NEXT = date(2026, 12, 31), date(2027, 12, 31)


@pytest.mark.parametrize(
    ("before", "qualifying", "on", "after"),
    [
        (state("blue", NEXT), 9_999, ON, None),
        (state("blue", NEXT), 10_000, ON, state("silver", NEXT)),
        (state("blue", NEXT), 40_000, ON, state("gold", NEXT)),
        (state("silver", THIS), 10_000, ON, state("silver", NEXT)),
        (state("silver", THIS), 9_999, ON, None),
        (state("gold", THIS), 0, THIS, None),
        (state("gold", THIS), 0, date(2027, 1, 1), state("silver", date(2028, 12, 31))),
        (state("silver", THIS), 0, date(2027, 1, 1), state("blue", date(2028, 12, 31))),
        (state("gold", THIS), 40_000, date(2027, 1, 1), state("gold", date(2028, 12, 31))),
        (state("gold", NEXT), 40_000, ON, None),
    ],
)
def test_a_tier_is_had_at_once_kept_to_the_end_of_the_next_period_and_lost_one_at_a_time(
    before: TierState, qualifying: int, on: date, after: TierState | None
) -> None:
    change = tier_change(before, qualifying=qualifying, on=on, programme=PROGRAMME)
    assert (change.after if change else None) == after


@given(st.integers(0, 100_000), st.integers(0, 100_000), st.sampled_from(["blue", "silver", "gold"]))
def test_more_points_never_make_a_lower_tier_and_no_fall_is_deeper_than_one(
    some: int, more: int, tier: str
) -> None:
    ranks = [one.name for one in PROGRAMME.tiers]

    def after(points: int) -> int:
        found = tier_change(state(tier, THIS), qualifying=points, on=date(2027, 1, 1), programme=PROGRAMME)
        return ranks.index(found.after.tier if found else tier)

    assert after(some) <= after(some + more)
    assert after(some) >= ranks.index(tier) - 1
    assert ranks.index(earned_tier(some, PROGRAMME)) <= after(some)


def test_a_period_is_the_year_or_the_twelve_months_that_end_with_a_day() -> None:
    rolling = replace(PROGRAMME, period="rolling_year")
    assert period_of(ON, PROGRAMME) == (date(2026, 1, 1), THIS)
    assert period_of(ON, rolling) == (date(2025, 3, 2), ON)
    assert new_member_tier(ON, PROGRAMME) == state("blue", NEXT)
    assert months_after(date(2026, 3, 31), -1) == date(2026, 2, 28)


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (("rules",), [], "rates by category and tier are published as the ruleset points-earning"),
        (("tiers", 1, "multiplier"), "1.25", "tiers, 2.: a tier has no multiplier"),
        (("promotions", "list", 0, "multiplier"), "-1", "promotions, 1.: -1 is negative"),
        (("tiers", 0, "threshold"), 5, "the first tier must begin at 0"),
        (("tiers", 2, "threshold"), 9, "the thresholds of tiers must rise"),
        (("promotions", "stacking"), "pile", "the programme: 'pile'"),
        (("caps", "per_day"), 1.5, "the programme: 1.5 is no whole number"),
        (("expiry",), {"kind": "rolling"}, "rolling points need `days`"),
        (("qualification", "period"), "week", "there is no period 'week'"),
        (("promotions", "list", 0, "tiers"), ["wood"], "promotions name tiers that are not there: wood"),
        (("promotions", "list", 0, "merchnats"), ["m"], "promotions, 1.: there is nothing named merchnats"),
        (("tiers", 1, "name"), "blue", "two tiers have one name"),
        (("promotions", "list", 0, "name"), "welcome", "two promotions have one name"),
        (("promotions", "list", 0, "cap"), 100, "needs both of `cap` and `cap_per`, or neither"),
        (("promotions", "list", 0, "cap_per"), "week", "promotions, 1.: 'week'"),
        (("transfers", "units"), 2, "of 1 points 2 cannot arrive"),
        (("version",), None, "the programme: version is missing"),
        (("partners", 0, "block"), 100, "a block of 100 points must give whole units"),
    ],
)
def test_a_declaration_that_cannot_be_meant_is_refused_and_the_place_is_named(
    path: tuple[Any, ...], value: Any, message: str
) -> None:
    declared = tomllib.loads(
        (files("faregate.points.artefacts") / "programme.toml").read_text(encoding="utf-8")
    )
    inside: Any = declared
    for step in path[:-1]:
        inside = inside[step]
    if value is None:
        del inside[path[-1]]
    else:
        inside[path[-1]] = value
    with pytest.raises((ProgrammeInvalid, RatioInvalid)) as refused:
        read_programme(declared)
    assert message in str(refused.value)


@given(st.integers(1, 10**9), st.sampled_from([(3, 1, 3), (1, 1, 1), (2, 3, 1_000), (5, 2, 500)]))
def test_a_conversion_makes_and_loses_nothing(points: int, of: tuple[int, int, int]) -> None:
    ratio = Ratio(points=of[0], units=of[1], block=of[2])
    if points < ratio.block:
        with pytest.raises(LessThanOneBlock):
            convert(points, ratio)
        return
    done = convert(points, ratio)
    assert done.points + done.left == points
    assert done.left < ratio.block
    assert done.units * ratio.points == done.points * ratio.units


def test_a_block_gives_whole_units() -> None:
    with pytest.raises(RatioInvalid):
        Ratio(points=3, units=1, block=10)
