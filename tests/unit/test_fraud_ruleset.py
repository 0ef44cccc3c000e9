"""The released rules of fraud: what stops them from being published, and that they do what their cases say."""

from __future__ import annotations

from typing import Any

import pytest
import zen
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.features.payments import PAYMENTS
from faregate.fraud.domain.cases import read_cases, results_of
from faregate.fraud.domain.listed import NAMES
from faregate.fraud.domain.rule_check import fraud_findings
from faregate.rules.compiled import compile_hot
from faregate.rules.conversion import ConversionInvalid, read_conversions
from faregate.rules.findings import Severity
from faregate.rules.ruleset import canonical, engine_graph
from tests.fraud_rules import Change, released, rows

RELEASED = released(1)
RULESET = compile_hot(canonical(RELEASED))
SCHEMA = RELEASED["graph"]["nodes"][0]["content"]["schema"]["properties"]
FEATURES = SCHEMA["features"]["properties"]


def errors(document: dict[str, Any]) -> list[str]:
    found = fraud_findings(document, features=FEATURES)
    return [finding.text for finding in found if finding.severity is Severity.ERROR]


def test_the_released_rules_may_be_published_and_every_rule_has_a_case() -> None:
    found = fraud_findings(RELEASED, features=FEATURES)
    assert [finding.text for finding in found if finding.severity is not Severity.NOTE] == []


def test_the_released_rules_read_features_that_there_are() -> None:
    assert FEATURES.keys() <= {feature.name for feature in PAYMENTS.features}


@pytest.mark.requirement("F7")
@pytest.mark.parametrize("case", read_cases(RELEASED), ids=lambda case: case.says)
def test_the_released_rules_do_what_their_cases_say(case: Any) -> None:
    [result] = results_of(RULESET, [case])
    assert (result.fired, result.action) == (case.fired, case.action)


def numbers_near_limits() -> st.SearchStrategy[Any]:
    limits = (0, 1, 3, 4, 5, 8, 10, 15, 20, 25, 30, 300, 3_600, 86_400, 20_000, 1_000_000)
    return st.none() | st.sampled_from(limits).flatmap(lambda n: st.integers(max(0, n - 1), n + 1))


payments = st.fixed_dictionaries(
    {
        "amount_minor": st.sampled_from((20_000, 30_000, 50_000, 100_000, 1_000_000)).flatmap(
            lambda n: st.integers(n - 1, n + 1)
        ),
        "currency": st.sampled_from(("USD", "EUR", "JPY", "KWD", "XOF")),
        "merchant": st.just("mer_1"),
        "merchant_category": st.sampled_from((4829, 5812, 6009, 6010, 6012, 6013, 7995)),
        "channel": st.sampled_from(("online", "in_store", "atm", "recurring")),
        "country": st.sampled_from(("US", "IR", "CU")),
        "terminal_id": st.none() | st.just("ter_1"),
        "device_id": st.none() | st.just("dev_1"),
        "ip_token": st.none() | st.just("ip_1"),
        "hour": st.integers(0, 23),
        "features": st.fixed_dictionaries(
            {}, optional={name: numbers_near_limits() | st.floats(0, 1e7) for name in FEATURES}
        ),
        "lists": st.fixed_dictionaries({name: st.booleans() for name in NAMES}),
    }
)
ENGINE = zen.ZenEngine().create_decision(
    engine_graph(
        {
            **RELEASED["graph"],
            "nodes": [
                {**node, "content": {**node["content"], "schema": None}}
                if node["type"] == "inputNode"
                else node
                for node in RELEASED["graph"]["nodes"]
            ],
        }
    )
)


@pytest.mark.requirement("F7")
@settings(max_examples=150, deadline=None)
@given(payments)
def test_the_released_rules_fire_as_by_the_engine_itself(facts: Any) -> None:
    answer = ENGINE.evaluate(dict(RULESET.completed(facts)), {"trace": True})
    tables = [node["id"] for node in RELEASED["graph"]["nodes"] if node["type"] == "decisionTableNode"]
    fired = [hit["rule"]["_id"] for name in tables for hit in answer["trace"][name]["traceData"]]
    evaluation = RULESET.evaluate(facts)
    assert [one.rule for one in evaluation.fired] == fired
    if facts["country"] != "US":
        assert evaluation.action == "decline"


