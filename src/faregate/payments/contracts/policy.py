"""The payment policy: what is declined whatever is said, and what is done when the scorer cannot say, as data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from faregate.payments.contracts.payments import PaymentChannel


class ScorerState(StrEnum):
    """What a decision must do without: everything, fresh features or the rules, the model."""

    UNAVAILABLE = "unavailable"
    STALE = "stale"
    MODEL_MISSING = "model_missing"


class CellAction(StrEnum):
    """What a cell says. Where the scorer answered, the stricter of its word and of the cell's counts."""

    APPROVE = "approve"
    APPROVE_AND_FLAG = "approve_and_flag"
    DECLINE = "decline"
    AS_SCORED = "as_scored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What is done in one state to the amounts of one band. `message` is for the cardholder."""

    action: CellAction
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Band:
    """Amounts from one to another, both included; None: and all above."""

    name: str
    from_minor: int
    to_minor: int | None
    cells: Mapping[ScorerState, Cell]

    def holds(self, amount_minor: int) -> bool:
        """Say whether an amount is in the band."""
        return self.from_minor <= amount_minor and (self.to_minor is None or amount_minor <= self.to_minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Scope:
    """The payments that a table is for. None: any. Categories are ranges of ISO 18245, both ends included."""

    currency: str | None = None
    merchant_categories: Sequence[tuple[int, int]] | None = None
    channel: PaymentChannel | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BandTable:
    """The bands of the payments of one scope."""

    name: str
    scope: Scope
    bands: Sequence[Band]


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The whole policy. `review` is what is done when the scorer wants a person to look."""

    sanctioned_countries: frozenset[str]
    review: CellAction
    decline_message: str
    """For the cardholder, where no cell has a message of its own."""
    tables: Sequence[BandTable]


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyVersion:
    """A version as it is kept, with who set it, when and why. `back_to` names the version that it repeats."""

    version: int
    policy: Policy
    document: Mapping[str, Any]
    sha256: str
    by: str
    reason: str
    set_at: datetime
    back_to: int | None
