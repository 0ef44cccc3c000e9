"""The programme: how many points a purchase earns, in parts that say why, and what a refund takes back.

The rates by merchant category and tier are a ruleset's (`earning`). What is declared here is what goes on top of them:
promotions and how they stack, caps, expiry. That is reckoned in exact fractions until the one rounding at the end, and
depends on what a member earned so far, which no table of the engine can say.
"""

from __future__ import annotations

import calendar
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import StrEnum
from fractions import Fraction
from math import floor
from typing import Any

from faregate.kernel.errors import InvalidError
from faregate.points.contracts.programme import Earner, EarnQuote, Part, Purchase
from faregate.points.domain.conversion import EVEN, Ratio, TransferRatio
from faregate.points.domain.earning import EARNING, EarnRates


class ProgrammeInvalid(InvalidError):
    """The declaration of the programme says something that cannot be meant; the message names the place."""


class Stacking(StrEnum):
    """What becomes of promotions that apply at once."""

    BEST_ONLY = "best_only"
    ADD = "add"
    MULTIPLY = "multiply"


class CapPeriod(StrEnum):
    """In what time a promotion gives a member so many points at most."""

    PURCHASE = "purchase"
    DAY = "day"
    MONTH = "month"
    PROMOTION = "promotion"


class Expiry(StrEnum):
    """When points expire."""

    FIXED = "fixed"
    END_OF_MONTH = "end_of_month"
    ROLLING = "rolling"
    NEVER = "never"


