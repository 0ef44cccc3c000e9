"""Trains a model on features that were computed offline. The same rows give the same model, to the last byte.

Only features that vary in the rows become inputs: of what the data know nothing, the model says nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from faregate.features.feature_set import FeatureSet
from faregate.fraud.contracts.release import ModelInput, Release, Thresholds
from faregate.fraud.domain.inputs import definitions_of
from faregate.fraud.domain.protocol import Bools, Integers, Split, card_precision
from faregate.kernel.errors import InvalidError

ROUNDS: Final = 150
FOLDS: Final = 5
PARAMETERS: Final[Mapping[str, Any]] = {
    "objective": "binary",
    "num_leaves": 15,
    "learning_rate": 0.05,
    "min_data_in_leaf": 50,
    "feature_fraction": 0.8,
    "bagging_fraction": 0.8,
    "bagging_freq": 1,
    "lambda_l2": 1.0,
    "seed": 7,
    "deterministic": True,
    "force_row_wise": True,
    "num_threads": 1,
    "verbose": -1,
}


class NothingToLearn(InvalidError):
    """The rows hold no fraud, or nothing else: no model can be made of them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rows:
    """Payments with their features, a row each; `values` has a column a feature."""

    values: pa.Table
    day: Integers
    card: Integers
    is_fraud: Bools


@dataclass(frozen=True, slots=True, kw_only=True)
class Aims:
    """What thresholds are chosen for: how precise declines are, and at which share of payments people look besides."""

    decline_precision: float = 0.9
    review_share: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """A model as the library writes it, and what goes with it."""

    content: bytes
    release: Release


def train(
    rows: Rows, split: Split, declared: FeatureSet, *, aims: Aims, described: Mapping[str, Any]
) -> Trained:
    """Train on one part of the rows, and test on the other. Raises NothingToLearn."""
    labels = rows.is_fraud[split.train]
    if not labels.any() or labels.all():
        raise NothingToLearn("the rows to learn from hold no fraud, or nothing else")
    names = varying(rows.values.filter(pa.array(split.train)), declared)
    learned, tested = (
        matrix(rows.values.filter(pa.array(part)), names) for part in (split.train, split.test)
    )
    booster = fitted(learned, labels, names)
    thresholds = chosen(out_of_fold(learned, labels, rows.card[split.train], names), labels, aims=aims)
    content: str = booster.model_to_string()
    definitions = definitions_of(declared)
    release = Release(
        feature_set=declared.name,
        feature_set_version=declared.version,
        inputs=tuple(ModelInput(name=name, definition=definitions[name]) for name in names),
        thresholds=thresholds,
        metrics=measured(booster.predict(tested), rows, split.test, thresholds=thresholds),
        trained_on={**described, "rows": int(split.train.sum()), "frauds": int(labels.sum())},
    )
    return Trained(content=content.encode(), release=release)


def varying(values: pa.Table, declared: FeatureSet) -> list[str]:
    """Return the features that have two values or more in a table."""
    return [name for name in declared.feature_named if len(values[name].unique()) > 1]


def matrix(values: pa.Table, names: list[str]) -> NDArray[np.float64]:
    """Return features as numbers, NaN where there is none."""
    columns = [values[name].cast(pa.float64()).to_numpy(zero_copy_only=False) for name in names]
    return np.column_stack(columns)


def fitted(learned: NDArray[np.float64], labels: Bools, names: list[str]) -> Any:
    """Return a booster trained on these rows."""
    import lightgbm  # takes half a second, which nobody who only scores has to wait for

    data = lightgbm.Dataset(learned, label=labels.astype(float), feature_name=names)
    return lightgbm.train(dict(PARAMETERS), data, num_boost_round=ROUNDS)


def out_of_fold(
    learned: NDArray[np.float64], labels: Bools, card: Integers, names: list[str]
) -> NDArray[np.float64]:
    """Return a score for each row from a model that saw nothing of its card."""
    score = np.zeros(len(labels))
    for fold in range(FOLDS):
        held_out = card % FOLDS == fold
        if held_out.any() and (~held_out).any():
            score[held_out] = fitted(learned[~held_out], labels[~held_out], names).predict(learned[held_out])
    return score


def chosen(score: NDArray[np.float64], labels: Bools, *, aims: Aims) -> Thresholds:
    """Return thresholds that meet the aims on these scores."""
    order = np.argsort(-score, kind="stable")
    precision = np.cumsum(labels[order]) / np.arange(1, len(order) + 1)
    precise = np.flatnonzero(precision >= aims.decline_precision)
    declined = int(precise[-1]) + 1 if len(precise) else 0
    looked_at = min(declined + round(aims.review_share * len(order)), len(order) - 1)
    decline_at = float(score[order[declined - 1]]) if declined else 1.0
    return Thresholds(review_at=min(float(score[order[looked_at]]), decline_at), decline_at=decline_at)


def measured(
    score: NDArray[np.float64], rows: Rows, part: Bools, *, thresholds: Thresholds
) -> Mapping[str, Any]:
    """Return how good scores are. What there is nothing to compute from is None."""
    from sklearn.metrics import average_precision_score, roc_auc_score

    is_fraud = rows.is_fraud[part]
    frauds, tells = int(is_fraud.sum()), bool(is_fraud.any() and not is_fraud.all())
    declined, looked_at = score >= thresholds.decline_at, score >= thresholds.review_at
    return {
        "rows": len(is_fraud),
        "frauds": frauds,
        "auc": float(roc_auc_score(is_fraud, score)) if tells else None,
        "average_precision": float(average_precision_score(is_fraud, score)) if tells else None,
        "card_precision_100": card_precision(
            day=rows.day[part], card=rows.card[part], is_fraud=is_fraud, score=score
        )
        if frauds
        else None,
        "declined": int(declined.sum()),
        "declined_frauds": int(is_fraud[declined].sum()),
        "declined_or_reviewed": int(looked_at.sum()),
        "declined_or_reviewed_frauds": int(is_fraud[looked_at].sum()),
    }
