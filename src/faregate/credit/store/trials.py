"""What was tried beside the active ruleset: arms of a split, answers of a shadow. Append-only."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.credit.contracts import Status
from faregate.credit.domain.comparison import Answer
from faregate.credit.store.decisions import NewDecision
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Challenger:
    """A challenging version and its share, of 10,000 applications."""

    version: str
    basis_points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowResult:
    """What a shadow said beside a decision; `answer` is None where it failed, and `error` says how."""

    application_id: str
    decision_version: int
    shadow_version: str
    ruleset_version: str
    decided: Status
    answer: Answer | None
    agrees: bool
    error: str | None


async def insert_arm(
    conn: Connection, decision: NewDecision, *, arm: str, challenger: Challenger, now: datetime
) -> None:
    """Record which arm decided."""
    await conn.execute(
        _Q["insert_arm"],
        {
            "id": decision.application_id,
            "version": decision.version,
            "arm": arm,
            "challenger": challenger.version,
            "basis_points": challenger.basis_points,
            "now": now,
        },
    )


async def insert_shadow_result(conn: Connection, result: ShadowResult, *, now: datetime) -> None:
    """Record what a shadow said."""
    answer = result.answer
    await conn.execute(
        _Q["insert_shadow_result"],
        {
            "id": result.application_id,
            "version": result.decision_version,
            "shadow": result.shadow_version,
            "ruleset": result.ruleset_version,
            "decided": result.decided.value,
            "outcome": answer.outcome.value if answer else None,
            "risk_score": answer.risk_score if answer else None,
            "reason_codes": list(answer.reason_codes) if answer else [],
            "agrees": result.agrees,
            "error": result.error,
            "now": now,
        },
    )


async def shadow_counts(
    conn: Connection, *, shadow_version: str, since: datetime | None
) -> list[dict[str, Any]]:
    """Return how often each outcome met each answer of a shadow; `outcome` is None where it failed."""
    cursor = await conn.execute(_Q["shadow_counts"], {"shadow": shadow_version, "since": since})
    return await cursor.fetchall()


async def shadow_differences(
    conn: Connection, *, shadow_version: str, since: datetime | None, after_id: str, limit: int
) -> list[dict[str, Any]]:
    """Return a page of the applications on which a shadow did not agree, by id."""
    given = {"shadow": shadow_version, "since": since, "after_id": after_id, "limit": limit}
    cursor = await conn.execute(_Q["shadow_differences"], given)
    return await cursor.fetchall()


async def arm_counts(
    conn: Connection, *, challenger_version: str, since: datetime | None
) -> list[dict[str, Any]]:
    """Return the decisions of each arm by version and outcome, with the mean score."""
    cursor = await conn.execute(_Q["arm_counts"], {"challenger": challenger_version, "since": since})
    return await cursor.fetchall()