@dataclass(frozen=True, slots=True, kw_only=True)
class Tier:
    """A tier: from so many qualifying points in a period on. What it makes of a rate, the earn rules say."""

    name: str
    threshold: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Promotion:
    """More points for a while: a multiplier of what rule and tier give, or a bonus. No rules or tiers means all.

    It gives a member at most `cap` points in each period of `cap_per`; None: as many as there are.
    """

    name: str
    begins: date = date.min
    ends: date = date.max
    rules: Sequence[str] = ()
    tiers: Sequence[str] = ()
    merchants: Sequence[str] = ()
    is_for_first_purchase: bool = False
    multiplier: Fraction = Fraction(1)
    bonus: int = 0
    cap: int | None = None
    cap_per: CapPeriod = CapPeriod.PROMOTION

    def capped(self, gain: Fraction, earner: Earner) -> Fraction:
        """Return what of a gain the cap leaves to a member."""
        if self.cap is None:
            return gain
        so_far = 0 if self.cap_per is CapPeriod.PURCHASE else earner.promoted.get(self.name, 0)
        return min(gain, Fraction(max(0, self.cap - so_far)))

    def counts_on(self, day: date) -> bool:
        """Whether what it gave before must be known on a day."""
        return (
            self.cap is not None
            and self.cap_per is not CapPeriod.PURCHASE
            and self.begins <= day <= self.ends
        )

    def applies(self, purchase: Purchase, earner: Earner, *, rule: str, on: date) -> bool:
        """Whether a purchase profits from it."""
        return (
            self.begins <= on <= self.ends
            and (not self.rules or rule in self.rules)
            and (not self.tiers or earner.tier in self.tiers)
            and (not self.merchants or purchase.merchant in self.merchants)
            and (earner.is_first_purchase or not self.is_for_first_purchase)
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Programme:
    """The declaration. Caps are in points, of one member; `months` or `days` go with the kind of expiry."""

    version: str
    currency: str
    tiers: Sequence[Tier]
    promotions: Sequence[Promotion]
    stacking: Stacking
    cap_per_purchase: int
    cap_per_day: int
    cap_per_month: int
    expiry: Expiry
    months: int = 0
    days: int = 0
    period: str = "calendar_year"
    minor_per_unit: int = 100
    partners: Mapping[str, Ratio] = field(default_factory=dict)
    transfers: TransferRatio = EVEN

    def tier(self, name: str) -> Tier:
        """Return a tier by name, the lowest for one that is not declared any more."""
        return next((tier for tier in self.tiers if tier.name == name), self.tiers[0])


def earn_for(
    purchase: Purchase, earner: Earner, programme: Programme, *, rates: EarnRates, on: date
) -> EarnQuote:
    """Return what a purchase earns on a day of the programme. The parts add up to the points exactly.

    Raises EarnRulesUnfit when the rates do not say it.
    """
    tier = programme.tier(earner.tier)
    rate = rates.rate(purchase.merchant_category, tier.name)
    base = Fraction(purchase.amount_minor, programme.minor_per_unit) * rate.points_per_unit
    with_tier = base * rate.multiplier
    applying = [one for one in programme.promotions if one.applies(purchase, earner, rule=rate.rule, on=on)]
    total, promoted = with_tier, dict[str, int]()
    parts = [Part(name=rate.rule, points=floor(base))]
    parts.append(Part(name=f"tier {tier.name}", points=floor(with_tier) - floor(base)))
    for name, gain, capped in _gains(applying, with_tier, programme.stacking, earner=earner):
        parts.append(Part(name=name, points=floor(total + gain) - floor(total)))
        parts.append(Part(name=f"cap of {name}", points=floor(total + capped) - floor(total + gain)))
        promoted[name] = floor(total + capped) - floor(total)
        total += capped
    points = floor(total)
    for name, most in _caps(programme, earner):
        if points > most:
            parts.append(Part(name=name, points=most - points))
            points = most
    return EarnQuote(
        points=points,
        qualifying=min(points, floor(with_tier)),
        parts=[part for part in parts if part.points],
        expires_on=expires_on(on, programme),
        active_until=active_until(on, programme),
        version=programme.version,
        rules=rates.label,
        promoted={name: points for name, points in promoted.items() if points > 0},
    )


def _gains(
    applying: Sequence[Promotion], before: Fraction, stacking: Stacking, *, earner: Earner
) -> Iterator[tuple[str, Fraction, Fraction]]:
    """Return what each promotion would add and what its cap leaves of that, by the rule for several at once."""
    gains: list[tuple[str, Fraction, Fraction]] = []
    multiplied = before
    for one in applying:
        by_factor = (multiplied if stacking is Stacking.MULTIPLY else before) * (one.multiplier - 1)
        gain = by_factor + one.bonus
        capped = one.capped(gain, earner)
        multiplied += min(by_factor, capped)
        gains.append((one.name, gain, capped))
    if stacking is Stacking.BEST_ONLY and gains:
        gains = [max(gains, key=lambda gain: gain[2])]  # the first of those that give the same
    yield from gains


def _caps(programme: Programme, earner: Earner) -> Iterator[tuple[str, int]]:
    yield "cap of a purchase", programme.cap_per_purchase
    yield "cap of the day", max(0, programme.cap_per_day - earner.earned_today)
    yield "cap of the month", max(0, programme.cap_per_month - earner.earned_this_month)


def refund_points(*, amount_minor: int, points: int, refunded_minor: int, refund_minor: int) -> int:
    """Return the points that a refund takes back, at the ratio at which the purchase earned them.

    `refunded_minor` was refunded before. Refunds in any parts take back exactly the points when all is refunded.
    Raises ProgrammeInvalid when more is refunded than was paid.
    """
    if not 0 <= refunded_minor <= refunded_minor + refund_minor <= amount_minor:
        raise ProgrammeInvalid(f"{refunded_minor} and {refund_minor} cannot be refunded of {amount_minor}")
    if amount_minor == 0:
        return 0
    before = points * refunded_minor // amount_minor
    return points * (refunded_minor + refund_minor) // amount_minor - before


def expires_on(earned_on: date, programme: Programme) -> date | None:
    """Return the last day of points; None for those that never expire, or live with their member's activity.

    A month that has no such day ends with its last: 31 January and one month is 28 or 29 February.
    """
    match programme.expiry:
        case Expiry.FIXED:
            return months_after(earned_on, programme.months)
        case Expiry.END_OF_MONTH:
            return _end_of_month(months_after(earned_on, programme.months))
        case _:
            return None


def active_until(active_on: date, programme: Programme) -> date | None:
    """Return until when activity on a day keeps rolling points alive; None where there are none."""
    return active_on + timedelta(days=programme.days) if programme.expiry is Expiry.ROLLING else None


def months_after(day: date, months: int) -> date:
    """Return the same day so many months later, or the last of a shorter month."""
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, min(day.day, calendar.monthrange(year, month + 1)[1]))


def _end_of_month(day: date) -> date:
    return day.replace(day=calendar.monthrange(day.year, day.month)[1])


def read_programme(declared: Mapping[str, Any]) -> Programme:
    """Return the programme that a parsed declaration says. Raises ProgrammeInvalid, which names the place."""
    with _Place("the programme") as place:
        if "rules" in declared:
            raise ValueError(f"rates by category and tier are published as the ruleset {EARNING}")
        expiry = declared["expiry"]
        promotions = declared.get("promotions", {})
        caps = declared["caps"]
        programme = Programme(
            version=str(declared["version"]),
            currency=str(declared["currency"]),
            minor_per_unit=_whole(declared.get("minor_per_unit", 100)),
            tiers=[_tier(found, place.at(f"tiers, {n}.")) for n, found in enumerate(declared["tiers"], 1)],
            promotions=[
                _promotion(found, place.at(f"promotions, {n}."))
                for n, found in enumerate(promotions.get("list", ()), 1)
            ],
            stacking=Stacking(promotions.get("stacking", "best_only")),
            cap_per_purchase=_whole(caps["per_purchase"]),
            cap_per_day=_whole(caps["per_day"]),
            cap_per_month=_whole(caps["per_month"]),
            expiry=Expiry(expiry["kind"]),
            months=_whole(expiry.get("months", 0)),
            days=_whole(expiry.get("days", 0)),
            period=str(declared["qualification"]["period"]),
            partners={
                str(found["name"]): _ratio(found, place.at(f"partners, {n}."))
                for n, found in enumerate(declared.get("partners", ()), 1)
            },
            transfers=_transfers(declared.get("transfers", {}), place.at("transfers.")),
        )
    _check(programme)
    return programme