def without_cases(document: dict[str, Any]) -> None:
    del document["cases"]


def failing_case(document: dict[str, Any]) -> None:
    document["cases"]["given"][0]["action"] = "decline"


def impossible_case(document: dict[str, Any]) -> None:
    document["cases"]["given"][0]["facts"] = {"amount_minor": -1}


def crooked_case(document: dict[str, Any]) -> None:
    document["cases"]["given"][2] = {"says": "nothing"}


def unknown_feature(document: dict[str, Any]) -> None:
    declared = document["graph"]["nodes"][0]["content"]["schema"]["properties"]["features"]["properties"]
    declared["card_mood"] = {"type": "integer"}


def unknown_list(document: dict[str, Any]) -> None:
    declared = document["graph"]["nodes"][0]["content"]["schema"]["properties"]["lists"]["properties"]
    declared["grey"] = {"type": "boolean"}


def unknown_fact(document: dict[str, Any]) -> None:
    document["graph"]["nodes"][0]["content"]["schema"]["properties"]["cvv"] = {"type": "string"}


def unknown_code(document: dict[str, Any]) -> None:
    rows(document, "amounts")[0]["code"] = '"NO_SUCH_CODE"'


def unknown_action(document: dict[str, Any]) -> None:
    rows(document, "amounts")[0]["action"] = '"delete"'


def zero_rate(document: dict[str, Any]) -> None:
    document["conversions"][0]["factors"]["EUR"] = "0"


def broken_cell(document: dict[str, Any]) -> None:
    rows(document, "amounts")[0]["amount"] = "> > 1"


@pytest.mark.requirement("F11")
@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without_cases, "cases must hold base"),
        (failing_case, "does not hold: nothing fires and decline decides, not nothing fires and no rule"),
        (impossible_case, "has facts that no payment has: amount_minor"),
        (crooked_case, "case 3: cases must hold base"),
        (unknown_feature, "no payment has the fact features.card_mood"),
        (unknown_list, "no payment has the fact lists.grey"),
        (unknown_fact, "no payment has the fact cvv"),
        (unknown_code, "NO_SUCH_CODE is not in the code set"),
        (unknown_action, "rule over_10000 needs a quoted code, and an action"),
        (zero_rate, "above 0"),
        (broken_cell, "is broken"),
    ],
)
def test_what_is_wrong_with_rules_of_fraud_is_said_by_name(change: Change, said: str) -> None:
    assert any(said in error for error in errors(released(2, change)))


def test_a_rule_that_no_case_fires_is_warned_of() -> None:
    document = released(2)
    document["cases"]["given"] = document["cases"]["given"][:1]
    found = fraud_findings(document, features=FEATURES)
    assert {finding.row for finding in found if finding.severity is Severity.WARNING} == {
        rule.rule for rule in RULESET.rules
    }


@pytest.mark.parametrize(
    ("amount_minor", "currency", "converted"),
    [(100, "EUR", 110), (1, "JPY", 1), (2, "JPY", 1), (0, "USD", 0), (7, "XXX", None), (None, "USD", None)],
)
def test_amounts_are_converted_to_whole_numbers_halves_up(
    amount_minor: int | None, currency: str, converted: int | None
) -> None:
    facts = {"amount_minor": amount_minor, "currency": currency}
    assert RULESET.completed(facts)["amount_usd_minor"] == converted


def test_a_fact_that_is_converted_is_not_believed_when_it_is_given() -> None:
    facts = {"amount_minor": 2_000_000, "currency": "USD", "amount_usd_minor": 1}
    assert RULESET.evaluate(facts).action == "review"


@pytest.mark.parametrize(
    "found",
    [
        {},
        [1],
        [{"fact": "a", "of": "b", "by": "c"}],
        [{"fact": "a", "of": "b", "by": "c", "factors": {"USD": 1}}],
        [{"fact": "a", "of": "b", "by": "c", "factors": {"USD": "1/0"}}],
        [{"fact": "", "of": "b", "by": "c", "factors": {}}],
        [{"fact": "a", "of": "b", "by": "c", "factors": {"USD": "-1"}}],
    ],
)
def test_conversions_that_cannot_be_are_refused(found: object) -> None:
    with pytest.raises(ConversionInvalid):
        read_conversions(found)
