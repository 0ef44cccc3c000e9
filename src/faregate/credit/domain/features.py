"""Which facts the scorecard may use, how each is binned, and why each of its values can hurt.

A fact is a candidate only if an applicant can be told about it: every value names the adverse-action reason
that it stands for when it costs points. The points themselves do not belong here; they are in the artefacts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from faregate.credit.domain.facts import CreditHistory, Employment, FactValue


class Kind(StrEnum):
    """How the values of a feature are put into bins."""

    CATEGORICAL = "categorical"
    NUMERIC = "numeric"


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A fact that may be scored. `reasons` holds the values whose reason differs from `reason`.

    Numeric features are riskier the higher they are: training may only bin them so that they stay that way.
    """

    fact: str
    kind: Kind
    reason: str
    reasons: Mapping[str, str] = field(default_factory=dict)

    def reason_of(self, value: FactValue) -> str:
        """Return the adverse-action reason that a value stands for when it hurts."""
        return self.reasons.get(str(value), self.reason)


def _categorical(fact: str, *, reason: str, reasons: Mapping[str, str] | None = None) -> Feature:
    return Feature(fact=fact, kind=Kind.CATEGORICAL, reason=reason, reasons=reasons or {})


def _rising(fact: str, *, reason: str) -> Feature:
    return Feature(fact=fact, kind=Kind.NUMERIC, reason=reason)


CANDIDATES: Final = (
    _categorical("checking_account", reason="CHECKING_ACCOUNT_BALANCE"),
    _rising("term_months", reason="TERM_TOO_LONG"),
    _categorical(
        "credit_history",
        reason="DELINQUENT_CREDIT_OBLIGATIONS",
        reasons={
            CreditHistory.NO_CREDITS: "LIMITED_CREDIT_EXPERIENCE",
            CreditHistory.ALL_PAID_HERE: "LIMITED_CREDIT_EXPERIENCE",
            CreditHistory.PAID_SO_FAR: "INSUFFICIENT_CREDIT_REFERENCES",
        },
    ),
    _rising("amount", reason="AMOUNT_TOO_HIGH_FOR_INCOME"),
    _categorical("savings", reason="SAVINGS_BALANCE"),
    _categorical("purpose", reason="PURPOSE_OF_CREDIT"),
    _categorical(
        "employment",
        reason="LENGTH_OF_EMPLOYMENT",
        reasons={Employment.UNEMPLOYED: "IRREGULAR_EMPLOYMENT"},
    ),
    _rising("installment_rate", reason="EXCESSIVE_OBLIGATIONS"),
    _categorical("property", reason="COLLATERAL_INSUFFICIENT"),
    _categorical("installment_plans", reason="OTHER_INSTALLMENT_PLANS"),
    _categorical("housing", reason="TYPE_OF_HOUSING"),
)
"""What training may choose from, in the order that breaks ties between reasons."""

FOLD_FEATURES: Final = ("amount", "purpose")
"""What decides an applicant's fold: the form alone, so that a check without an answer cannot move anyone."""