def _check(programme: Programme) -> None:
    """Refuse what can be read but not be meant."""
    thresholds = [tier.threshold for tier in programme.tiers]
    tiers = [tier.name for tier in programme.tiers]
    strange = {name for one in programme.promotions for name in one.tiers} - set(tiers)
    for is_wrong, what in (
        (not thresholds or thresholds[0] != 0, "the first tier must begin at 0"),
        (thresholds != sorted(set(thresholds)), "the thresholds of tiers must rise"),
        (len(set(tiers)) != len(tiers), "two tiers have one name"),
        (strange, f"promotions name tiers that are not there: {', '.join(sorted(strange))}"),
        (
            len({one.name for one in programme.promotions}) != len(programme.promotions),
            "two promotions have one name",
        ),
        (programme.minor_per_unit <= 0, "a unit has at least one minor unit"),
        (
            programme.period not in ("calendar_year", "rolling_year"),
            f"there is no period {programme.period!r}",
        ),
        (programme.expiry is Expiry.ROLLING and programme.days <= 0, "rolling points need `days`"),
        (
            programme.expiry in (Expiry.FIXED, Expiry.END_OF_MONTH) and programme.months <= 0,
            "points need `months`",
        ),
    ):
        if is_wrong:
            raise ProgrammeInvalid(what)


class _Place:
    """Names where something cannot be read."""

    def __init__(self, where: str) -> None:
        self._where = where

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, KeyError):
            raise ProgrammeInvalid(f"{self._where}: {error.args[0]} is missing") from error
        if isinstance(error, ValueError | TypeError | ZeroDivisionError | AttributeError):
            raise ProgrammeInvalid(f"{self._where}: {error}") from error

    def at(self, inside: str) -> _Place:
        """Return a place within this one."""
        return _Place(inside)


def _tier(found: Mapping[str, Any], place: _Place) -> Tier:
    with place:
        if misspelt := found.keys() - {"name", "threshold"}:
            raise ValueError(f"a tier has no {', '.join(sorted(misspelt))}")
        return Tier(name=str(found["name"]), threshold=_whole(found["threshold"]))


_OF_PROMOTIONS = frozenset(
    {"name", "begins", "ends", "rules", "tiers", "merchants", "first_purchase", "multiplier", "bonus", "cap"}
    | {"cap_per"}
)


def _promotion(found: Mapping[str, Any], place: _Place) -> Promotion:
    with place:
        if misspelt := found.keys() - _OF_PROMOTIONS:
            raise ValueError(f"there is nothing named {', '.join(sorted(misspelt))}")
        promotion = Promotion(
            name=str(found["name"]),
            begins=found.get("begins", date.min),
            ends=found.get("ends", date.max),
            rules=tuple(found.get("rules", ())),
            tiers=tuple(found.get("tiers", ())),
            merchants=tuple(found.get("merchants", ())),
            is_for_first_purchase=bool(found.get("first_purchase", False)),
            multiplier=_factor(found.get("multiplier", 1)),
            bonus=_whole(found.get("bonus", 0)),
            cap=None if "cap" not in found else _whole(found["cap"]),
            cap_per=CapPeriod(found.get("cap_per", CapPeriod.PROMOTION)),
        )
        if ("cap" in found) != ("cap_per" in found):
            raise ValueError(f"{promotion.name} needs both of `cap` and `cap_per`, or neither")
        if promotion.begins > promotion.ends:
            raise ValueError(f"{promotion.name} ends before it begins")
    return promotion


def _ratio(found: Mapping[str, Any], place: _Place) -> Ratio:
    with place:
        return Ratio(
            points=_whole(found["points"]), units=_whole(found["units"]), block=_whole(found.get("block", 1))
        )


def _transfers(found: Mapping[str, Any], place: _Place) -> TransferRatio:
    with place:
        return TransferRatio(points=_whole(found.get("points", 1)), units=_whole(found.get("units", 1)))


def _factor(value: Any) -> Fraction:
    factor = Fraction(str(value))
    if factor < 0:
        raise ValueError(f"{value} is negative")
    return factor


def _whole(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ValueError(f"{value!r} is no whole number from 0 on")
    return value
