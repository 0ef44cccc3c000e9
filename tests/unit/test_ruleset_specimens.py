"""A ruleset that is sound in itself but of no use to credit is found before it is published."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, cast

import pytest

from faregate.credit.domain.decision import NEEDED_FACTS, inputs_document
from faregate.credit.domain.specimens import SPECIMENS, specimen_findings
from faregate.credit.handlers.rulesets import check_ruleset
from faregate.credit.store.artefacts import load_scorecard
from faregate.rules.contracts import Evaluation
from faregate.rules.findings import Kind, Severity
from faregate.rules.ruleset import canonical, compile_ruleset
from tests.ruleset_desk import Change, content, failing, released


def errors(*changes: Change) -> list[str]:
    found = check_ruleset(released(2, *changes), scorecard="german-1")
    return [finding.message for finding in found if finding.severity is Severity.ERROR]


def asking_for_more(document: dict[str, Any]) -> None:
    schema = content(document, "input")["schema"]
    schema["properties"]["shoe_size"] = {"type": "integer"}
    schema["required"].append("shoe_size")


def answering_otherwise(document: dict[str, Any]) -> None:
    answer = content(document, "answer")["expressions"]
    answer[0]["value"] = '"maybe"'
    content(document, "decision")["schema"]["properties"]["outcome"] = {"type": "string"}


@pytest.mark.requirement("C17")
@pytest.mark.parametrize("change", [asking_for_more, answering_otherwise, failing])
def test_a_ruleset_on_which_every_application_would_go_to_review_is_refused(change: Change) -> None:
    found = errors(change)
    assert len(found) == len(SPECIMENS)
    assert all("gives no decision on an application with" in message for message in found)


def test_a_ruleset_that_decides_otherwise_when_asked_again_is_refused() -> None:
    evaluations = itertools.count()

    class Wavering:
        """The released ruleset, which forgets its trace every other time."""

        def __getattr__(self, name: str) -> Any:
            return getattr(compile_ruleset(canonical(released(2))), name)

        def evaluate(self, context: Mapping[str, Any]) -> Evaluation:
            found = compile_ruleset(canonical(released(2))).evaluate(context)
            return found if next(evaluations) % 2 else replace(found, trace=())

    kinds = [
        finding.kind
        for finding in specimen_findings(cast("Any", Wavering()), scorecard=load_scorecard("german-1"))
    ]
    assert kinds == [Kind.NOT_REPEATABLE] * len(SPECIMENS)


def test_the_released_ruleset_decides_every_specimen() -> None:
    assert errors() == []


def test_the_specimen_with_nothing_wrong_has_every_fact_that_a_decision_needs() -> None:
    facts = inputs_document(SPECIMENS["nothing wrong"])["facts"]
    assert facts.keys() >= set().union(*NEEDED_FACTS.values())
