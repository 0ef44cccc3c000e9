"""Fraud as others use it: payments are decided, decisions are read, models are managed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from faregate.fraud.contracts.scoring import DecisionFilter, ListedDecision, Payment
from faregate.fraud.handlers.audit import AuditOptions, DecisionLog, PaymentIdReused
from faregate.fraud.handlers.decisions import DecisionNotFound, DecisionReader
from faregate.fraud.handlers.models import ModelBook
from faregate.fraud.handlers.reading import FeatureReader, Freshness
from faregate.fraud.handlers.registry import Doing, ModelRegistry
from faregate.fraud.handlers.replay import Difference, Replayed, Replayer
from faregate.fraud.handlers.score import DeadlineCannotBeMet, Scorer
from faregate.infra.database import Database
from faregate.infra.security.pseudonym import Pseudonyms

__all__ = [
    "AuditOptions",
    "DeadlineCannotBeMet",
    "DecisionFilter",
    "DecisionLog",
    "DecisionNotFound",
    "DecisionReader",
    "Difference",
    "Doing",
    "FeatureReader",
    "FraudApi",
    "Freshness",
    "ListedDecision",
    "ModelBook",
    "ModelRegistry",
    "Payment",
    "PaymentIdReused",
    "Replayed",
    "Replayer",
    "Scorer",
]


@dataclass(frozen=True, kw_only=True)
class FraudApi:
    """The context, open on its own database."""

    database: Database
    scorer: Scorer
    reader: DecisionReader
    registry: ModelRegistry
    pseudonyms: Pseudonyms

    async def score(
        self, payment: Payment, *, client_id: str, explain: bool = False, deadline_s: float | None = None
    ) -> bytes:
        """Decide a payment, keep the decision, and return the answer as JSON."""
        return await self.scorer.score(payment, client_id=client_id, explain=explain, deadline_s=deadline_s)

    async def decision(self, decision_id: str, *, explain: bool = False) -> dict[str, Any]:
        """Return a decision as it was answered. Raises DecisionNotFound."""
        return await self.reader.by_id(decision_id, explain=explain)

    async def decision_of_payment(self, payment_id: str, *, explain: bool = False) -> dict[str, Any]:
        """Return the decision that counts for a payment. Raises DecisionNotFound."""
        return await self.reader.by_payment(payment_id, explain=explain)

    async def decisions(self, wanted: DecisionFilter) -> list[ListedDecision]:
        """Return a page of decisions, the newest first."""
        return await self.reader.page(wanted)
