"""The liability for outstanding points, and the revenue that their redemption brings in by IFRS 15.

A sale that gives points is two promises. The price is shared between them by their stand-alone prices, where points
count with the share that is expected to be redeemed. The part of the points is deferred, and becomes revenue as they
are redeemed, in proportion to all that is expected to be; when that expectation changes, what was recognised so far is
brought up to date at once (IFRS 15, B39 to B48; the figures of the tests are the worked example of KPMG's handbook
"Revenue for loyalty programmes", which the tests name).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction

from faregate.kernel.errors import InvalidError
from faregate.points.contracts.liability import LiabilityLine, LiabilityReport, Outstanding, Valuation
from faregate.points.domain.programme import months_after

_MICRO = 1_000_000
_BASIS = 10_000


class ValuationInvalid(InvalidError):
    """A value or a share of breakage that cannot be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred:
    """What was deferred for points, and what of it became revenue so far, in minor units."""

    allocated: int
    recognised: int = 0


def allocated_to_points(*, price: int, goods_alone: int, points_alone: int) -> int:
    """Return the part of a price that is deferred for points, by relative stand-alone prices, all in minor units.

    `points_alone` counts only what is expected to be redeemed. Half a unit is rounded up.
    """
    if price < 0 or goods_alone < 0 or points_alone < 0 or goods_alone + points_alone == 0:
        raise ValuationInvalid("prices are not negative, and not all of them 0")
    return _rounded(Fraction(price * points_alone, goods_alone + points_alone))


def recognised(deferred: Deferred, *, redeemed: int, expected: int) -> Deferred:
    """Return what has become revenue once so many points are redeemed in all, of so many now expected to be.

    It is cumulative: the whole share so far, so that a new expectation corrects the periods before. Raises
    ValuationInvalid when more is redeemed than is expected.
    """
    if not 0 <= redeemed <= expected or expected == 0:
        raise ValuationInvalid(f"{redeemed} redeemed of {expected} expected")
    total = _rounded(Fraction(deferred.allocated * redeemed, expected))
    return Deferred(allocated=deferred.allocated, recognised=total)


def breakage_bp(cohorts: Iterable[tuple[int, int]]) -> int:
    """Return the share of points that was never spent, in basis points, of cohorts of (earned, expired) points."""
    earned = expired = 0
    for one_earned, one_expired in cohorts:
        if not 0 <= one_expired <= one_earned:
            raise ValuationInvalid(f"of {one_earned} points {one_expired} cannot have expired")
        earned, expired = earned + one_earned, expired + one_expired
    return _rounded(Fraction(expired * _BASIS, earned)) if earned else 0


def liability_report(
    outstanding: Iterable[Outstanding], *, valuation: Valuation, on: date
) -> LiabilityReport:
    """Return the liability for outstanding points on a day, by the month in which they expire.

    What expires within twelve months is current; the month in which these end has two lines.
    Each total is rounded once, and the lines share it by largest remainder, so that they add up to it.
    """
    _check(valuation)
    limit, parts = months_after(on, 12), dict[tuple[date | None, bool], int]()
    for one in outstanding:
        month = None if one.expires_on is None else one.expires_on.replace(day=1)
        part = (month, one.expires_on is not None and one.expires_on <= limit)
        parts[part] = parts.get(part, 0) + one.points
    ordered = sorted(parts.items(), key=lambda item: (item[0][0] or date.max, not item[0][1]))
    exact = [
        Fraction(points * (_BASIS - _breakage(month, valuation)), _BASIS) for (month, _), points in ordered
    ]
    expected = _shared(exact)
    values = _shared([points * Fraction(valuation.value_micro_minor, _MICRO) for points in exact])
    lines = [
        LiabilityLine(
            month=month,
            points=points,
            expected=expected[place],
            value_minor=values[place],
            is_current=is_current,
        )
        for place, ((month, is_current), points) in enumerate(ordered)
    ]
    current = sum(line.value_minor for line in lines if line.is_current)
    return LiabilityReport(
        on=on,
        lines=lines,
        points=sum(line.points for line in lines),
        expected=sum(expected),
        value_minor=sum(values),
        current_minor=current,
        non_current_minor=sum(values) - current,
    )


def _breakage(month: date | None, valuation: Valuation) -> int:
    return valuation.breakage_open_bp if month is None else valuation.breakage_dated_bp


def _check(valuation: Valuation) -> None:
    shares = (valuation.breakage_dated_bp, valuation.breakage_open_bp)
    if valuation.value_micro_minor < 0 or not all(0 <= share <= _BASIS for share in shares):
        raise ValuationInvalid("a value is not negative, and a breakage is from 0 to 10000 basis points")


def _shared(exact: Sequence[Fraction]) -> list[int]:
    """Round parts to whole numbers that add up to their rounded sum: the largest remainders are rounded up."""
    down = [part.numerator // part.denominator for part in exact]
    missing = _rounded(sum(exact, Fraction())) - sum(down)
    order = sorted(range(len(exact)), key=lambda place: (down[place] - exact[place], place))
    for place in order[:missing]:
        down[place] += 1
    return down


def _rounded(value: Fraction) -> int:
    """Round to the nearest whole number, a half up."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)
