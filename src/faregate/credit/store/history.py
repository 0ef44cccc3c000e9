"""Decisions of the past with their recorded inputs, for whoever decides on them again without changing them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstDecision:
    """The first decision on an application; `shown` holds what its reader was shown."""

    application_id: str
    inputs: Mapping[str, Any]
    scorecard_version: str
    decided_at: datetime
    shown: Mapping[str, Any]


async def first_decisions(
    conn: Connection,
    *,
    since: datetime,
    until: datetime,
    basis_points: int,
    after: tuple[datetime, str],
    limit: int,
) -> list[FirstDecision]:
    """Return a page of the first decisions made in `[since, until)`, oldest first.

    `basis_points` of 10,000 applications are taken, always the same ones; `after` is where the last page ended.
    """
    given = {"since": since, "until": until, "basis_points": basis_points, "limit": limit}
    cursor = await conn.execute(
        _Q["first_decisions"], {**given, "after_time": after[0], "after_id": after[1]}
    )
    return [
        FirstDecision(
            application_id=row["application_id"],
            inputs=row["inputs"],
            scorecard_version=row["scorecard_version"],
            decided_at=row["decided_at"],
            shown=row,
        )
        for row in await cursor.fetchall()
    ]
