"""How far two engines agree, in the words in use for it: match, mismatch, missing, extra.

The offline value is the reference: *missing* is one that offline has and online has not, *extra* the other way round.
Values match when they are the same bits of the same type, both absent included.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from faregate.features.declarations import Value

EXAMPLES_MAX = 5


@dataclass(kw_only=True)
class FeatureSkew:
    """The counts of one feature, and the symmetric mean absolute percentage error of numbers, summed up."""

    match: int = 0
    mismatch: int = 0
    missing: int = 0
    extra: int = 0
    compared: int = 0
    error_sum: float = 0.0

    @property
    def smape(self) -> float:
        """The symmetric mean absolute percentage error, between 0 and 200, over the pairs of numbers."""
        return 100 * self.error_sum / self.compared if self.compared else 0.0


@dataclass(kw_only=True)
class Skew:
    """A report over many rows. `examples` are the first values that disagree."""

    features: Sequence[str]
    rows: int = 0
    rows_missing: int = 0
    rows_extra: int = 0
    by_feature: dict[str, FeatureSkew] = field(default_factory=dict)
    examples: list[dict[str, Any]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin with nothing."""
        self.by_feature = {name: FeatureSkew() for name in self.features}

    def compare(self, row: str, offline: Sequence[Value] | None, online: Sequence[Value] | None) -> None:
        """Compare the values of one row; None for a row that one side does not have at all."""
        self.rows += 1
        if offline is None or online is None:
            self.rows_missing += online is None and offline is not None
            self.rows_extra += offline is None and online is not None
            nothing = [None] * len(self.features)
            offline, online = offline or nothing, online or nothing
        for name, theirs, ours in zip(self.features, offline, online, strict=True):
            self._compare_one(row, name, theirs, ours)

    def _compare_one(self, row: str, name: str, offline: Value, online: Value) -> None:
        counts = self.by_feature[name]
        if offline is not None and online is not None:
            counts.compared += 1
        if type(offline) is type(online) and offline == online:
            counts.match += 1
            return
        if online is None:
            counts.missing += 1
        elif offline is None:
            counts.extra += 1
        else:
            counts.mismatch += 1
            size = (abs(offline) + abs(online)) / 2
            counts.error_sum += abs(offline - online) / size if size else 0.0
        if len(self.examples) < EXAMPLES_MAX:
            self.examples.append({"row": row, "feature": name, "offline": offline, "online": online})

    @property
    def is_none(self) -> bool:
        """Whether everything matches."""
        return self.matches == self.values and not self.rows_missing and not self.rows_extra

    @property
    def values(self) -> int:
        """How many values were compared."""
        return self.rows * len(self.features)

    @property
    def matches(self) -> int:
        """How many values match."""
        return sum(counts.match for counts in self.by_feature.values())

    def as_json(self) -> dict[str, Any]:
        """Return the report for programs."""
        return {
            "rows": self.rows,
            "rows_missing": self.rows_missing,
            "rows_extra": self.rows_extra,
            "values": self.values,
            **{
                word: sum(getattr(counts, word) for counts in self.by_feature.values())
                for word in ("match", "mismatch", "missing", "extra")
            },
            "features": {
                name: {
                    "match": counts.match,
                    "mismatch": counts.mismatch,
                    "missing": counts.missing,
                    "extra": counts.extra,
                    "smape": counts.smape,
                }
                for name, counts in self.by_feature.items()
            },
            "examples": self.examples,
        }
