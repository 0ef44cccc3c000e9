"""The credit decision: a table of situations, and what holds for whatever the providers send."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.contracts import Status
from faregate.credit.domain import decision
from faregate.credit.domain.decision import CheckSignal, DecisionInputs, DecisionResult
from faregate.credit.domain.facts import FACTS, Check
from faregate.credit.domain.features import CANDIDATES
from faregate.credit.domain.reasons import OTHER, REASONS_MAX, wording_of
from faregate.credit.domain.sample import inputs_of_row
from faregate.credit.store.artefacts import load_reason_codes, load_ruleset_document, load_scorecard
from faregate.credit.store.scorecards import SAMPLE
from faregate.rules.contracts import Evaluation
from faregate.rules.ruleset import CompiledRuleset, RulesetFailed, canonical, compile_ruleset

TABLE = list(csv.DictReader(SAMPLE.read_text(encoding="utf-8").splitlines()))
CODES = load_reason_codes("reason-codes-1")["codes"]
CARD = load_scorecard("german-1-cross-fitted")
GOOD = inputs_of_row(TABLE[0])  # risk far below the first cut-off
POOR = inputs_of_row(TABLE[10])  # risk above the last one


@cache
def ruleset() -> CompiledRuleset:
    return compile_ruleset(canonical(load_ruleset_document("card-eligibility-1")))


def decide(inputs: DecisionInputs) -> DecisionResult:
    return decision.decide(inputs, scorecard=CARD, ruleset=ruleset())


def with_form(inputs: DecisionInputs, **changes: Any) -> DecisionInputs:
    return replace(inputs, application=replace(inputs.application, **changes))


def with_check(inputs: DecisionInputs, check: str, **changes: Any) -> DecisionInputs:
    signal = replace(inputs.signals[check], **changes)
    return replace(inputs, signals={**inputs.signals, check: signal})


def with_facts(inputs: DecisionInputs, check: str, **facts: Any) -> DecisionInputs:
    return with_check(inputs, check, facts={**inputs.signals[check].facts, **facts})


@pytest.mark.requirement("C8")
def test_an_approval_says_what_spoke_for_it_and_names_nothing_adverse() -> None:
    result = decide(GOOD)
    assert result.outcome is Status.APPROVED
    assert result.reason_codes == ("BUREAU_OK", "FRAUD_LOW", "INCOME_VERIFIED", "KYC_OK", "SCORE_LOW_RISK")
    assert result.adverse_action_reasons == ()
    assert 0 < result.risk_score < 0.3


@pytest.mark.requirement("C17")
def test_a_denial_by_score_names_the_factors_that_cost_most_points_first() -> None:
    result = decide(POOR)
    assert result.outcome is Status.DENIED
    assert result.reason_codes == ("SCORE_HIGH_RISK",)
    lost = [reason.points_lost or 0 for reason in result.adverse_action_reasons]
    contributions = result.trace["scorecard"]["contributions"].values()
    assert lost == sorted((-points for points in contributions if points < 0), reverse=True)[:REASONS_MAX]
    assert all(reason.wording for reason in result.adverse_action_reasons)


KNOCK_OUTS = [
    (with_form(GOOD, age_years=17), "AGE_BELOW_LEGAL_CAPACITY"),
    (with_form(GOOD, annual_income=11_999), "INCOME_BELOW_MINIMUM"),
    (with_facts(GOOD, "income", annual_income_verified=11_999), "INCOME_BELOW_MINIMUM"),
    (with_facts(GOOD, "kyc", watchlist_match=True), "WATCHLIST_MATCH"),
    (with_facts(GOOD, "kyc", sanctioned=True), "SANCTIONED"),
    (with_facts(GOOD, "kyc", identity_verified=False), "IDENTITY_NOT_VERIFIED"),
    (with_facts(GOOD, "fraud", fraud_level="high"), "FRAUD_HIGH"),
]


@pytest.mark.requirement("C3")
@pytest.mark.parametrize(("inputs", "code"), KNOCK_OUTS)
def test_a_knock_out_denies_with_its_own_reason(inputs: DecisionInputs, code: str) -> None:
    result = decide(inputs)
    assert result.outcome is Status.DENIED
    assert result.reason_codes == (code,)
    assert [(r.code, r.wording, r.points_lost) for r in result.adverse_action_reasons] == [
        (code, wording_of(code, code_set=CODES), None)
    ]


def test_a_knock_out_denies_although_another_check_is_missing() -> None:
    result = decide(with_check(with_form(GOOD, age_years=17), "bureau", status="missing"))
    assert result.outcome is Status.DENIED


REVIEWS = [
    (with_facts(GOOD, "fraud", fraud_level="medium"), ("FRAUD_MEDIUM",)),
    (with_form(GOOD, annual_income=50_001), ("INCOME_OVERSTATED",)),
    (with_facts(GOOD, "income", annual_income_verified=None), ("INCOME_FACTS_INCOMPLETE",)),
    (with_facts(GOOD, "bureau", credit_history="enigmatic"), ("BUREAU_FACTS_INCOMPLETE",)),
    (with_facts(GOOD, "kyc", identity_verified="yes"), ("KYC_FACTS_INCOMPLETE",)),
    (with_facts(GOOD, "fraud", fraud_level=None), ("FRAUD_FACTS_INCOMPLETE",)),
    (replace(GOOD, signals={}), tuple(f"{c}_CHECK_TIMEOUT" for c in ("BUREAU", "KYC", "FRAUD", "INCOME"))),
]


@pytest.mark.requirement("C3")
@pytest.mark.parametrize(("inputs", "codes"), REVIEWS)
def test_what_a_person_should_see_goes_to_manual_review(
    inputs: DecisionInputs, codes: tuple[str, ...]
) -> None:
    result = decide(inputs)
    assert (result.outcome, result.reason_codes) == (Status.MANUAL_REVIEW, codes)
    assert result.adverse_action_reasons == ()


@pytest.mark.requirement("C23")
@pytest.mark.parametrize("check", list(Check))
@pytest.mark.parametrize(
    ("status", "ending"), [("unknown", "TIMEOUT"), ("missing", "TIMEOUT"), ("not_done", "FAILED")]
)
def test_a_mandatory_check_without_answer_leads_to_manual_review(
    check: Check, status: str, ending: str
) -> None:
    for inputs in (GOOD, POOR):
        result = decide(with_check(inputs, check, status=status))
        assert result.outcome is Status.MANUAL_REVIEW
        assert result.reason_codes == (f"{check.upper()}_CHECK_{ending}",)


def test_a_check_that_is_not_required_may_be_missing() -> None:
    inputs = replace(with_check(GOOD, "fraud", status="missing"), required_checks=["bureau", "kyc", "income"])
    assert decide(inputs).outcome is Status.APPROVED


def test_what_an_optional_check_did_not_find_out_counts_neither_way_and_what_it_did_counts() -> None:
    optional = ["bureau", "kyc", "income"]
    silent = decide(replace(with_check(GOOD, "fraud", status="done", facts={}), required_checks=optional))
    assert silent.outcome is Status.APPROVED
    half = with_check(GOOD, "fraud", status="done", facts={"fraud_level": "high"})
    assert decide(replace(half, required_checks=optional)).outcome is Status.DENIED
    no_bureau = with_check(GOOD, "bureau", status="missing")
    given = decide(replace(no_bureau, required_checks=["kyc", "fraud", "income"])).trace["scorecard"]
    whole = decide(GOOD).trace["scorecard"]["contributions"]
    unknown = {fact for fact, points in given["contributions"].items() if points != whole[fact]}
    assert unknown
    assert {given["contributions"][fact] for fact in unknown} == {0}


def test_an_income_a_quarter_above_the_verified_one_is_still_plausible() -> None:
    assert decide(with_form(GOOD, annual_income=50_000)).outcome is Status.APPROVED


def test_a_required_check_that_no_rule_knows_goes_to_manual_review() -> None:
    result = decide(replace(GOOD, required_checks=["bureau", "horoscope"]))
    assert (result.outcome, result.reason_codes) == (Status.MANUAL_REVIEW, ("RULES_NOT_EVALUATED",))
    assert "horoscope" in result.trace["ruleset"]["error"]


class _Rules:
    """A ruleset with one fixed answer."""

    label, sha256, code_set_version = "fixed-1", "0" * 64, "codes-1"

    def __init__(self, answer: Mapping[str, Any] | None, codes: Mapping[str, Any]) -> None:
        self.answer, self.codes = answer, codes

    def evaluate(self, context: Mapping[str, Any]) -> Evaluation:
        if self.answer is None:
            raise RulesetFailed("fixed-1 failed")
        return Evaluation(result=self.answer, trace=())


DENY = {"outcome": "denied", "reason_codes": ["X"], "adverse_codes": ["X"], "denied_by_score": False}


@pytest.mark.requirement("C17")
@pytest.mark.parametrize("codes", [{}, {"X": {"meaning": "unmapped"}}])
def test_a_denial_without_a_mapped_reason_becomes_a_manual_review(codes: dict[str, Any]) -> None:
    result = decision.decide(GOOD, scorecard=CARD, ruleset=_Rules(DENY, codes))
    assert (result.outcome, result.reason_codes) == (Status.MANUAL_REVIEW, ("NO_ADVERSE_REASON",))


code_values = st.lists(st.sampled_from(["X", "Y", "Z", "NOBODY", ""]), max_size=6)
anything = st.sampled_from([None, True, 1, 0.5, "X", [], ["X", None], [["X"]], {}, {"X": "X"}])
answers = st.fixed_dictionaries(
    {},
    optional={
        "outcome": st.sampled_from(["denied", "denied", "approved", "manual_review", "processing"])
        | anything,
        "reason_codes": code_values | anything,
        "adverse_codes": code_values | anything,
        "denied_by_score": st.booleans() | anything,
    },
)
entries = st.sampled_from(
    [
        {},
        {"meaning": "unmapped"},
        {"form_c1": "Bankruptcy"},
        {"form_c1": OTHER},
        {"form_c1": OTHER, "specify": " "},
        {"form_c1": OTHER, "specify": "Purpose of the credit requested"},
    ]
)
code_sets = st.dictionaries(st.sampled_from(["X", "Y", "Z", *CODES]), entries)


@pytest.mark.requirement("C17")
@pytest.mark.requirement("C18")
@given(answers, code_sets, st.sampled_from([GOOD, POOR]))
def test_whatever_a_ruleset_answers_nobody_is_denied_without_a_reason_in_words(
    answer: dict[str, Any], codes: dict[str, Any], inputs: DecisionInputs
) -> None:
    result = decision.decide(inputs, scorecard=CARD, ruleset=_Rules(answer, codes))
    assert result.outcome in ("approved", "denied", "manual_review")
    wordings = [reason.wording.strip() for reason in result.adverse_action_reasons]
    assert bool(wordings) == (result.outcome is Status.DENIED)
    assert all(wordings)
    assert OTHER not in wordings


MALFORMED = [
    {},
    {**DENY, "outcome": "processing"},
    {**DENY, "adverse_codes": "X"},
    {**DENY, "denied_by_score": 1},
]


@pytest.mark.parametrize("answer", MALFORMED)
def test_an_answer_that_is_no_decision_leads_to_manual_review(answer: dict[str, Any]) -> None:
    rules = _Rules(answer, {"X": {"form_c1": "Bankruptcy"}})
    result = decision.decide(GOOD, scorecard=CARD, ruleset=rules)
    assert (result.outcome, result.reason_codes) == (Status.MANUAL_REVIEW, ("RULES_NOT_EVALUATED",))
    assert "fixed-1 answered no" in result.trace["ruleset"]["error"]


def test_a_failing_ruleset_leads_to_manual_review() -> None:
    result = decision.decide(GOOD, scorecard=CARD, ruleset=_Rules(None, {}))
    assert (result.outcome, result.reason_codes) == (Status.MANUAL_REVIEW, ("RULES_NOT_EVALUATED",))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(), inner, max_size=2),
    max_leaves=3,
)
plausible = {
    name: st.sampled_from(sorted(f.values, key=str)) if f.values else st.integers(0, 100)
    for name, f in FACTS.items()
} | {
    "identity_verified": st.booleans(),
    "watchlist_match": st.booleans(),
    "fraud_level": st.sampled_from(["low", "medium", "high"]),
    "annual_income_verified": st.integers(0, 100_000),
}
some_facts = st.fixed_dictionaries({}, optional={k: v | json_values for k, v in plausible.items()})
all_facts = st.fixed_dictionaries(plausible)
signals = st.dictionaries(
    st.sampled_from(list(Check)) | st.text(),
    st.builds(
        CheckSignal,
        status=st.sampled_from(["done", "done", "done", "not_done", "unknown", "missing"]) | st.text(),
        provider=st.none() | st.text(),
        provider_request_id=st.none() | st.text(),
        facts=all_facts | some_facts,
    ),
)
answered = st.fixed_dictionaries(
    {c.value: st.builds(CheckSignal, status=st.just("done"), facts=all_facts) for c in Check}
)
applications = st.builds(
    decision.ApplicationFacts,
    product_type=st.text(),
    amount=st.none() | st.integers(),
    purpose=st.none() | st.text(),
    annual_income=st.integers(),
    age_years=st.integers(),
)
any_inputs = st.builds(
    DecisionInputs,
    application=applications | st.just(GOOD.application),
    signals=signals | answered,
    required_checks=st.just(["bureau", "kyc", "fraud", "income"]) | st.lists(st.text(), max_size=2),
    latest_step=st.none() | st.text(),
)


@pytest.mark.requirement("C32")
@given(any_inputs)
def test_any_inputs_are_decided_and_replayed_to_the_identical_decision(inputs: DecisionInputs) -> None:
    result, document = decide(inputs), decision.inputs_document(inputs)
    recorded = json.loads(json.dumps(document))
    again = decision.replay(recorded, scorecard=CARD, ruleset=ruleset())
    assert json.dumps(again.document()) == json.dumps(result.document())
    assert decision.document_sha256(recorded) == decision.document_sha256(document)
    assert len(decision.document_sha256(result.document())) == 64


@pytest.mark.requirement("C17")
@given(any_inputs)
def test_every_denial_has_mapped_adverse_reasons_and_nothing_else_has_any(inputs: DecisionInputs) -> None:
    result = decide(inputs)
    codes = [reason.code for reason in result.adverse_action_reasons]
    assert bool(codes) == (result.outcome is Status.DENIED)
    assert len(codes) == len(set(codes)) <= REASONS_MAX
    assert all(CODES[code]["form_c1"] for code in codes)
    assert result.reason_codes
    assert set(result.reason_codes) <= CODES.keys()


@given(any_inputs)
def test_nobody_is_approved_without_every_required_answer(inputs: DecisionInputs) -> None:
    if decide(inputs).outcome is Status.APPROVED:
        for check in set(inputs.required_checks):
            assert inputs.signals[check].status == "done"
            assert decision.NEEDED_FACTS[Check(check)] <= inputs.signals[check].facts.keys()


@pytest.mark.requirement("C32")
def test_the_trace_names_rules_scores_and_versions() -> None:
    trace = decide(POOR).trace
    assert trace["ruleset"]["version"] == "card-eligibility-1"
    assert trace["ruleset"]["sha256"] == ruleset().sha256
    assert {"node": "outcome", "rules": ["high_risk"]} in trace["ruleset"]["nodes"]
    assert trace["scorecard"]["version"] == decide(POOR).scorecard_version
    assert trace["scorecard"]["contributions"].keys() <= {feature.fact for feature in CANDIDATES}
    assert "performance" not in json.dumps(trace)


def test_the_record_of_the_inputs_keeps_no_unknown_field_of_a_provider() -> None:
    inputs = with_facts(GOOD, "kyc", legal_name="Ada Example", ssn="078-05-1120")
    document = json.dumps(decision.inputs_document(inputs))
    assert "Ada" not in document
    assert decision.inputs_document(inputs) == decision.inputs_document(GOOD)


def test_facts_of_a_check_that_is_not_done_do_not_count() -> None:
    document = decision.inputs_document(with_check(GOOD, "kyc", status="unknown"))
    assert "identity_verified" not in document["facts"]


def test_the_order_of_facts_and_checks_changes_nothing() -> None:
    turned = replace(
        GOOD,
        signals=dict(reversed(list(GOOD.signals.items()))),
        required_checks=["kyc", "income", "bureau", "fraud"],
    )
    assert json.dumps(decision.inputs_document(turned)) == json.dumps(decision.inputs_document(GOOD))
