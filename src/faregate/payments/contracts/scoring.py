"""What payments ask the scorer, and what may come of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from faregate.payments.contracts.payments import Attempt


class ScorerAction(StrEnum):
    """What the scorer says should be done."""

    APPROVE = "approve"
    DECLINE = "decline"
    REVIEW = "review"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reason:
    """Why something was decided: a code for machines, a text for people."""

    code: str
    source: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """A whole answer of the scorer. `degraded` names what it had to do without."""

    decision_id: str
    action: ScorerAction
    score: float | None
    reasons: Sequence[Reason] = ()
    degraded: Sequence[str] = ()
    ruleset: Mapping[str, Any] | None = None
    model: Mapping[str, Any] | None = None
    features: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class NoScore:
    """There is no answer in time, and how the call ended: `timed_out`, `not_connected`, `http_503`, …"""

    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What came of asking the scorer, and how long it took."""

    came: Score | NoScore
    waited_us: int = field(compare=False)


class Scorer(Protocol):
    """Scores a payment within a hard time."""

    async def score(self, payment_id: str, attempt: Attempt) -> Asked:
        """Return what came of it. It raises nothing for what the scorer or the network does."""
        ...
