"""Tiers: earned by qualifying points in a period, kept to the end of the next, lost one at a time."""

from __future__ import annotations

from datetime import date, timedelta

from faregate.points.contracts.programme import TierChange, TierState
from faregate.points.domain.programme import Programme, months_after


def earned_tier(qualifying: int, programme: Programme) -> str:
    """Return the highest tier that so many qualifying points reach."""
    return next(tier.name for tier in reversed(programme.tiers) if qualifying >= tier.threshold)


def period_of(on: date, programme: Programme) -> tuple[date, date]:
    """Return the first and the last day of the period in which a day counts: its year, or that which ends with it."""
    if programme.period == "calendar_year":
        return date(on.year, 1, 1), date(on.year, 12, 31)
    return months_after(on, -12) + timedelta(days=1), on


def holds_until(earned_on: date, programme: Programme) -> date:
    """Return the last day on which a tier holds that was earned on a day: the end of the next period."""
    if programme.period == "calendar_year":
        return date(earned_on.year + 1, 12, 31)
    return months_after(earned_on, 12)


def new_member_tier(on: date, programme: Programme) -> TierState:
    """Return the tier with which everybody begins."""
    return TierState(tier=programme.tiers[0].name, valid_until=holds_until(on, programme))


def tier_change(state: TierState, *, qualifying: int, on: date, programme: Programme) -> TierChange | None:
    """Return what becomes of a tier on a day, with the qualifying points of that day's period; None: it stays.

    A higher tier is had at once, and whoever reaches the own one again keeps it to the end of the next period. Whoever
    did not reach it by its last day falls to the next lower one, however few the points, which then holds as long.
    """
    ranks = {tier.name: rank for rank, tier in enumerate(programme.tiers)}
    held, earned = ranks.get(state.tier, 0), ranks[earned_tier(qualifying, programme)]
    until = holds_until(on, programme)
    renews = programme.period == "calendar_year" and earned == held and state.valid_until < until
    if earned > held or renews:
        after = TierState(tier=programme.tiers[earned].name, valid_until=until)
    elif on > state.valid_until:
        after = TierState(tier=programme.tiers[max(earned, held - 1)].name, valid_until=until)
    else:
        return None
    if after == state:
        return None
    return TierChange(before=state, after=after, is_upgrade=ranks[after.tier] > held)
