"""What every feature is worth by definition: each value looks at every fact again. Slow on purpose, shares no code.

Only `tie_of`, which is how ids order within a millisecond, is the product's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from faregate.features.declarations import Aggregate, Feature, Value
from faregate.features.facts import Fact, FeatureEvent, Reversal, ReversalById, tie_of
from faregate.features.feature_set import FeatureSet

Values = dict[str, Value]


@dataclass(frozen=True)
class Asked:
    """An event that asked, and what it was told; nothing for one without effect."""

    event: FeatureEvent
    values: Values | None


def oracle(facts: Sequence[Fact], declared: FeatureSet) -> list[Asked]:
    """Return an answer for every event of the asking source, in the order of arrival, repetitions included."""
    known: dict[tuple[str, str], FeatureEvent] = {}
    gone: set[tuple[str, str]] = set()
    answers: dict[str, Values] = {}
    told: list[Asked] = []
    for fact in facts:
        if isinstance(fact, ReversalById):
            gone.add((fact.source, fact.id))
            continue
        event = fact.event if isinstance(fact, Reversal) else fact
        name = (event.source, event.id)
        if isinstance(fact, Reversal):
            gone.add(name)
            continue
        has_effect = is_timely(event, declared) and name not in gone
        if has_effect and name not in known:
            known[name] = event
            if event.source == declared.asked_by.name:
                seen = [other for key, other in known.items() if key not in gone]
                answers[event.id] = values_of(event, seen, declared)
        if event.source == declared.asked_by.name:
            told.append(Asked(event, answers[event.id] if has_effect else None))
    return told


def is_timely(event: FeatureEvent, declared: FeatureSet) -> bool:
    source = declared.source_named[event.source]
    behind_ms = event.observed_ms - event.at_ms
    return -source.ahead_s * 1000 <= behind_ms <= source.lateness_s * 1000


def values_of(event: FeatureEvent, seen: Sequence[FeatureEvent], declared: FeatureSet) -> Values:
    values: Values = {}
    ratios = [feature for feature in declared.features if feature.aggregate is Aggregate.RATIO]
    for feature in declared.features:
        if feature not in ratios:
            found = value_of(feature, event, seen)
            values[feature.name] = feature.default if found is None else found
    for feature in ratios:
        above, below = values[feature.numerator or ""], values[feature.denominator or ""]
        values[feature.name] = feature.default if above is None or not below else above / below
    return {feature.name: values[feature.name] for feature in declared.features}


def value_of(feature: Feature, event: FeatureEvent, seen: Sequence[FeatureEvent]) -> Value:
    at = datetime.fromtimestamp(event.at_ms // 1000, UTC)
    match feature.aggregate:
        case Aggregate.OWN:
            return int(event.values[feature.field or ""])
        case Aggregate.IS_WEEKEND:
            return int(at.weekday() >= 5)
        case Aggregate.IS_NIGHT:
            return int(at.hour <= 6)
    inside = sorted((other for other in seen if is_in(other, feature, event)), key=place)
    if not inside:
        return None
    field = feature.field or ""
    numbers = [other.values[field] for other in inside if field in other.values]
    match feature.aggregate:
        case Aggregate.COUNT:
            return len(inside)
        case Aggregate.SUM:
            return sum(numbers)  # type: ignore[arg-type]
        case Aggregate.MEAN:
            return sum(numbers) / len(inside)  # type: ignore[arg-type]
        case Aggregate.MIN:
            return min(numbers)  # type: ignore[return-value]
        case Aggregate.MAX:
            return max(numbers)  # type: ignore[return-value]
        case Aggregate.DISTINCT:
            return min(feature.cap, len(set(numbers))) if numbers else None
        case Aggregate.LAST:
            return numbers[-1]  # type: ignore[return-value]
        case Aggregate.TIME_SINCE_FIRST:
            return event.at_ms // 1000 - inside[0].at_ms // 1000
    return event.at_ms // 1000 - inside[-1].at_ms // 1000


def place(event: FeatureEvent) -> tuple[int, int]:
    return event.at_ms, tie_of(event.id)


def is_in(other: FeatureEvent, feature: Feature, event: FeatureEvent) -> bool:
    who = event.entities.get(feature.by)  # type: ignore[arg-type]
    if other.source != feature.of or who is None or other.entities.get(feature.by) != who:  # type: ignore[arg-type]
        return False
    grain_ms = feature.grain_s * 1000
    grains_ago = event.at_ms // grain_ms - other.at_ms // grain_ms
    ends, begins = feature.delay_s // feature.grain_s, (feature.delay_s + feature.window_s) // feature.grain_s
    if not ends <= grains_ago < begins:
        return False
    if feature.delay_s:
        return True
    return place(other) < place(event) or (feature.counts_itself and place(other) == place(event))
