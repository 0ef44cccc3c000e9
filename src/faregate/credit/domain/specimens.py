"""Applications as the rules of credit see them, to try a ruleset on before it is published.

A ruleset may be sound in itself and yet ask for a field that credit does not give, or answer what credit cannot use:
every application would go to review. Policy is not judged here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from faregate.credit.domain.decision import (
    ApplicationFacts,
    CheckSignal,
    DecisionInputs,
    Ruleset,
    inputs_document,
    replay,
)
from faregate.credit.domain.facts import FACTS, Check, FraudLevel, Purpose, Source
from faregate.credit.domain.scorecard import ScoringModel
from faregate.rules.findings import Finding, Kind

_REQUIRED: Final = tuple(check.value for check in Check)
_FULL: Final = ApplicationFacts(
    product_type="credit_card",
    amount=5_000,
    purpose=Purpose.CAR_USED.value,
    annual_income=60_000,
    age_years=40,
)
_SPARSE: Final = ApplicationFacts(
    product_type="credit_card", amount=None, purpose=None, annual_income=0, age_years=17
)


def _answers(*, in_order: bool) -> dict[str, CheckSignal]:
    """Return answers to every check: nothing wrong, or everything."""
    level = FraudLevel.LOW if in_order else FraudLevel.HIGH
    verdicts: Mapping[Check, Mapping[str, Any]] = {
        Check.BUREAU: {},
        Check.KYC: {
            "identity_verified": in_order,
            "watchlist_match": not in_order,
            "sanctioned": not in_order,
        },
        Check.FRAUD: {"fraud_level": level.value, "fraud_score": 0.05 if in_order else 0.95},
        Check.INCOME: {"annual_income_verified": 60_000 if in_order else 0},
    }
    return {
        check.value: CheckSignal(
            status="done", provider=check.value, facts={**_known(check), **verdicts[check]}
        )
        for check in Check
    }


def _known(check: Check) -> dict[str, Any]:
    facts = [
        fact for fact in FACTS.values() if fact.source.value == check.value and fact.source is not Source.FORM
    ]
    return {fact.name: min(fact.values, key=str) if fact.values else 1 for fact in facts}


SPECIMENS: Final[Mapping[str, DecisionInputs]] = MappingProxyType(
    {
        "nothing wrong": DecisionInputs(
            application=_FULL, signals=_answers(in_order=True), required_checks=_REQUIRED
        ),
        "everything wrong": DecisionInputs(
            application=_SPARSE, signals=_answers(in_order=False), required_checks=_REQUIRED
        ),
        "no check answered": DecisionInputs(application=_SPARSE, signals={}, required_checks=_REQUIRED),
        "no check needed": DecisionInputs(application=_FULL, signals={}, required_checks=()),
    }
)
"""One application of each kind, by what is the matter with it."""


def specimen_findings(ruleset: Ruleset, *, scorecard: ScoringModel) -> Iterator[Finding]:
    """Yield an error for each specimen on which a ruleset gives no answer that credit can use, or no lasting one."""
    for name, inputs in SPECIMENS.items():
        document = inputs_document(inputs)
        first, second = (replay(document, scorecard=scorecard, ruleset=ruleset).document() for _ in range(2))
        if error := first["trace"]["ruleset"]["error"]:
            message = f"gives no decision on an application with {name}: {error}"
            yield Finding(message=message, kind=Kind.SCHEMA)
        elif first != second:
            message = f"decides an application with {name} another way when asked again"
            yield Finding(message=message, kind=Kind.NOT_REPEATABLE)
