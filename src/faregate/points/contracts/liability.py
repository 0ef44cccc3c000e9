"""What the programme owes for points that were earned and not spent."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True, kw_only=True)
class Outstanding:
    """Points that expire on one day, None: never, or with their members' activity."""

    expires_on: date | None
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Valuation:
    """What a point is worth, in millionths of a minor unit, and the share that is expected never to be spent.

    `breakage_dated` is of points with a last day, `breakage_open` of those without, both in basis points.
    """

    value_micro_minor: int
    breakage_dated_bp: int
    breakage_open_bp: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LiabilityLine:
    """The liability for points that expire in one month, None: never. `value_minor` is in minor units."""

    month: date | None
    points: int
    expected: int
    value_minor: int
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LiabilityReport:
    """The liability on a day. The lines add up to the totals; current is what is due within twelve months."""

    on: date
    lines: Sequence[LiabilityLine]
    points: int
    expected: int
    value_minor: int
    current_minor: int
    non_current_minor: int
