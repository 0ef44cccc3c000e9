"""Signals, decisions, steps and the audit trail of applications."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg import AsyncCursor
from psycopg.errors import UniqueViolation
from psycopg.types.json import Jsonb

from faregate.credit.contracts import DecisionView, SignalView, Status
from faregate.credit.domain.application import DecisionSuperseded
from faregate.credit.domain.notice import NOTICE_WITHIN
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class NewSignal:
    """The settled outcome of one check."""

    application_id: str
    check: str
    status: str
    provider: str
    provider_request_id: str
    reason: str | None
    facts: dict[str, Any]
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Readiness:
    """What the checks of a ready application left open: who gave no answer, and whether every mandatory one came."""

    is_complete: bool
    missing_providers: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangedSignal:
    """A signal that differs now; `is_repulled`: by the answer to an authorised new pull."""

    application_id: str
    check_name: str
    status: str
    provider_request_id: str
    is_repulled: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDecision:
    """A decision to append, with the inputs that it was made from and their hash."""

    application_id: str
    version: int
    outcome: Status
    step: str
    risk_score: float | None
    reason_codes: Sequence[str]
    adverse_action_reasons: Sequence[dict[str, Any]]
    ruleset_version: str
    scorecard_version: str
    code_set_version: str
    inputs: dict[str, Any]
    inputs_sha256: bytes
    result: dict[str, Any]
    actor: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedDecision:
    """A decision as recorded, for replay. `shown` are the fields of the result that readers get to see."""

    application_id: str
    version: int
    inputs: dict[str, Any]
    inputs_sha256: bytes
    result: dict[str, Any]
    shown: dict[str, Any]
    ruleset_version: str
    scorecard_version: str
    code_set_version: str | None


async def upsert_signals(conn: Connection, signals: Sequence[NewSignal]) -> list[ChangedSignal]:
    """Keep the newest outcome of each check, at most one a check in a call; return what changed.

    "Done" is replaced only by "done" of an attempt that an authorised new pull made.
    """
    cursor = await conn.execute(
        _Q["upsert_signals"],
        {
            "application_ids": [s.application_id for s in signals],
            "checks": [s.check for s in signals],
            "statuses": [s.status for s in signals],
            "providers": [s.provider for s in signals],
            "provider_request_ids": [s.provider_request_id for s in signals],
            "reasons": [s.reason for s in signals],
            "facts": [Jsonb(s.facts) for s in signals],
            "received_ats": [s.received_at for s in signals],
        },
    )
    return [ChangedSignal(**row) for row in await cursor.fetchall()]


async def record_steps(conn: Connection, steps: dict[str, str], *, now: datetime) -> None:
    """Set the latest step of applications that are still being processed."""
    await conn.execute(_Q["record_steps"], {"ids": list(steps), "steps": list(steps.values()), "now": now})


async def mark_ready(
    conn: Connection, application_ids: Sequence[str], *, now: datetime
) -> dict[str, Readiness]:
    """Mark those whose checks have all settled just now, and return what their checks left open."""
    cursor = await conn.execute(_Q["mark_ready"], {"ids": list(application_ids), "now": now})
    return {
        row["id"]: Readiness(
            is_complete=row["is_complete"], missing_providers=tuple(row["missing_providers"])
        )
        for row in await cursor.fetchall()
    }


async def signals_of(conn: Connection, application_id: str) -> list[SignalView]:
    """Return the signals of one application, by name of the check."""
    cursor = await conn.execute(_Q["signals"], {"id": application_id})
    return [SignalView(**row) for row in await cursor.fetchall()]


async def insert_decision(conn: Connection, decision: NewDecision, *, now: datetime) -> None:
    """Append a decision and everything that follows from it in this schema; a denial makes a notice due.

    Raises DecisionSuperseded, with nothing written, if the version before it is not the newest one.
    """
    cursor = await _inserted(
        conn,
        {
            "id": decision.application_id,
            "version": decision.version,
            "outcome": decision.outcome.value,
            "step": decision.step,
            "risk_score": decision.risk_score,
            "reason_codes": list(decision.reason_codes),
            "adverse_action_reasons": Jsonb(list(decision.adverse_action_reasons)),
            "ruleset_version": decision.ruleset_version,
            "scorecard_version": decision.scorecard_version,
            "code_set_version": decision.code_set_version,
            "inputs": Jsonb(decision.inputs),
            "inputs_sha256": decision.inputs_sha256,
            "result": Jsonb(decision.result),
            "actor": decision.actor,
            "reason": decision.reason,
            "now": now,
            "notice_within": NOTICE_WITHIN,
        },
    )
    if not cursor.rowcount:
        raise DecisionSuperseded(f"version {decision.version - 1} of the decision is not the newest any more")


async def _inserted(conn: Connection, given: dict[str, Any]) -> AsyncCursor[Any]:
    """Insert a decision. Whoever did not lock the application meets a faster one at the primary key."""
    try:
        return await conn.execute(_Q["insert_decision"], given)
    except UniqueViolation as error:
        if error.diag.constraint_name != "decision_pkey":
            raise
        raise DecisionSuperseded(f"version {given['version']} of the decision is there already") from error


async def decision_of(conn: Connection, application_id: str) -> DecisionView | None:
    """Return the newest decision of an application, None while there is none."""
    cursor = await conn.execute(_Q["decision"], {"id": application_id})
    if (row := await cursor.fetchone()) is None:
        return None
    row.pop("client_id")
    return DecisionView(
        **{
            **row,
            "outcome": Status(row["outcome"]),
            "reason_codes": tuple(row["reason_codes"]),
            "adverse_action_reasons": tuple(row["adverse_action_reasons"]),
        }
    )


async def recorded_decisions(
    conn: Connection, *, application_id: str | None = None, page: int = 500
) -> AsyncIterator[RecordedDecision]:
    """Yield every recorded decision in a fixed order, or those of one application."""
    after = ("", 0)
    while True:
        cursor = await conn.execute(
            _Q["recorded_decisions"],
            {"after_id": after[0], "after_version": after[1], "id": application_id, "limit": page},
        )
        rows = await cursor.fetchall()
        for row in rows:
            yield RecordedDecision(**{**row, "inputs_sha256": bytes(row["inputs_sha256"])})
        if len(rows) < page:
            return
        after = (rows[-1]["application_id"], rows[-1]["version"])


async def audit_trail(conn: Connection, application_id: str) -> list[dict[str, Any]]:
    """Return what happened to an application, oldest first."""
    cursor = await conn.execute(_Q["audit_trail"], {"id": application_id})
    return await cursor.fetchall()


async def outcomes_of(conn: Connection, application_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return state, instants and first decision of the given applications, for reports."""
    cursor = await conn.execute(_Q["outcomes_of"], {"ids": list(application_ids)})
    return await cursor.fetchall()
