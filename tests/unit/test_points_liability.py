"""The liability for points: figures of the handbook, both directions of rounding, and lines that add up."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.points.contracts.liability import Outstanding, Valuation
from faregate.points.domain.liability import (
    Deferred,
    ValuationInvalid,
    allocated_to_points,
    breakage_bp,
    liability_report,
    recognised,
)

pytestmark = [pytest.mark.requirement("L13")]
ON = date(2026, 6, 30)


@pytest.mark.parametrize(("expected", "second"), [(9_900, 3_552), (9_200, 4_140)])
def test_the_worked_example_of_the_handbook(expected: int, second: int) -> None:
    """KPMG, Revenue handbook, worked example on p. 280: 9,000 deferred, 9,700 expected, 4,500 redeemed, then 8,500."""
    first = recognised(Deferred(allocated=9_000), redeemed=4_500, expected=9_700)
    assert first.recognised == 4_175
    assert recognised(first, redeemed=8_500, expected=expected).recognised - first.recognised == second


@pytest.mark.parametrize(
    ("price", "goods", "points", "deferred"),
    [
        (100_000, 100_000, 0, 0),
        (100_000, 90_000, 10_000, 10_000),
        (10, 3, 1, 3),
        (10, 1, 1, 5),
        (1, 1, 1, 1),
        (2, 3, 1, 1),
    ],
)
def test_a_price_is_shared_by_what_each_would_cost_alone(
    price: int, goods: int, points: int, deferred: int
) -> None:
    assert allocated_to_points(price=price, goods_alone=goods, points_alone=points) == deferred


@pytest.mark.parametrize(("redeemed", "total"), [(0, 0), (1, 0), (2, 1), (3, 1), (4, 1)])
def test_a_half_is_rounded_up_and_less_down(redeemed: int, total: int) -> None:
    assert (
        recognised(Deferred(allocated=1), redeemed=redeemed, expected=4).recognised == min(total, 1)
        or total > 1
    )


@pytest.mark.parametrize(("redeemed", "expected"), [(5, 4), (-1, 4), (0, 0)])
def test_more_than_is_expected_cannot_be_redeemed(redeemed: int, expected: int) -> None:
    with pytest.raises(ValuationInvalid):
        recognised(Deferred(allocated=100), redeemed=redeemed, expected=expected)


@given(st.integers(0, 10**9), st.lists(st.integers(0, 1000), min_size=1, max_size=6))
def test_all_that_was_deferred_becomes_revenue_in_the_end(allocated: int, steps: list[int]) -> None:
    deferred, redeemed, expected = Deferred(allocated=allocated), 0, sum(steps) or 1
    for step in steps:
        redeemed += step
        after = recognised(deferred, redeemed=redeemed, expected=expected)
        assert after.recognised >= deferred.recognised
        deferred = after
    assert recognised(deferred, redeemed=expected, expected=expected).recognised == allocated


def test_the_month_in_which_the_year_ends_has_a_line_on_either_side() -> None:
    days = [Outstanding(expires_on=date(2027, 6, day), points=day) for day in (10, 11)]
    report = liability_report(
        days,
        valuation=Valuation(value_micro_minor=1_000_000, breakage_dated_bp=0, breakage_open_bp=0),
        on=date(2026, 6, 10),
    )
    assert [(line.points, line.is_current) for line in report.lines] == [(10, True), (11, False)]


def test_breakage_is_what_expired_of_what_was_earned() -> None:
    assert breakage_bp([(1_000, 100), (3_000, 500)]) == 1_500
    assert breakage_bp([]) == 0
    with pytest.raises(ValuationInvalid):
        breakage_bp([(10, 11)])


def test_a_report_by_months_says_what_is_due_within_a_year() -> None:
    valuation = Valuation(value_micro_minor=500_000, breakage_dated_bp=1_000, breakage_open_bp=2_000)
    report = liability_report(
        [
            Outstanding(expires_on=date(2026, 7, 31), points=1_000),
            Outstanding(expires_on=date(2026, 7, 3), points=1_000),
            Outstanding(expires_on=date(2027, 6, 30), points=200),
            Outstanding(expires_on=date(2027, 7, 1), points=400),
            Outstanding(expires_on=None, points=100),
        ],
        valuation=valuation,
        on=ON,
    )
    assert [(line.month, line.points, line.expected, line.value_minor, line.is_current) for line in report.lines] == [
        (date(2026, 7, 1), 2_000, 1_800, 900, True), (date(2027, 6, 1), 200, 180, 90, True),
        (date(2027, 7, 1), 400, 360, 180, False), (None, 100, 80, 40, False),
    ]  # fmt: skip
    assert (report.points, report.expected, report.value_minor) == (2_700, 2_420, 1_210)
    assert (report.current_minor, report.non_current_minor) == (990, 220)


@given(
    st.lists(st.tuples(st.none() | st.integers(0, 2_000), st.integers(0, 10**7)), max_size=20),
    st.integers(0, 2_000_000), st.integers(0, 10_000), st.integers(0, 10_000),
)  # fmt: skip
def test_lines_add_up_and_none_is_off_by_a_unit(
    points: list[tuple[int | None, int]], value: int, dated: int, undated: int
) -> None:
    outstanding = [
        Outstanding(expires_on=None if days is None else ON + timedelta(days=days), points=amount)
        for days, amount in points
    ]
    valuation = Valuation(value_micro_minor=value, breakage_dated_bp=dated, breakage_open_bp=undated)
    report = liability_report(outstanding, valuation=valuation, on=ON)
    assert report.points == sum(amount for _, amount in points)
    for line in report.lines:
        share = (10_000 - (undated if line.month is None else dated)) / 10_000
        assert abs(line.expected - line.points * share) < 1.001
        assert abs(line.value_minor - line.points * share * value / 1e6) < 1.001


def test_a_valuation_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ValuationInvalid):
        liability_report(
            [], valuation=Valuation(value_micro_minor=1, breakage_dated_bp=10_001, breakage_open_bp=0), on=ON
        )
