"""From rows to a scorecard artefact: weight-of-evidence bins, logistic regression, cross-validated metrics.

Pure: the same rows give the same artefact, byte for byte; folds come from a hash of the applicant's form, so
there is no random state. Reading the data and writing artefacts belong to `credit.store.scorecards`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, roc_auc_score, roc_curve

from faregate.credit.domain.facts import GOOD_COLUMN, NEVER_INPUTS, FactValue, facts_of_row
from faregate.credit.domain.features import CANDIDATES, FOLD_FEATURES, Feature, Kind
from faregate.credit.domain.scorecard import ScoringModel, fold_of, read_scorecard
from faregate.kernel.errors import InvalidError

FOLDS: Final = 5
SCALING: Final = {"base_points": 600, "base_odds": 20, "pdo": 40}
BIN_SHARE_MIN: Final = 0.05
INFORMATION_VALUE_MIN: Final = 0.02
_QUANTILES: Final = 10
_INVERSE_PENALTY: Final = 1.0
_DECIMALS: Final = 4


class TooFewRows(InvalidError):
    """A fold lacks good or bad rows, so that nothing can be learned from it or measured on it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One applicant of the past: the facts, the fold, and whether the credit went bad."""

    facts: Mapping[str, FactValue]
    fold: int
    bad: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Class:
    """A coarse class of a feature: values or an upper edge, with its counts and weight of evidence."""

    values: tuple[str, ...]
    below: int | None
    goods: int
    bads: int
    woe: float = 0.0

    @property
    def count(self) -> int:
        return self.goods + self.bads

    @property
    def bad_rate(self) -> float:
        return self.bads / self.count


@dataclass(frozen=True, slots=True, kw_only=True)
class _Binned:
    feature: Feature
    classes: tuple[_Class, ...]

    def woe_of(self, value: FactValue) -> float:
        if self.feature.kind is Kind.CATEGORICAL:
            return next((c.woe for c in self.classes if value in c.values), 0.0)
        return next(c.woe for c in self.classes if c.below is None or int(value) < c.below)


def rows_of(table: Sequence[Mapping[str, str]]) -> list[Row]:
    """Return the training rows of `german_credit.csv`; columns that are no facts are never looked at."""
    return [_row(facts_of_row(line), bad=line[GOOD_COLUMN] == "bad") for line in table]


def _row(facts: Mapping[str, FactValue], *, bad: bool) -> Row:
    return Row(facts=facts, fold=fold_of(facts, features=FOLD_FEATURES, folds=FOLDS), bad=bad)


def train(rows: Sequence[Row], *, name: str, data_sha256: str) -> dict[str, Any]:
    """Return the artefact of one card trained on all rows, with the metrics of the cards that were not."""
    artefact = _artefact(name=name, data_sha256=data_sha256, rows=rows, cards=[train_card(rows)])
    return artefact | {"metrics": _cross_validated(rows)}


def train_cross_fitted(rows: Sequence[Row], *, name: str, data_sha256: str) -> dict[str, Any]:
    """Return the artefact of one card a fold, each trained without that fold, with its metrics there."""
    artefact = _artefact(name=name, data_sha256=data_sha256, rows=rows, cards=_cards_by_fold(rows))
    return artefact | {"metrics": _metrics_by_fold(rows, model=read_scorecard(artefact))}


def _artefact(
    *, name: str, data_sha256: str, rows: Sequence[Row], cards: Sequence[Mapping[str, Any]]
) -> dict[str, Any]:
    return {
        "format": 1,
        "name": name,
        "scaling": dict(SCALING),
        "fold_features": list(FOLD_FEATURES),
        "cards": list(cards),
        "training": {
            "method": "weight of evidence, logistic regression (L2), points rounded to integers",
            "rows": len(rows),
            "bads": sum(row.bad for row in rows),
            "data_sha256": data_sha256,
            "candidates": [feature.fact for feature in CANDIDATES],
            "never_inputs": list(NEVER_INPUTS),
            "bin_share_min": BIN_SHARE_MIN,
            "information_value_min": INFORMATION_VALUE_MIN,
        },
    }


def _cards_by_fold(rows: Sequence[Row]) -> list[dict[str, Any]]:
    return [train_card([row for row in rows if row.fold != fold]) for fold in range(FOLDS)]


def _cross_validated(rows: Sequence[Row]) -> dict[str, Any]:
    artefact = _artefact(name="cross-validation", data_sha256="", rows=rows, cards=_cards_by_fold(rows))
    return _metrics_by_fold(rows, model=read_scorecard(artefact))


def train_card(rows: Sequence[Row]) -> dict[str, Any]:
    """Return one card as it stands in an artefact. Raises `TooFewRows`."""
    if len({row.bad for row in rows}) < 2:
        raise TooFewRows("good and bad rows are both needed", rows=len(rows))
    chosen = [b for b in (_bin(feature, rows) for feature in CANDIDATES) if _informative(b)]
    coefficients, intercept = _fit(chosen, rows)
    while any(c <= 0 for c in coefficients):
        # A negative weight would turn the evidence of a bin around: such a feature only repeats others.
        chosen = [b for b, c in zip(chosen, coefficients, strict=True) if c > 0]
        coefficients, intercept = _fit(chosen, rows)
    return _card(chosen, coefficients=coefficients, intercept=intercept)


def _bin(feature: Feature, rows: Sequence[Row]) -> _Binned:
    binner = _numeric_classes if feature.kind is Kind.NUMERIC else _categorical_classes
    return _Binned(feature=feature, classes=_with_evidence(binner(feature, rows)))


def _categorical_classes(feature: Feature, rows: Sequence[Row]) -> list[_Class]:
    values = sorted({str(row.facts[feature.fact]) for row in rows})
    classes = [_count_values((value,), feature, rows) for value in values]
    while (small := min(classes, key=lambda c: (c.count, c.values))).count < BIN_SHARE_MIN * len(rows):
        peers = [c for c in classes if c is not small and _same_reason(feature, c, small)]
        if not peers:
            return classes
        peer = min(peers, key=lambda c: (abs(c.bad_rate - small.bad_rate), c.values))
        classes = [c for c in classes if c is not small and c is not peer] + [_merge(small, peer)]
    return sorted(classes, key=lambda c: (c.bad_rate, c.values))


def _same_reason(feature: Feature, a: _Class, b: _Class) -> bool:
    return feature.reason_of(a.values[0]) == feature.reason_of(b.values[0])


def _count_values(values: tuple[str, ...], feature: Feature, rows: Sequence[Row]) -> _Class:
    found = [row.bad for row in rows if row.facts[feature.fact] in values]
    return _Class(values=values, below=None, goods=len(found) - sum(found), bads=sum(found))


def _numeric_classes(feature: Feature, rows: Sequence[Row]) -> list[_Class]:
    classes = [_count_range(low, high, feature, rows) for low, high in pairwise(_edges(feature, rows))]
    return _merge_until(classes, merge_if=lambda a, b: _too_small(a, b, rows) or a.bad_rate >= b.bad_rate)


def _edges(feature: Feature, rows: Sequence[Row]) -> list[int | None]:
    values = sorted(int(row.facts[feature.fact]) for row in rows)
    inner = {values[len(values) * q // _QUANTILES] for q in range(1, _QUANTILES)} - {values[0]}
    return [None, *sorted(inner), None]


def _count_range(low: int | None, high: int | None, feature: Feature, rows: Sequence[Row]) -> _Class:
    bads = [
        row.bad
        for row in rows
        if (low is None or int(row.facts[feature.fact]) >= low)
        and (high is None or int(row.facts[feature.fact]) < high)
    ]
    return _Class(values=(), below=high, goods=len(bads) - sum(bads), bads=sum(bads))


def _too_small(a: _Class, b: _Class, rows: Sequence[Row]) -> bool:
    return min(a.count, b.count) < BIN_SHARE_MIN * len(rows)


def _merge_until(classes: list[_Class], *, merge_if: Callable[[_Class, _Class], bool]) -> list[_Class]:
    """Pool neighbours until none violates the rule; from the left, so that the result is unique."""
    for place, (a, b) in enumerate(pairwise(classes)):
        if merge_if(a, b):
            return _merge_until([*classes[:place], _merge(a, b), *classes[place + 2 :]], merge_if=merge_if)
    return classes


def _merge(a: _Class, b: _Class) -> _Class:
    values = tuple(sorted(a.values + b.values))
    return _Class(values=values, below=b.below, goods=a.goods + b.goods, bads=a.bads + b.bads)


def _with_evidence(classes: Sequence[_Class]) -> tuple[_Class, ...]:
    goods, bads = sum(c.goods for c in classes), sum(c.bads for c in classes)
    return tuple(replace(c, woe=_woe(c, goods=goods, bads=bads)) for c in classes)


def _woe(c: _Class, *, goods: int, bads: int) -> float:
    # Half a row more on each side keeps a class without bads finite.
    return math.log(((c.goods + 0.5) / (goods + 0.5)) / ((c.bads + 0.5) / (bads + 0.5)))


def _informative(binned: _Binned) -> bool:
    return len(binned.classes) > 1 and _information_value(binned) >= INFORMATION_VALUE_MIN


def _information_value(binned: _Binned) -> float:
    goods, bads = sum(c.goods for c in binned.classes), sum(c.bads for c in binned.classes)
    return sum((c.goods / goods - c.bads / bads) * c.woe for c in binned.classes)


def _fit(chosen: Sequence[_Binned], rows: Sequence[Row]) -> tuple[list[float], float]:
    evidence = np.array([[b.woe_of(row.facts[b.feature.fact]) for b in chosen] for row in rows])
    good = np.array([not row.bad for row in rows], dtype=int)
    model = LogisticRegression(C=_INVERSE_PENALTY, solver="newton-cholesky", tol=1e-10, max_iter=200)
    model.fit(evidence, good)
    return [float(c) for c in model.coef_[0]], float(model.intercept_[0])


def _card(chosen: Sequence[_Binned], *, coefficients: Sequence[float], intercept: float) -> dict[str, Any]:
    factor = SCALING["pdo"] / math.log(2)
    start = SCALING["base_points"] + factor * (intercept - math.log(SCALING["base_odds"]))
    return {
        "start_points": round(start),
        "attributes": [_attribute(b, factor=factor * c) for b, c in zip(chosen, coefficients, strict=True)],
    }


def _attribute(binned: _Binned, *, factor: float) -> dict[str, Any]:
    return {
        "fact": binned.feature.fact,
        "kind": binned.feature.kind.value,
        "information_value": round(_information_value(binned), _DECIMALS),
        "bins": [_bin_document(c, feature=binned.feature, factor=factor) for c in binned.classes],
    }


def _bin_document(c: _Class, *, feature: Feature, factor: float) -> dict[str, Any]:
    points = round(factor * c.woe)
    where = {"values": list(c.values)} if feature.kind is Kind.CATEGORICAL else {"below": c.below}
    return where | {
        "points": points,
        "reason": feature.reason_of(c.values[0] if c.values else "") if points < 0 else None,
        "count": c.count,
        "bad_rate": round(c.bad_rate, _DECIMALS),
        "woe": round(c.woe, _DECIMALS),
    }


def _metrics_by_fold(rows: Sequence[Row], *, model: ScoringModel) -> dict[str, Any]:
    folds = [_metrics([r for r in rows if r.fold == fold], model=model) for fold in range(FOLDS)]
    names = ("auc", "gini", "ks", "brier")
    mean = {name: round(sum(f[name] for f in folds) / FOLDS, _DECIMALS) for name in names}
    return {"folds": folds, "mean": mean, "out_of_fold": _metrics(rows, model=model)}


def _metrics(rows: Sequence[Row], *, model: ScoringModel) -> dict[str, float]:
    bad = [row.bad for row in rows]
    if len(set(bad)) < 2:
        raise TooFewRows("a fold needs good and bad rows to be measured", rows=len(rows))
    risk = [model.score(row.facts).risk_score for row in rows]
    false_alarms, hits, _ = roc_curve(bad, risk)
    auc = float(roc_auc_score(bad, risk))
    measured = {"auc": auc, "gini": 2 * auc - 1, "ks": float(np.max(hits - false_alarms))}
    measured["brier"] = float(brier_score_loss(bad, risk))
    return {"rows": len(rows), "bads": sum(bad)} | {k: round(v, _DECIMALS) for k, v in measured.items()}
