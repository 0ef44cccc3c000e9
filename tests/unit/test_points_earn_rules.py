"""The earn rules as a ruleset: the same points as the table that the programme once declared, and what is refused."""

from __future__ import annotations

import tomllib
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from importlib.resources import files
from math import floor
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.points.contracts.programme import Earner, Purchase
from faregate.points.domain.earning import EARNING, EarnRulesUnfit
from faregate.points.domain.programme import earn_for, read_programme
from faregate.points.handlers.earning import check_earn_rules
from faregate.rules.findings import Kind, Severity
from tests.earn_rules import DOCUMENT, next_version, rates_of, rows

pytestmark = [pytest.mark.requirement("L13")]
PROGRAMME = read_programme(
    tomllib.loads((files("faregate.points.artefacts") / "programme.toml").read_text(encoding="utf-8"))
)
RATES = rates_of()

ONCE_DECLARED = [
    ("travel", [range(3000, 4000), range(4511, 4512), range(4722, 4723), range(7011, 7012)], 3),
    ("dining", [range(5811, 5815)], 2),
    ("no points on cash", [range(6010, 6013), range(6051, 6052)], 0),
    ("everything else", [range(10_000)], 1),
]
MULTIPLIERS = {"blue": Fraction(1), "silver": Fraction(5, 4), "gold": Fraction(3, 2)}


def once_earned(purchase: Purchase, earner: Earner, *, on: date) -> dict[str, int]:
    """Return the parts by the table and the code that was there before the ruleset, written out plainly."""
    rule, _, per_unit = next(
        one for one in ONCE_DECLARED if any(purchase.merchant_category in r for r in one[1])
    )
    base = Fraction(purchase.amount_minor, 100) * per_unit
    with_tier = base * MULTIPLIERS[earner.tier]
    gains = []
    if rule == "dining" and date(2026, 3, 1) <= on <= date(2026, 5, 31):
        gains.append(("double dining in spring", with_tier))
    if earner.is_first_purchase:
        gains.append(("welcome", Fraction(500)))
    parts = {rule: floor(base), f"tier {earner.tier}": floor(with_tier) - floor(base)}
    points = floor(with_tier)
    if gains:
        name, gain = max(gains, key=lambda one: one[1])
        parts[name] = floor(with_tier + gain) - points
        points += parts[name]
    for name, most in (
        ("cap of a purchase", 50_000),
        ("cap of the day", max(0, 100_000 - earner.earned_today)),
        ("cap of the month", max(0, 500_000 - earner.earned_this_month)),
    ):
        if points > most:
            parts[name], points = most - points, most
    return {name: part for name, part in parts.items() if part}


@given(
    amount=st.integers(0, 10**8),
    category=st.one_of(
        st.integers(0, 9_999), st.sampled_from([2999, 3000, 3999, 4000, 5810, 5811, 5814, 5815, 6012, 6013])
    ),
    earner=st.builds(
        Earner,
        tier=st.sampled_from(list(MULTIPLIERS)),
        earned_today=st.integers(0, 200_000),
        earned_this_month=st.integers(0, 600_000),
        is_first_purchase=st.booleans(),
    ),
    day=st.integers(0, 200),
)
def test_the_first_ruleset_gives_part_by_part_what_the_declared_table_gave(
    amount: int, category: int, earner: Earner, day: int
) -> None:
    on = date(2026, 1, 15) + timedelta(days=day)
    purchase = Purchase(
        amount_minor=amount, merchant_category=category, occurred_at=datetime(2026, 1, 1, tzinfo=UTC)
    )
    quote = earn_for(purchase, earner, PROGRAMME, rates=RATES, on=on)
    assert {part.name: part.points for part in quote.parts} == once_earned(purchase, earner, on=on)
    assert (quote.rules, quote.version) == ("points-earning-1", "programme-2026-1")


def test_every_category_has_the_rate_that_it_had() -> None:
    for rule, ranges, per_unit in reversed(ONCE_DECLARED):
        for edge in {edge for r in ranges for edge in (r.start, r.stop - 1)}:
            found = RATES.rate(edge, "silver")
            if found.rule == rule:
                assert (found.points_per_unit, found.multiplier) == (per_unit, Fraction(5, 4))


def test_the_engine_is_asked_once_for_each_category_and_tier() -> None:
    asked: list[Any] = []

    class Counting:
        label = "points-earning-1"

        def evaluate(self, context: Any) -> Any:
            asked.append(context)
            return inner.evaluate(context)

    inner = RATES._table
    counted = type(RATES)(Counting())
    for _ in range(3):
        counted.rate(5812, "gold")
        counted.rate(5812, "blue")
    assert len(asked) == 2


def test_a_factor_that_no_decimal_can_tell_is_exact() -> None:
    rates = rates_of(next_version(2, dining="4/3"))
    assert rates.rate(5812, "blue").points_per_unit * 3 == 4


def errors(document: dict[str, Any], programme: Any = PROGRAMME) -> list[str]:
    found = check_earn_rules(document, programme)
    return [one.message for one in found if one.severity is Severity.ERROR]


def without_the_last_row(document: dict[str, Any]) -> None:
    rows(document, "rate").pop()


def for_a_tier_that_is_not_there(document: dict[str, Any]) -> None:
    rows(document, "tiers")[0]["tier"] = '"wood"'


def with_a_broken_cell(document: dict[str, Any]) -> None:
    rows(document, "rate")[0]["category"] = "[3000.."


def negative(document: dict[str, Any]) -> None:
    rows(document, "rate")[0]["points_per_unit"] = '"-3"'


def renamed(document: dict[str, Any]) -> None:
    rows(document, "rate")[1]["rule"] = '"eating out"'


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_the_last_row, "no row matches"),
        (for_a_tier_that_is_not_there, "never matches"),
        (with_a_broken_cell, "is broken"),
        (negative, "does not say what category 3000 earns in tier blue"),
        (renamed, "promotions of the programme name rules by which nothing earns: dining"),
    ],
)
def test_earn_rules_by_which_the_programme_could_not_earn_are_refused(
    change: Callable[[dict[str, Any]], None], message: str
) -> None:
    document = deepcopy(DOCUMENT)
    change(document)
    assert any(message in one for one in errors(document))


def test_the_released_rules_have_nothing_said_against_them() -> None:
    assert check_earn_rules(DOCUMENT, PROGRAMME) == []
    assert DOCUMENT["name"] == EARNING


def test_rules_that_do_not_know_a_tier_of_the_programme_are_refused_and_say_so_when_asked() -> None:
    wider = replace(PROGRAMME, tiers=[*PROGRAMME.tiers, replace(PROGRAMME.tiers[0], name="platinum")])
    [said] = [one for one in check_earn_rules(DOCUMENT, wider) if one.kind is Kind.GRAPH]
    assert "earns in tier platinum" in said.message
    with pytest.raises(EarnRulesUnfit):
        RATES.rate(5812, "platinum")
