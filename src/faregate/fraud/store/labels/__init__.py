"""The labels in the fraud schema: runs `queries.sql`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from faregate.fraud.contracts.labels import Label
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.fraud.store.labels")


async def add(conn: Connection, labels: Sequence[Label], *, at: datetime, by: str) -> int:
    """Take labels in; return how many were new."""
    row: Any = await (await conn.execute(_Q["add"], {**_columns(labels), "at": at, "by": by})).fetchone()
    return int(row["labels"])


async def contradiction(conn: Connection, labels: Sequence[Label]) -> tuple[str, str] | None:
    """Return payment and source of a label that says the opposite of a stored one, None if none does."""
    row = await (await conn.execute(_Q["contradictions"], _columns(labels))).fetchone()
    return None if row is None else (row["payment_id"], row["source"])


async def of_payment(conn: Connection, payment_id: str) -> list[Label]:
    """Return what is known of a payment, the newest first: that one counts."""
    rows = await (await conn.execute(_Q["of_payment"], {"payment_id": payment_id})).fetchall()
    return [Label(**row) for row in rows]


def _columns(labels: Sequence[Label]) -> dict[str, Any]:
    return {
        "payment_ids": [label.payment_id for label in labels],
        "sources": [label.source for label in labels],
        "known_at": [label.known_at for label in labels],
        "frauds": [label.is_fraud for label in labels],
    }
