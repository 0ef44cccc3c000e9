"""Two answers on one application side by side, and what many such pairs add up to. Pure.

Used wherever a ruleset is held against another one: a backtest, a shadow, the decisions of a version rolled back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from faregate.credit.contracts import Status
from faregate.credit.domain.application import OUTCOMES
from faregate.credit.domain.decision import DecisionResult

ANSWERS: Final = tuple(outcome.value for outcome in OUTCOMES)
SAMPLE_MAX: Final = 20
"""How many differing applications a comparison keeps to be looked at."""


class Change(StrEnum):
    """How an answer differs from the one before; an applicant notices all but the first."""

    UNCHANGED = "unchanged"
    REASONS = "reasons"
    OUTCOME = "outcome"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What an applicant is told, and the score behind it. `risk_score` is 0 to 1, higher is riskier."""

    outcome: Status
    risk_score: float | None
    reason_codes: tuple[str, ...]
    adverse_codes: tuple[str, ...] = ()

    @staticmethod
    def of_result(result: DecisionResult) -> Answer:
        """Return the answer that a result gives."""
        return Answer(
            outcome=result.outcome,
            risk_score=result.risk_score,
            reason_codes=result.reason_codes,
            adverse_codes=tuple(reason.code for reason in result.adverse_action_reasons),
        )

    @staticmethod
    def of_record(record: Mapping[str, Any]) -> Answer:
        """Return the answer of a recorded result document."""
        return Answer(
            outcome=Status(record["outcome"]),
            risk_score=record["risk_score"],
            reason_codes=tuple(record["reason_codes"]),
            adverse_codes=tuple(reason["code"] for reason in record["adverse_action_reasons"]),
        )

    def document(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return {
            "outcome": self.outcome.value,
            "risk_score": self.risk_score,
            "reason_codes": list(self.reason_codes),
            "adverse_codes": list(self.adverse_codes),
        }


def change_between(before: Answer, after: Answer) -> Change:
    """Return how two answers differ; a score alone changes nothing for an applicant."""
    if before.outcome is not after.outcome:
        return Change.OUTCOME
    same_reasons = (before.reason_codes, before.adverse_codes) == (after.reason_codes, after.adverse_codes)
    return Change.UNCHANGED if same_reasons else Change.REASONS


@dataclass(kw_only=True)
class Comparison:
    """Many pairs of answers, counted as they come; the first `SAMPLE_MAX` that differ are kept."""

    matrix: Counter[tuple[Status, Status]] = field(default_factory=Counter)
    changes: Counter[Change] = field(default_factory=Counter)
    reasons_before: Counter[str] = field(default_factory=Counter)
    reasons_after: Counter[str] = field(default_factory=Counter)
    sample: list[dict[str, Any]] = field(default_factory=list)

    def add(self, application_id: str, *, before: Answer, after: Answer) -> None:
        """Count one pair."""
        change = change_between(before, after)
        self.matrix[before.outcome, after.outcome] += 1
        self.changes[change] += 1
        self.reasons_before.update(before.reason_codes)
        self.reasons_after.update(after.reason_codes)
        if change is not Change.UNCHANGED and len(self.sample) < SAMPLE_MAX:
            pair = {"before": before.document(), "after": after.document()}
            self.sample.append({"application_id": application_id, "change": change.value, **pair})

    @property
    def compared(self) -> int:
        """How many pairs were counted."""
        return self.changes.total()

    def document(self) -> dict[str, Any]:
        """Return what was found as JSON values. Rates are shares of what was compared, None of nothing."""
        codes = sorted(self.reasons_before.keys() | self.reasons_after.keys())
        return {
            "compared": self.compared,
            "changes": {change.value: self.changes[change] for change in Change},
            "matrix": matrix_document({(b.value, a.value): n for (b, a), n in self.matrix.items()}),
            "approval_rate": self._approval_rate(),
            "reasons": [
                {"code": code, "before": self.reasons_before[code], "after": self.reasons_after[code]}
                for code in codes
            ],
            "sample": self.sample,
        }

    def _approval_rate(self) -> dict[str, float | None]:
        if not self.compared:
            return {"before": None, "after": None, "change": None}
        before = sum(n for (was, _), n in self.matrix.items() if was is Status.APPROVED)
        after = sum(n for (_, now), n in self.matrix.items() if now is Status.APPROVED)
        rates = {"before": before / self.compared, "after": after / self.compared}
        return {**rates, "change": (after - before) / self.compared}


def matrix_document(
    counts: Mapping[tuple[str, str], int], *, answers: Sequence[str] = ANSWERS
) -> list[dict[str, Any]]:
    """Return every pair of a recorded outcome and an answer with its count, zeros included."""
    return [
        {"before": before.value, "after": after, "count": counts.get((before.value, after), 0)}
        for before in OUTCOMES
        for after in answers
    ]
