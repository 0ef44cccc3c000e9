"""Models score as the library does, to the last bit, are explained by a table that is whole, and trained alike."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.features.declarations import count, minutes
from faregate.features.feature_set import FeatureSet
from faregate.features.payments import MEMBER, PAYMENT, PAYMENTS
from faregate.fraud.contracts.release import Release, Thresholds, ThresholdsInvalid
from faregate.fraud.contracts.scoring import Action
from faregate.fraud.domain.inputs import definitions_of
from faregate.fraud.domain.reasons import ReasonTable, ReasonTableIncomplete, reasons_of_model
from faregate.fraud.domain.scoring import verdict_of_score
from faregate.fraud.handlers.booster import Booster, BoosterUnreadable
from faregate.fraud.store.artefacts import load_reasons
from tests.fraud_models import INPUTS, made_up

NUMBERS = st.floats(allow_nan=True, allow_infinity=True) | st.integers(0, 10**12).map(float)


@given(rows=st.lists(st.tuples(*[NUMBERS] * len(INPUTS)), min_size=1, max_size=20))
@settings(deadline=None, max_examples=60)
def test_a_row_alone_scores_and_explains_as_the_library_does_to_the_last_bit(
    rows: list[tuple[float, ...]],
) -> None:
    import lightgbm

    theirs = lightgbm.Booster(model_str=made_up().content.decode())
    ours = Booster(made_up().content, inputs=len(INPUTS))
    told: Any = theirs.predict(np.array(rows), num_threads=1)
    assert [ours.score([*row]) for row in rows] == told.tolist()
    contributions: Any = theirs.predict(np.array(rows), pred_contrib=True, num_threads=1)
    assert [ours.contributions([*row]) for row in rows] == contributions[:, :-1].tolist()


@pytest.mark.parametrize("content", [b"", b"tree\nnonsense", made_up().content[:200]])
def test_what_is_no_model_is_refused(content: bytes) -> None:
    with pytest.raises(BoosterUnreadable):
        Booster(content, inputs=len(INPUTS))


def test_a_model_of_other_inputs_is_refused() -> None:
    with pytest.raises(BoosterUnreadable, match="reads 4 inputs, not 5"):
        Booster(made_up().content, inputs=5)


def test_the_same_rows_make_the_same_model() -> None:
    again = made_up.__wrapped__()
    assert again.content == made_up().content
    assert again.release == made_up().release
    assert made_up(1).content != made_up().content


def test_features_that_tell_nothing_are_no_inputs() -> None:
    assert made_up().release.names == list(INPUTS)


def test_a_release_survives_being_stored() -> None:
    assert Release.of(made_up().release.document() | {}) == made_up().release


@pytest.mark.requirement("F10")
def test_every_live_feature_has_a_reason_code_with_words() -> None:
    load_reasons().require_whole(PAYMENTS.feature_named)


def test_a_feature_without_a_code_and_a_code_without_words_are_found_out() -> None:
    table = load_reasons()
    with pytest.raises(ReasonTableIncomplete, match="no reason code for new_one"):
        table.require_whole(["amount_minor", "new_one"])
    with pytest.raises(ReasonTableIncomplete, match="no words for B"):
        ReasonTable.of({"version": "x", "codes": {"A": "a", "B": ""}, "features": {"f": "A", "g": "B"}})


def test_reasons_are_what_raised_the_score_greatest_first_and_once_a_code() -> None:
    table = ReasonTable(
        version="x",
        codes={code: code.lower() for code in "ABCDEF"},
        features={"a1": "A", "a2": "A", "b": "B", "c": "C", "d": "D", "e": "E", "f": "F"},
    )
    told = reasons_of_model(
        ["a1", "a2", "b", "c", "d", "e", "f"], [2.0, -1.5, 1.0, 0.5, -3.0, 0.5, 0.25], table
    )
    assert [reason.code for reason in told] == ["B", "A", "C", "E"]
    assert {reason.source for reason in told} == {"model"}


@pytest.mark.parametrize(
    ("score", "action"),
    [
        (0.0, Action.APPROVE),
        (np.nextafter(0.3, 0), Action.APPROVE),
        (0.3, Action.REVIEW),
        (np.nextafter(0.8, 0), Action.REVIEW),
        (0.8, Action.DECLINE),
        (1.0, Action.DECLINE),
        (None, Action.APPROVE),
    ],
)
def test_thresholds_decide_and_belong_to_what_is_above_them(score: float | None, action: Action) -> None:
    assert verdict_of_score(score, Thresholds(review_at=0.3, decline_at=0.8)).action is action


@pytest.mark.parametrize(("review", "decline"), [(0.5, 0.4), (-0.1, 0.5), (0.5, 1.1), (float("nan"), 1.0)])
def test_thresholds_out_of_order_are_refused(review: float, decline: float) -> None:
    with pytest.raises(ThresholdsInvalid):
        Thresholds(review_at=review, decline_at=decline)


def test_a_definition_changes_with_what_could_change_a_value_and_with_nothing_else() -> None:
    def declared(*, over: int, further: bool = False) -> FeatureSet:
        more = [count("other", by=MEMBER, of=PAYMENT, over=minutes(9))] if further else []
        features = (count("one", by=MEMBER, of=PAYMENT, over=over), *more)
        return FeatureSet(name="x", asked_by=PAYMENT, others=(), features=features)

    one = definitions_of(declared(over=minutes(1)))["one"]
    assert definitions_of(declared(over=minutes(1), further=True))["one"] == one
    assert definitions_of(declared(over=minutes(2)))["one"] != one
