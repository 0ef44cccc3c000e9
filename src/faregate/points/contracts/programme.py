"""What the programme says: how many points a purchase earns and why, and which tier a member has."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Purchase:
    """A purchase as far as it earns. `amount_minor` in minor units of the programme's currency."""

    amount_minor: int
    merchant_category: int
    merchant: str = ""
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Earner:
    """Who earns: the tier, and how many points were earned so far in the periods that caps speak of.

    `promoted` is what promotions gave so far, by name, each in the period of its own cap.
    """

    tier: str
    earned_today: int = 0
    earned_this_month: int = 0
    is_first_purchase: bool = False
    promoted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """By what a purchase earns: the rule's name, points a unit of the currency, and what the tier makes of them."""

    rule: str
    points_per_unit: Fraction
    multiplier: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part of what a purchase earns: `name` of the rule, the promotion or the cap, which counts negative."""

    name: str
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EarnQuote:
    """What a purchase earns, in parts that add up to it. `expires_on` None: never, unless `active_until` is given.

    `version` is the programme's, `rules` that of the ruleset whose rate it earned by. `promoted` is what each promotion
    gave, before the caps of the programme.
    """

    points: int
    qualifying: int
    parts: Sequence[Part]
    expires_on: date | None
    active_until: date | None
    version: str
    rules: str
    promoted: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class TierState:
    """The tier of a member, and the last day on which it holds without being earned again."""

    tier: str
    valid_until: date


@dataclass(frozen=True, slots=True, kw_only=True)
class TierChange:
    """A tier that became another one."""

    before: TierState
    after: TierState
    is_upgrade: bool
