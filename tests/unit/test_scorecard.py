"""Scorecards as data: bin edges, missing and unseen values, exact probabilities, folds, broken artefacts."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.domain.facts import FACTS, Source
from faregate.credit.domain.scorecard import (
    Attribute,
    BrokenScorecard,
    CrossFittedScorecard,
    Scaling,
    Scorecard,
    artefact_sha256,
    fold_of,
    probability_of_default,
    read_scorecard,
)
from faregate.credit.store.artefacts import ArtefactNotFound, load_artefact, load_scorecard

SCALING = Scaling(base_points=600, base_odds=20, pdo=40)
ARTEFACT: dict[str, Any] = {
    "name": "test-1",
    "scaling": {"base_points": 600, "base_odds": 20, "pdo": 40},
    "fold_features": ["amount", "purpose"],
    "cards": [
        {
            "start_points": 500,
            "attributes": [
                {
                    "fact": "term_months",
                    "kind": "numeric",
                    "bins": [
                        {"below": 12, "points": 30, "reason": None},
                        {"below": 24, "points": 0, "reason": None},
                        {"below": None, "points": -20, "reason": "TERM_TOO_LONG"},
                    ],
                },
                {
                    "fact": "housing",
                    "kind": "categorical",
                    "bins": [
                        {"values": ["own"], "points": 5, "reason": None},
                        {"values": ["free", "rent"], "points": -7, "reason": "TYPE_OF_HOUSING"},
                    ],
                },
            ],
        }
    ],
}

any_value = st.none() | st.booleans() | st.integers() | st.text()
fact_values = {
    name: st.sampled_from(sorted(fact.values, key=str)) if fact.values else st.integers(0, 20_000)
    for name, fact in FACTS.items()
}


def card() -> Scorecard:
    model = read_scorecard(ARTEFACT)
    assert isinstance(model, Scorecard)
    return model


def real_cards() -> list[Scorecard]:
    whole, cross_fitted = load_scorecard("german-1"), load_scorecard("german-1-cross-fitted")
    assert isinstance(whole, Scorecard)
    assert isinstance(cross_fitted, CrossFittedScorecard)
    return [whole, *cross_fitted.cards]


@pytest.mark.parametrize(
    ("months", "points"), [(0, 530), (11, 530), (12, 500), (23, 500), (24, 480), (10**9, 480), (-5, 530)]
)
def test_a_numeric_edge_belongs_to_the_bin_above_it(months: int, points: int) -> None:
    assert card().score({"term_months": months}).points == points


@pytest.mark.parametrize("value", [None, "12", True, 3.5, "castle"])
def test_a_missing_or_mistyped_or_unseen_value_is_neutral(value: Any) -> None:
    score = card().score({"term_months": value, "housing": value})
    assert score.points == 500
    assert [c.reason for c in score.contributions] == [None, None]


def test_only_a_value_that_costs_points_has_a_reason() -> None:
    contributions = card().score({"term_months": 6, "housing": "rent"}).contributions
    assert [(c.points, c.reason) for c in contributions] == [(30, None), (-7, "TYPE_OF_HOUSING")]


@pytest.mark.requirement("C3")
@given(st.dictionaries(st.sampled_from(sorted(FACTS)), any_value))
def test_any_facts_have_a_score_between_0_and_1_and_always_the_same(facts: dict[str, Any]) -> None:
    for model in (load_scorecard("german-1"), load_scorecard("german-1-cross-fitted")):
        score = model.score(facts)
        assert 0 <= score.risk_score <= 1
        assert score == model.score(dict(reversed(facts.items())))
        assert score.points == model.score(facts).points


@given(st.fixed_dictionaries(fact_values))
def test_points_are_the_start_plus_the_bins(facts: dict[str, Any]) -> None:
    for model in real_cards():
        bins = [attribute.bin_of(facts[attribute.fact]) for attribute in model.attributes]
        assert model.score(facts).points == model.start_points + sum(b.points for b in bins if b)


@given(st.fixed_dictionaries(fact_values), st.integers(0, 20_000), st.sampled_from(["amount", "term_months"]))
def test_a_higher_amount_or_a_longer_term_never_lowers_the_risk(
    facts: dict[str, Any], more: int, name: str
) -> None:
    for model in real_cards():
        raised = facts | {name: facts[name] + more}
        assert model.score(raised).risk_score >= model.score(facts).risk_score


def each_attribute() -> list[Attribute]:
    return [attribute for model in real_cards() for attribute in model.attributes]


def test_every_value_of_the_released_cards_is_in_exactly_the_bin_that_lists_it() -> None:
    for attribute in each_attribute():
        for b in attribute.bins:
            assert all(attribute.bin_of(value) is b for value in b.values)
            if b.below is not None:
                assert attribute.bin_of(b.below - 1) is b
                assert attribute.bin_of(b.below) is not b


def test_the_released_cards_use_only_facts_that_may_be_scored() -> None:
    assert {attribute.fact for attribute in each_attribute()} <= FACTS.keys()


@given(st.integers(-2000, 4000))
def test_the_probability_is_the_logistic_of_the_points_to_four_decimals(points: int) -> None:
    odds = 20 * 2.0 ** ((points - 600) / 40)
    assert probability_of_default(points, scaling=SCALING) == pytest.approx(1 / (1 + odds), abs=5.1e-5)


@given(st.integers(-2000, 4000))
def test_more_points_never_mean_more_risk(points: int) -> None:
    here, above = (probability_of_default(p, scaling=SCALING) for p in (points, points + 1))
    assert above <= here
    assert math.isclose(here, round(here, 4), abs_tol=1e-12)


@given(st.integers(0, 10**9), st.text())
def test_the_fold_depends_on_the_form_alone(amount: int, purpose: str) -> None:
    form: dict[str, Any] = {"amount": amount, "purpose": purpose.encode(errors="replace").decode()}
    fold = fold_of(form, features=("amount", "purpose"), folds=5)
    assert fold == fold_of({"savings": "none", **form}, features=("amount", "purpose"), folds=5)
    assert 0 <= fold < 5


def test_a_cross_fitted_score_names_its_fold() -> None:
    model = load_scorecard("german-1-cross-fitted")
    facts: dict[str, Any] = {"amount": 1169, "purpose": "radio_television"}
    fold = fold_of(facts, features=("amount", "purpose"), folds=5)
    assert model.score(facts).version == f"german-1-cross-fitted#{fold}"
    assert load_scorecard(model.score(facts).version) == model


def test_form_features_decide_the_fold() -> None:
    features = load_artefact("scorecards", "german-1-cross-fitted")["fold_features"]
    assert {FACTS[name].source for name in features} == {Source.FORM}


def _bin(artefact: dict[str, Any], attribute: int, number: int) -> dict[str, Any]:
    found: dict[str, Any] = artefact["cards"][0]["attributes"][attribute]["bins"][number]
    return found


@pytest.mark.parametrize(
    "break_it",
    [
        lambda a: _bin(a, 0, 2).update(reason=None),
        lambda a: _bin(a, 0, 0).update(below=30),
        lambda a: _bin(a, 0, 2).update(below=48),
        lambda a: _bin(a, 0, 0).update(below=None),
        lambda a: _bin(a, 1, 0).update(values=["own", "rent"]),
        lambda a: _bin(a, 1, 0).update(values=[]),
        lambda a: a["cards"].clear(),
        lambda a: a.pop("scaling"),
        lambda a: a["cards"][0]["attributes"][0].update(kind="magic"),
    ],
)
def test_a_broken_artefact_is_refused(break_it: Callable[[dict[str, Any]], Any]) -> None:
    artefact = copy.deepcopy(ARTEFACT)
    break_it(artefact)
    with pytest.raises(BrokenScorecard):
        read_scorecard(artefact)


def test_the_hash_of_an_artefact_ignores_the_order_of_its_keys() -> None:
    assert artefact_sha256(ARTEFACT) == artefact_sha256(dict(reversed(ARTEFACT.items())))


def test_an_unknown_artefact_is_a_named_error() -> None:
    with pytest.raises(ArtefactNotFound):
        load_scorecard("german-99")
