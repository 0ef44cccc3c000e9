"""What the online engine keeps for a set of features, and what it reads: declarations compiled, without I/O.

A *run* holds the events of one source for one entity in their order, each with its place and the running total of a
number or the code of a text: 15 or 16 bytes, or 8 where neither is asked for. A *reading* is two numbers that one look
at a run gives; a feature is made of one or two. What a run looks like in Valkey stands in `online_runs.lua`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from faregate.features.declarations import BY_PANES, OF_ITSELF, OF_NUMBERS, Aggregate, Feature, Source
from faregate.features.feature_set import FeatureSet

SLACK_S: Final = 3_600
"""The order of arrival may disagree so much with the times at which events were observed."""
TTL_SLACK_S: Final = 7 * 86_400
"""So long the stream of events may stand still before what is still inside a window is forgotten."""


@dataclass(kw_only=True)
class Run:
    """Events of a source by entity. `keep_s`: how long before the present an event can still be asked for."""

    entity: str
    source: str
    of_field: str | None
    is_codes: bool
    keep_s: int = 0
    panes: list[dict[str, Any]] = field(default_factory=list)

    @property
    def holds(self) -> str:
        """What stands beside the place of each event."""
        if self.of_field is None:
            return "places"
        return "codes" if self.is_codes else "totals"

    def pane(self, *, grain_s: int, cap: int) -> int:
        """Return the number of its panes of this grain, from 1; each remembers at most `cap` codes (0: min and max)."""
        for number, known in enumerate(self.panes, start=1):
            if known["grain"] == grain_s:
                known["cap"] = max(known["cap"], cap)
                return number
        self.panes.append({"grain": grain_s, "cap": cap})
        return len(self.panes)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Two numbers: events and total, last value and second, first second, min and max, or how many distinct."""

    kind: str
    run: int
    grain: int
    window: int
    delay: int
    counts_itself: bool
    pane: int
    cap: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What the functions in Valkey are made of, and which reading each feature is finished from."""

    runs: Sequence[Run]
    readings: Sequence[Reading]
    reading_of: Mapping[str, int]
    document: Mapping[str, Any]


def plan_of(declared: FeatureSet) -> Plan:
    """Compile the declarations. Features that look at the same window share a reading."""
    runs: list[Run] = []
    readings: dict[Reading, int] = {}
    reading_of: dict[str, int] = {}
    # Those of numbers first, so that counts find a run to share.
    for feature in sorted(declared.features, key=lambda one: one.aggregate not in OF_NUMBERS):
        if feature.aggregate in OF_ITSELF or feature.aggregate is Aggregate.RATIO:
            continue
        reading = _reading(feature, runs, declared)
        reading_of[feature.name] = readings.setdefault(reading, len(readings))
    return Plan(
        runs=runs,
        readings=list(readings),
        reading_of=reading_of,
        document=_document(declared, runs, list(readings)),
    )


def _reading(feature: Feature, runs: list[Run], declared: FeatureSet) -> Reading:
    number = _run(feature, runs)
    run, source = runs[number], declared.source_named[feature.of or ""]
    late = max(declared.asked_by.lateness_s, source.lateness_s)
    run.keep_s = max(run.keep_s, feature.delay_s + feature.window_s + feature.grain_s + late + SLACK_S)
    pane = run.pane(grain_s=feature.grain_s, cap=feature.cap) if feature.aggregate in BY_PANES else 0
    return Reading(
        kind=_KINDS.get(feature.aggregate, "total"),
        run=number + 1,
        grain=feature.grain_s,
        window=feature.window_s // feature.grain_s,
        delay=feature.delay_s // feature.grain_s,
        counts_itself=feature.counts_itself,
        pane=pane,
        cap=feature.cap,
    )


_KINDS: Final = {
    Aggregate.MIN: "extremes",
    Aggregate.MAX: "extremes",
    Aggregate.DISTINCT: "distinct",
    Aggregate.LAST: "last",
    Aggregate.TIME_SINCE: "last",
    Aggregate.TIME_SINCE_FIRST: "first",
}


def _run(feature: Feature, runs: list[Run]) -> int:
    """Return the number of the run that holds what the feature looks at, made if there is none."""
    is_codes = feature.aggregate is Aggregate.DISTINCT
    for number, run in enumerate(runs):
        is_theirs = (run.entity, run.source) == (feature.by, feature.of)
        holds = (run.of_field, run.is_codes) == (feature.field, is_codes)
        # An event that lacks a text is not in the run of its codes: no count can share that.
        holds = holds or (feature.field is None and not run.is_codes)
        if is_theirs and holds:
            return number
    runs.append(
        Run(entity=str(feature.by), source=str(feature.of), of_field=feature.field, is_codes=is_codes)
    )
    return len(runs) - 1


def _document(declared: FeatureSet, runs: Sequence[Run], readings: Sequence[Reading]) -> Mapping[str, Any]:
    """Return what the functions in Valkey are parametrised with; positions count from 1, as there."""
    asked = [*declared.asked_by.entities]
    return {
        "sources": [
            {
                "entities": len(source.entities),
                "asks": source is declared.asked_by,
                "runs": [
                    {"run": number, "entity": _position(source, run), "field": _field(source, run)}
                    for number, run in enumerate(runs, start=1)
                    if run.source == source.name
                ],
            }
            for source in declared.sources
        ],
        "runs": [
            {
                "holds": run.holds,
                "keep": run.keep_s,
                "ttl": run.keep_s + TTL_SLACK_S,
                "entity": [str(entity) for entity in asked].index(run.entity) + 1,
                "panes": run.panes,
            }
            for run in runs
        ],
        "readings": [
            {
                "kind": reading.kind,
                "run": reading.run,
                "grain": reading.grain,
                "window": reading.window,
                "delay": reading.delay,
                "itself": reading.counts_itself,
                "pane": reading.pane,
                "cap": reading.cap,
            }
            for reading in readings
        ],
    }


def _position(source: Source, run: Run) -> int:
    return [str(entity) for entity in source.entities].index(run.entity) + 1


def _field(source: Source, run: Run) -> int:
    """Return the position of the field among those that are sent: numbers, texts, then numbers as codes; 0 for none."""
    if run.of_field is None:
        return 0
    if run.is_codes and run.of_field in source.numbers:
        return len(source.numbers) + len(source.texts) + source.numbers.index(run.of_field) + 1
    return [*source.numbers, *source.texts].index(run.of_field) + 1
