"""What is asked when a payment is scored, what is answered, and what rules and lists must be able to do for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Protocol

Values = Mapping[str, int | float | None]
"""Values of features by name; None where there is nothing to compute one from."""


class Action(StrEnum):
    """What the payment side is told to do."""

    APPROVE = "approve"
    DECLINE = "decline"
    REVIEW = "review"


class Degraded(StrEnum):
    """What a decision had to do without."""

    FEATURES_MISSING = "features_missing"
    FEATURES_STALE = "features_stale"
    MODEL_MISSING = "model_missing"
    RULES_MISSING = "rules_missing"
    AUDIT_SPOOLED = "audit_spooled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """The payment that is to be decided. `ip_token` stands for its address."""

    payment_id: str
    card_token: str
    member_id: str | None
    amount_minor: int
    currency: str
    merchant: str
    merchant_category: int
    channel: str
    country: str
    terminal_id: str | None
    device_id: str | None
    ip_token: str | None
    occurred_at: datetime


class Fired(Protocol):
    """A rule that fired: `action` is allow, decline, review or flag; a flag decides nothing."""

    @property
    def rule(self) -> str:
        """Its id."""
        ...

    @property
    def code(self) -> str:
        """Its reason code."""
        ...

    @property
    def action(self) -> str:
        """What it asks for."""
        ...


class Evaluated(Protocol):
    """What rules made of facts."""

    @property
    def fired(self) -> Sequence[Fired]:
        """The rules that fired, in their order."""
        ...

    @property
    def unknown(self) -> Sequence[str]:
        """The rules that could not be told for want of an input."""
        ...

    @property
    def deciding(self) -> Fired | None:
        """The rule that decides, None if they let the payment pass to the model."""
        ...


class Ruleset(Protocol):
    """A version of the rules, ready to be evaluated."""

    @property
    def name(self) -> str:
        """Its name."""
        ...

    @property
    def version(self) -> int:
        """Its number."""
        ...

    @property
    def sha256(self) -> str:
        """The hash of its content."""
        ...

    @property
    def codes(self) -> Mapping[str, Mapping[str, Any]]:
        """What its reason codes mean."""
        ...

    def evaluate(self, facts: Mapping[str, Any]) -> Evaluated:
        """Return what the rules make of facts; it raises nothing."""
        ...


class Rules(Protocol):
    """Says which rules decide and which lists somebody is on, at once and from memory."""

    def active(self, payment: Payment) -> Ruleset | None:
        """Return the version that decides this payment."""
        ...

    def shadow(self) -> Ruleset | None:
        """Return the version that watches."""
        ...

    def memberships(self, payment: Payment, *, at: datetime) -> Mapping[str, bool]:
        """Return for each list whether the payment is on it with anything of its own."""
        ...


@dataclass(frozen=True, slots=True)
class Reason:
    """Why: a code of a rule or of the model, with words for people."""

    code: str
    source: str
    text: str

    def document(self) -> dict[str, str]:
        """Return the reason as it is answered and recorded."""
        return {"code": self.code, "source": self.source, "text": self.text}


@dataclass(frozen=True, slots=True)
class FeaturesRead:
    """What was read of features: None for values means nothing; `lag_ms` is how far their consumer is behind."""

    version: str
    values: Values | None
    is_stale: bool
    lag_ms: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDecision:
    """A decision as it is kept. `answer` are the bytes that were sent."""

    id: str
    decided_at: datetime
    payment: Payment
    digest: bytes
    action: str
    score: float | None
    degraded: tuple[str, ...]
    answer: bytes
    record: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedDecision:
    """A decision in a list."""

    id: str
    decided_at: datetime
    payment_id: str
    action: str
    score: float | None
    amount_minor: int
    currency: str
    card_token: str
    degraded: tuple[str, ...]
    is_first: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionFilter:
    """Which decisions are wanted, the newest first; `before` is the last id of the page before."""

    action: Action | None = None
    card_token: str | None = None
    since: datetime | None = None
    until: datetime | None = None
    before: str | None = None
    limit: int = 50
