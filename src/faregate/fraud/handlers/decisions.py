"""Reads decisions for those who look at them; reasons of a model that nobody asked for then are computed again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from faregate.fraud.contracts.scoring import DecisionFilter, ListedDecision
from faregate.fraud.domain.reasons import ReasonTable
from faregate.fraud.handlers.models import Model, ModelNotFound
from faregate.fraud.store import decisions as store
from faregate.fraud.store import models as model_store
from faregate.infra.database import Connection, Database
from faregate.kernel.errors import NotFoundError


class DecisionNotFound(NotFoundError):
    """There is no decision of this id, or of this payment."""


class DecisionReader:
    """Decisions as they stand in PostgreSQL. Models that decided once are kept ready."""

    def __init__(self, *, database: Database, reasons: ReasonTable) -> None:
        self._database, self._reasons = database, reasons
        self._models: dict[str, Model] = {}

    async def page(self, wanted: DecisionFilter) -> list[ListedDecision]:
        """Return a page of decisions, the newest first."""
        async with self._database.connection() as conn:
            return await store.page(conn, wanted)

    async def by_id(self, decision_id: str, *, explain: bool) -> dict[str, Any]:
        """Return a decision as it was answered. Raises DecisionNotFound."""
        async with self._database.connection() as conn:
            row = await store.record_of(conn, decision_id=decision_id)
            return await self._told(conn, row, explain=explain)

    async def by_payment(self, payment_id: str, *, explain: bool) -> dict[str, Any]:
        """Return the decision that counts for a payment. Raises DecisionNotFound."""
        async with self._database.connection() as conn:
            row = await store.record_of_payment(conn, payment_id=payment_id)
            return await self._told(conn, row, explain=explain)

    async def model(self, conn: Connection, sha256: str) -> Model:
        """Return a model of the registry, ready to score. Raises ModelNotFound."""
        if (found := self._models.get(sha256)) is None:
            if (stored := await model_store.stored(conn, sha256=sha256)) is None:
                raise ModelNotFound(f"the registry has no model {sha256[:12]}")
            found = self._models[sha256] = Model(stored, reasons=self._reasons)
        return found

    async def _told(
        self, conn: Connection, row: Mapping[str, Any] | None, *, explain: bool
    ) -> dict[str, Any]:
        if row is None:
            raise DecisionNotFound("there is no such decision")
        record = orjson.loads(row["record"])
        answer = record["answer"]
        told_by_model = answer["score"] is not None and answer["model"] is not None
        if explain and told_by_model and answer["action"] == "approve" and not record["explained"]:
            model = await self.model(conn, answer["model"]["sha256"])
            answer["reasons"] += [reason.document() for reason in model.reasons(record["features"])]
        return {"decided_at": row["decided_at"], "counts": row["is_first"], "answer": answer}
