"""Decisions of the past as those read them who try rules: runs `queries.sql`. Writing them does not belong here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.fraud.store.decided")


@dataclass(frozen=True, slots=True, kw_only=True)
class Shadowed:
    """Payments of which the deciding version and the shadow said the same: which rules fired of each."""

    version: int
    fired: tuple[str, ...]
    shadow_fired: tuple[str, ...]
    currency: str
    payments: int
    amount_minor: int
    example: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedPayment:
    """A decided payment as it was recorded. `is_fraud` is None where nobody knows."""

    id: str
    payment: dict[str, Any]
    features: dict[str, Any] | None
    lists: dict[str, Any]
    is_fraud: bool | None


async def shadowed(
    conn: Connection, *, name: str, version: int, since: datetime, until: datetime
) -> list[Shadowed]:
    """Return what a shadow said beside those that decided, alike payments together."""
    given = {"name": name, "version": str(version), "since": since, "until": until}
    rows = await (await conn.execute(_Q["shadowed"], given)).fetchall()
    return [
        Shadowed(
            version=int(row["version"]),
            fired=tuple(orjson.loads(row["fired"])),
            shadow_fired=tuple(orjson.loads(row["shadow_fired"])),
            currency=row["currency"],
            payments=row["payments"],
            amount_minor=int(row["amount_minor"]),
            example=row["example"],
        )
        for row in rows
        if row["version"] is not None and row["fired"] is not None
    ]


async def by_version(
    conn: Connection, *, name: str, since: datetime, until: datetime
) -> Sequence[dict[str, Any]]:
    """Return how many payments each version decided how, and how much money that was, by what is known since."""
    rows = await (
        await conn.execute(_Q["by_version"], {"name": name, "since": since, "until": until})
    ).fetchall()
    return [{**row, "amount_minor": int(row["amount_minor"])} for row in rows]


async def judged(
    conn: Connection, *, since: datetime, until: datetime, only_labelled: bool, after: str, limit: int
) -> list[JudgedPayment]:
    """Return a page of decided payments, by id."""
    given = {"since": since, "until": until, "only_labelled": only_labelled, "after": after, "limit": limit}
    rows = await (await conn.execute(_Q["judged"], given)).fetchall()
    return [JudgedPayment(**row) for row in rows]
