"""Decisions that a version of a ruleset made, and the reports of what another version makes of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from faregate.credit.contracts import Redecision, RedecisionItem, Status, TouchedDecision
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import NotFoundError

_Q = load_queries("faregate.credit.store")


class RedecisionNotFound(NotFoundError):
    """There is no report of this id."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandingDecision:
    """The newest decision of an application, as recorded: `record` holds what its reader is shown."""

    application_id: str
    version: int
    inputs: Mapping[str, Any]
    status: Status
    record: Mapping[str, Any]


async def touched(
    conn: Connection, *, ruleset_version: str, since: datetime | None, after: tuple[str, int], limit: int
) -> list[TouchedDecision]:
    """Return a page of the decisions of a version by application id and version, without those of people."""
    given = {"ruleset": ruleset_version, "since": since, "limit": limit}
    cursor = await conn.execute(
        _Q["touched_decisions"], {**given, "after_id": after[0], "after_version": after[1]}
    )
    return [
        TouchedDecision(
            **{
                **row,
                "outcome": Status(row["outcome"]),
                "status": Status(row["status"]),
                "reason_codes": tuple(row["reason_codes"]),
            }
        )
        for row in await cursor.fetchall()
    ]


async def touched_counts(
    conn: Connection, *, ruleset_version: str, since: datetime | None
) -> list[dict[str, Any]]:
    """Return how many decisions a version made by outcome, and whether they still stand."""
    cursor = await conn.execute(_Q["touched_counts"], {"ruleset": ruleset_version, "since": since})
    return await cursor.fetchall()


async def insert(conn: Connection, redecision: Redecision) -> None:
    """Store a report that says nothing yet."""
    await conn.execute(
        _Q["insert_redecision"],
        {
            "id": redecision.id,
            "ruleset": redecision.ruleset_version,
            "target": redecision.target_version,
            "scorecard": redecision.scorecard,
            "now": redecision.created_at,
            "by": redecision.created_by,
        },
    )


async def one(conn: Connection, redecision_id: str, *, locked: bool = False) -> Redecision:
    """Return a report, locked to the end of the transaction if so wanted. Raises RedecisionNotFound."""
    cursor = await conn.execute(_Q["lock_redecision" if locked else "redecision"], {"id": redecision_id})
    if (row := await cursor.fetchone()) is None:
        raise RedecisionNotFound(f"there is no report {redecision_id}")
    return Redecision(**row)


async def newest(conn: Connection, *, ruleset_version: str | None, limit: int) -> list[Redecision]:
    """Return the newest reports, of one version or of all."""
    cursor = await conn.execute(_Q["redecisions"], {"ruleset": ruleset_version, "limit": limit})
    return [Redecision(**row) for row in await cursor.fetchall()]


async def standing(
    conn: Connection, *, ruleset_version: str, after_id: str, limit: int
) -> list[StandingDecision]:
    """Return a page of the decisions of a version that still stand, by application id, without those of people."""
    given = {"ruleset": ruleset_version, "after_id": after_id, "limit": limit}
    cursor = await conn.execute(_Q["decisions_to_redecide"], given)
    return [
        StandingDecision(
            application_id=row["application_id"],
            version=row["version"],
            inputs=row["inputs"],
            status=Status(row["status"]),
            record=row,
        )
        for row in await cursor.fetchall()
    ]


async def add_items(
    conn: Connection,
    redecision_id: str,
    items: Sequence[RedecisionItem],
    *,
    reported_to: str,
    is_complete: bool,
) -> None:
    """Add a page to a report, and say how far it goes."""
    await conn.execute(
        _Q["insert_redecision_items"],
        {
            "id": redecision_id,
            "application_ids": [item.application_id for item in items],
            "versions": [item.decision_version for item in items],
            "changes": [item.change for item in items],
            "befores": [Jsonb(item.before) for item in items],
            "afters": [Jsonb(item.after) for item in items],
            "states": [item.state for item in items],
            "reported_to": reported_to,
            "is_complete": is_complete,
        },
    )


async def items_of(
    conn: Connection, redecision_id: str, *, only_changed: bool, after_id: str, limit: int
) -> list[RedecisionItem]:
    """Return a page of what a report says, by application id."""
    given = {"id": redecision_id, "only_changed": only_changed, "after_id": after_id, "limit": limit}
    cursor = await conn.execute(_Q["redecision_items"], given)
    return [RedecisionItem(**row) for row in await cursor.fetchall()]


async def counts_of(conn: Connection, redecision_id: str) -> list[dict[str, Any]]:
    """Return what a report adds up to: applications by outcome before and after, change and state."""
    cursor = await conn.execute(_Q["redecision_counts"], {"id": redecision_id})
    return await cursor.fetchall()


async def pending(conn: Connection, redecision_id: str, *, limit: int) -> list[tuple[str, int]]:
    """Return the next applications of a report, with the version that it is about."""
    cursor = await conn.execute(_Q["pending_redecision_items"], {"id": redecision_id, "limit": limit})
    return [(row["application_id"], row["decision_version"]) for row in await cursor.fetchall()]


async def pending_count(conn: Connection, redecision_id: str) -> int:
    """Return to how many applications a report is still to be applied."""
    cursor = await conn.execute(_Q["pending_redecision_count"], {"id": redecision_id})
    row = await cursor.fetchone()
    return int(row["applications"]) if row else 0


async def settle(conn: Connection, redecision_id: str, settled: Sequence[RedecisionOutcome]) -> None:
    """Record what became of applications of a report."""
    await conn.execute(
        _Q["settle_redecision_items"],
        {
            "id": redecision_id,
            "application_ids": [outcome.application_id for outcome in settled],
            "states": ["skipped" if outcome.note else "applied" for outcome in settled],
            "new_versions": [outcome.new_version for outcome in settled],
            "notes": [outcome.note for outcome in settled],
        },
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RedecisionOutcome:
    """What became of an application: its new version, or why it was skipped."""

    application_id: str
    new_version: int | None = None
    note: str | None = None
