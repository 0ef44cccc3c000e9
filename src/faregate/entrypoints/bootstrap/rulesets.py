"""Who judges a ruleset, by its name: credit judges all that no other context has claimed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from faregate.credit.api import RulesetCheck, check_ruleset
from faregate.entrypoints.bootstrap.points import load_programme
from faregate.features.payments import PAYMENTS
from faregate.fraud.domain.rule_check import FRAUD, fraud_findings
from faregate.infra.settings import Settings
from faregate.points.domain.earning import EARNING
from faregate.points.handlers.earning import check_earn_rules
from faregate.rules.findings import Finding

TRIED_ELSEWHERE: Final = frozenset({FRAUD})
"""Rulesets that their own context tries on what it decides."""


def checks_of_others(settings: Settings) -> Mapping[str, RulesetCheck]:
    """Return what judges the rulesets of other contexts than credit, by name."""

    def check_earning(document: Mapping[str, Any]) -> list[Finding]:
        return check_earn_rules(document, load_programme(settings))

    def check_fraud(document: Mapping[str, Any]) -> list[Finding]:
        return fraud_findings(document, features=[feature.name for feature in PAYMENTS.features])

    return {EARNING: check_earning, FRAUD: check_fraud}


def check(document: Mapping[str, Any], settings: Settings) -> list[Finding]:
    """Return all that can be said against a ruleset, errors first."""
    other = checks_of_others(settings).get(str(document.get("name")))
    return list(other(document)) if other else check_ruleset(document, scorecard=settings.scorecard)
