"""The sample as applications: what decisions the policy takes on past applicants whose fate is known.

Every check is answered and finds nothing wrong, so that only the score and its bands speak. What the demo's
providers make of the same people is not known here.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from faregate.credit.contracts import Status
from faregate.credit.domain.decision import (
    ApplicationFacts,
    CheckSignal,
    DecisionInputs,
    DecisionResult,
    Ruleset,
    decide,
)
from faregate.credit.domain.facts import GOOD_COLUMN, Check, Source, facts_of_row
from faregate.credit.domain.scorecard import ScoringModel

_INCOME: Final = 40_000
_AGE_YEARS: Final = 40
_ANSWERS: Final[Mapping[Check, Mapping[str, Any]]] = {
    Check.BUREAU: {},
    Check.KYC: {"identity_verified": True, "watchlist_match": False},
    Check.FRAUD: {"fraud_level": "low", "fraud_score": 0.05},
    Check.INCOME: {"annual_income_verified": _INCOME},
}


def inputs_of_row(row: Mapping[str, str]) -> DecisionInputs:
    """Return the inputs of a sample row: its facts, and answers to all else that raise no question."""
    form = facts_of_row(row, source=Source.FORM)
    return DecisionInputs(
        application=ApplicationFacts(
            product_type="credit_card",
            amount=int(form["amount"]),
            purpose=str(form["purpose"]),
            annual_income=_INCOME,
            age_years=_AGE_YEARS,
        ),
        signals={check.value: _signal(check, row) for check in Check},
        required_checks=[check.value for check in Check],
        latest_step="decision_ready",
    )


def _signal(check: Check, row: Mapping[str, str]) -> CheckSignal:
    known = {} if check is Check.FRAUD else facts_of_row(row, source=Source(check.value))
    return CheckSignal(status="done", provider=check.value, facts={**known, **_ANSWERS[check]})


def decide_table(
    table: Sequence[Mapping[str, str]], *, scorecard: ScoringModel, ruleset: Ruleset
) -> list[DecisionResult]:
    """Return the decision of every row, in order."""
    return [decide(inputs_of_row(row), scorecard=scorecard, ruleset=ruleset) for row in table]


def outcome_mix(
    table: Sequence[Mapping[str, str]], results: Sequence[DecisionResult]
) -> list[dict[str, Any]]:
    """Return for each outcome how many applicants it got and how many of them turned out bad."""
    found = Counter((result.outcome, row[GOOD_COLUMN]) for row, result in zip(table, results, strict=True))
    return [
        _line(outcome, good=found[outcome, "good"], bad=found[outcome, "bad"], total=len(table))
        for outcome in (Status.APPROVED, Status.MANUAL_REVIEW, Status.DENIED)
    ]


def _line(outcome: Status, *, good: int, bad: int, total: int) -> dict[str, Any]:
    count = good + bad
    return {
        "outcome": outcome.value,
        "good": good,
        "bad": bad,
        "share": round(count / total, 4) if total else 0.0,
        "bad_rate": round(bad / count, 4) if count else 0.0,
    }
