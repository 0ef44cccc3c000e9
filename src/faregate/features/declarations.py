"""What a feature is: one declaration, from which every engine computes the same value.

    card_spent_1d = total("card_spent_1d", by=CARD, of=PAYMENT, field="amount_minor", over=days(1))

A window is (t−delay−w, t−delay] in event time, in whole grains: of two events in one grain both are in, or none is. How
a value is computed does not belong here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import partial
from typing import Final

from faregate.kernel.errors import InvalidError

WINDOW_S_MIN: Final = 60
WINDOW_S_MAX: Final = 30 * 86_400
PANES_MAX: Final = 64
"""Into so many grains a window of min, max or distinct may be divided: its cost does not depend on its length."""
CAP_MAX: Final = 64

Value = int | float | None


class Entity(StrEnum):
    """Whose events a feature looks at."""

    CARD = "card"
    MEMBER = "member"
    IP = "ip"
    DEVICE = "device"
    MERCHANT = "merchant"
    TERMINAL = "terminal"
    MEMBER_DEVICE = "member_device"
    """A device in the hands of one member; see `pair`."""


class Aggregate(StrEnum):
    """What a feature makes of the events in its window, or of the event itself."""

    COUNT = "count"
    SUM = "sum"
    MEAN = "mean"
    MIN = "min"
    MAX = "max"
    DISTINCT = "distinct"
    LAST = "last"
    TIME_SINCE = "time_since"
    TIME_SINCE_FIRST = "time_since_first"
    RATIO = "ratio"
    OWN = "own"
    IS_WEEKEND = "is_weekend"
    IS_NIGHT = "is_night"


OF_ITSELF: Final = frozenset({Aggregate.OWN, Aggregate.IS_WEEKEND, Aggregate.IS_NIGHT})
BY_PANES: Final = frozenset({Aggregate.MIN, Aggregate.MAX, Aggregate.DISTINCT})
OF_NUMBERS: Final = frozenset(
    {Aggregate.SUM, Aggregate.MEAN, Aggregate.MIN, Aggregate.MAX, Aggregate.LAST, Aggregate.OWN}
)
FRACTIONS: Final = frozenset({Aggregate.MEAN, Aggregate.RATIO})
"""Their values are floating-point numbers, each the quotient of two exact integers; all others are integers."""


class FeatureInvalid(InvalidError):
    """A declaration says something that no engine could compute, or that cannot be meant."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A kind of events. `numbers` are integers (money in minor units), `texts` are only told apart.

    An event has every number. Of a text that it lacks nothing is counted.
    An event that was observed more than `lateness_s` after it happened, or more than `ahead_s` before, changes nothing.
    Of a source that `is_final` no event is ever taken back, and none is remembered for that.
    """

    name: str
    entities: tuple[Entity, ...]
    numbers: tuple[str, ...] = ()
    texts: tuple[str, ...] = ()
    lateness_s: int = 3_600
    ahead_s: int = 60
    is_final: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """One declaration. `default` is the value when there is nothing to compute it from."""

    name: str
    aggregate: Aggregate
    by: Entity | None = None
    of: str | None = None
    field: str | None = None
    window_s: int = 0
    grain_s: int = 1
    delay_s: int = 0
    counts_itself: bool = True
    cap: int = 0
    numerator: str | None = None
    denominator: str | None = None
    default: Value = None


def pair(one: str, other: str) -> str:
    """Return the name of an entity that two others make together."""
    return f"{one} {other}"


def minutes(count: int) -> int:
    """Return so many minutes in seconds."""
    return count * 60


def hours(count: int) -> int:
    """Return so many hours in seconds."""
    return count * 3_600


def days(count: int) -> int:
    """Return so many days in seconds."""
    return count * 86_400


def count(
    name: str,
    *,
    by: Entity,
    of: Source,
    over: int,
    grain_s: int = 1,
    delay_s: int = 0,
    counts_itself: bool = True,
    default: Value = 0,
) -> Feature:
    """Declare how many events there were."""
    return Feature(
        name=name,
        aggregate=Aggregate.COUNT,
        by=by,
        of=of.name,
        window_s=over,
        grain_s=grain_s,
        delay_s=delay_s,
        counts_itself=counts_itself and not delay_s,
        default=default,
    )


def over_field(
    name: str,
    field: str,
    *,
    aggregate: Aggregate,
    by: Entity,
    of: Source,
    over: int,
    grain_s: int = 1,
    delay_s: int = 0,
    counts_itself: bool = True,
    cap: int = 0,
    default: Value = None,
) -> Feature:
    """Declare a sum, mean, min, max, distinct or last of a field."""
    return Feature(
        name=name,
        aggregate=aggregate,
        by=by,
        of=of.name,
        field=field,
        window_s=over,
        grain_s=grain_s,
        delay_s=delay_s,
        counts_itself=counts_itself and not delay_s,
        cap=cap,
        default=default,
    )


total = partial(over_field, aggregate=Aggregate.SUM, default=0)
mean = partial(over_field, aggregate=Aggregate.MEAN)
least = partial(over_field, aggregate=Aggregate.MIN)
greatest = partial(over_field, aggregate=Aggregate.MAX)
last = partial(over_field, aggregate=Aggregate.LAST)
distinct = partial(over_field, aggregate=Aggregate.DISTINCT, default=0)


def time_since(name: str, *, by: Entity, of: Source, over: int, default: Value = None) -> Feature:
    """Declare how many seconds ago the last other event was, if it is in the window."""
    return Feature(
        name=name,
        aggregate=Aggregate.TIME_SINCE,
        by=by,
        of=of.name,
        window_s=over,
        counts_itself=False,
        default=default,
    )


def time_since_first(name: str, *, by: Entity, of: Source, over: int, default: Value = None) -> Feature:
    """Declare how many seconds ago the first other event in the window was: for how long something is known."""
    return replace(
        time_since(name, by=by, of=of, over=over, default=default), aggregate=Aggregate.TIME_SINCE_FIRST
    )


def ratio(name: str, numerator: str, denominator: str, *, default: Value = None) -> Feature:
    """Declare the quotient of two features of integers; the default stands for a quotient by zero."""
    return Feature(
        name=name,
        aggregate=Aggregate.RATIO,
        numerator=numerator,
        denominator=denominator,
        default=default,
    )


def own(name: str, field: str) -> Feature:
    """Declare a number of the event itself."""
    return Feature(name=name, aggregate=Aggregate.OWN, field=field)


def is_weekend(name: str) -> Feature:
    """Declare 1 on Saturday and Sunday, else 0, in UTC."""
    return Feature(name=name, aggregate=Aggregate.IS_WEEKEND)


def is_night(name: str) -> Feature:
    """Declare 1 from midnight to before seven, else 0, in UTC: the hour is at most 6."""
    return Feature(name=name, aggregate=Aggregate.IS_NIGHT)
