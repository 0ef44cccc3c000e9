"""Declarations that belong together, with a version that is recorded wherever their values are.

What no engine could compute is refused when the set is made, with the feature's name and what is wrong with it.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Final

from faregate.features.declarations import (
    BY_PANES,
    CAP_MAX,
    FRACTIONS,
    OF_ITSELF,
    OF_NUMBERS,
    PANES_MAX,
    WINDOW_S_MAX,
    WINDOW_S_MIN,
    Aggregate,
    Entity,
    Feature,
    FeatureInvalid,
    Source,
)

SEMANTICS: Final = 2
"""Grows when the same declaration comes to mean another value, or is kept in another form in Valkey."""

COLUMNS: Final = frozenset(
    {"seq", "is_reversal", "source", "id", "tie", "at_ms", "observed_ms"}
    | {"late_ms", "ahead_ms", "second", "reversed_seq", "place", "entity", "asks", "counts"}
)
"""Names that the offline engine needs for itself."""

_NAME = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class FeatureSet:
    """Declarations that belong together. Raises FeatureInvalid.

    Values are asked for at each event of the source `asked_by`, as of that event.
    """

    name: str
    asked_by: Source
    others: tuple[Source, ...]
    features: tuple[Feature, ...]

    def __post_init__(self) -> None:
        """Refuse what no engine could compute."""
        _require_valid(self)

    @property
    def sources(self) -> Sequence[Source]:
        """Every source, the one that asks first."""
        return (self.asked_by, *self.others)

    @cached_property
    def source_named(self) -> Mapping[str, Source]:
        """The sources by name."""
        return {source.name: source for source in self.sources}

    @cached_property
    def feature_named(self) -> Mapping[str, Feature]:
        """The features by name, in their order."""
        return {feature.name: feature for feature in self.features}

    @cached_property
    def version(self) -> str:
        """Sixteen hexadecimal digits that change with anything that could change a value."""
        said = {
            "semantics": SEMANTICS,
            "name": self.name,
            "sources": [asdict(source) for source in self.sources],
            "features": [asdict(feature) for feature in self.features],
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _require_valid(declared: FeatureSet) -> None:
    """Raise FeatureInvalid for the first thing that is wrong, in the order of the declarations."""
    for name in _repeated([source.name for source in declared.sources]):
        raise FeatureInvalid(f"source {name}: declared twice", source=name)
    for source in declared.sources:
        for problem in _of_source(source):
            raise FeatureInvalid(f"source {source.name}: {problem}", source=source.name)
    for name in _repeated([feature.name for feature in declared.features]):
        raise FeatureInvalid(f"feature {name}: declared twice", feature=name)
    for feature in declared.features:
        for problem in _of_feature(feature, declared):
            raise FeatureInvalid(f"feature {feature.name}: {problem}", feature=feature.name)


def _of_source(source: Source) -> Iterator[str]:
    fields = [*source.numbers, *source.texts]
    if not source.entities:
        yield "it names no entity"
    if _repeated([*source.entities, *fields]):
        yield "an entity or a field is named twice"
    # Names become columns of the offline engine.
    for name in (source.name, *fields):
        if not _NAME.fullmatch(name) or name in COLUMNS or name in set(Entity):
            yield f"{name!r} is no name: lower case, digits and underscores, and not an entity's or the engines' own"
    if source.lateness_s < 0 or source.ahead_s < 0:
        yield "lateness and ahead are not negative"


def _of_feature(feature: Feature, declared: FeatureSet) -> Iterator[str]:
    if not _NAME.fullmatch(feature.name) or feature.name in COLUMNS:
        yield "its name is lower case, digits and underscores, and none of the engines' own"
    if isinstance(feature.default, float) and feature.aggregate not in FRACTIONS:
        yield "its default is an integer, as its values are"
    if feature.aggregate is Aggregate.RATIO:
        yield from _of_ratio(feature, declared)
    elif feature.aggregate in OF_ITSELF:
        if feature.aggregate is Aggregate.OWN and feature.field not in declared.asked_by.numbers:
            yield f"{declared.asked_by.name} has no number {feature.field!r}"
    else:
        yield from _of_window(feature, declared)


def _of_ratio(feature: Feature, declared: FeatureSet) -> Iterator[str]:
    for name in (feature.numerator, feature.denominator):
        part = declared.feature_named.get(name or "")
        if part is None:
            yield f"there is no feature {name!r}"
        elif part.aggregate in FRACTIONS:
            yield f"{name} is a fraction itself: a ratio is of integers"


def _of_window(feature: Feature, declared: FeatureSet) -> Iterator[str]:
    source = declared.source_named.get(feature.of or "")
    if source is None:
        yield f"there is no source {feature.of!r}"
        return
    if feature.by not in source.entities:
        yield f"{source.name} names no {feature.by}"
    if feature.by not in declared.asked_by.entities:
        yield f"{declared.asked_by.name}, which asks, names no {feature.by}"
    yield from _of_field(feature, source)
    if not WINDOW_S_MIN <= feature.window_s <= WINDOW_S_MAX:
        yield f"its window is between {WINDOW_S_MIN} s and {WINDOW_S_MAX} s"
    if feature.grain_s < 1:
        yield "its grain is a second at least"
    elif feature.window_s % feature.grain_s or feature.delay_s % feature.grain_s:
        yield "window and delay are whole grains"
    elif feature.aggregate in BY_PANES and feature.window_s // feature.grain_s > PANES_MAX:
        yield f"{feature.aggregate} wants a coarser grain: {PANES_MAX} a window at most"
    if not 0 <= feature.delay_s <= WINDOW_S_MAX:
        yield f"its delay is between 0 and {WINDOW_S_MAX} s"
    if feature.delay_s and feature.counts_itself:
        yield "what looks at the past only does not count the event itself"


def _of_field(feature: Feature, source: Source) -> Iterator[str]:
    if feature.aggregate in OF_NUMBERS and feature.field not in source.numbers:
        yield f"{source.name} has no number {feature.field!r}"
    if feature.aggregate is Aggregate.DISTINCT:
        if feature.field not in (*source.numbers, *source.texts):
            yield f"{source.name} has no field {feature.field!r}"
        if not 1 <= feature.cap <= CAP_MAX:
            yield f"it states a cap between 1 and {CAP_MAX}"
    elif feature.cap:
        yield "only distinct has a cap"


def _repeated(names: Sequence[str]) -> Sequence[str]:
    return [name for name, times in Counter(names).items() if times > 1]
