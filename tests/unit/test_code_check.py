"""A ruleset whose code set could not tell an applicant why, in the words of the official form, is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest

from faregate.credit.handlers.rulesets import check_ruleset
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.rules.findings import Finding, Kind, Severity

Codes = dict[str, dict[str, Any]]
RELEASED = load_ruleset_document("card-eligibility-1")


def errors(change: Callable[[dict[str, Any], Codes], object]) -> list[Finding]:
    changed = copy.deepcopy(RELEASED)
    change(changed, changed["code_set"]["codes"])
    found = check_ruleset(changed, scorecard="german-1")
    return [finding for finding in found if finding.severity is Severity.ERROR]


@pytest.mark.parametrize("scorecard", ["german-1", "german-1-cross-fitted"])
def test_the_released_ruleset_can_tell_everything(scorecard: str) -> None:
    found = check_ruleset(RELEASED, scorecard=scorecard)
    assert [finding.text for finding in found if finding.severity is Severity.ERROR] == []


@pytest.mark.requirement("C17")
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _, codes: codes["SANCTIONED"].pop("specify"), "SANCTIONED"),
        (lambda _, codes: codes["SANCTIONED"].update(specify="  "), "SANCTIONED"),
        (lambda _, codes: codes["SANCTIONED"].update(form_c1="Because we said so"), "Because we said so"),
        (lambda _, codes: codes["SANCTIONED"].update(form_c1=7), "SANCTIONED"),
        (lambda _, codes: codes["SAVINGS_BALANCE"].pop("form_c1"), "SAVINGS_BALANCE"),
        (lambda _, codes: codes.pop("CHECKING_ACCOUNT_BALANCE"), "CHECKING_ACCOUNT_BALANCE"),
        (lambda document, _: document.update(code_fields={"reason_code": None}), "adverse_code"),
    ],
)
def test_a_code_that_cannot_be_told_is_refused(
    change: Callable[[dict[str, Any], Codes], object], says: str
) -> None:
    found = errors(change)
    assert any(
        finding.kind in (Kind.UNMAPPED_CODE, Kind.UNKNOWN_CODE) and says in finding.text for finding in found
    )
