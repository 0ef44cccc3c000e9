"""Notices of adverse action: which are due, what they are about, and which were sent."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from psycopg.types.json import Jsonb

from faregate.credit.contracts.record import NoticeDue
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries(__package__)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNotice:
    """A notice with the denial that it is about. `newest_version` is that of the application's newest decision."""

    application_id: str
    version: int
    newest_version: int
    due_at: datetime
    sent_at: datetime | None
    sent_by: str | None
    decided_at: datetime
    ruleset_version: str
    scorecard_version: str
    code_set_version: str | None
    reasons: list[dict[str, Any]]
    inputs: dict[str, Any]
    points: int


async def notice_of(
    conn: Connection, application_id: str, *, version: int | None = None
) -> StoredNotice | None:
    """Return the notice of a version, or of the newest denial; None if there is none."""
    given = {"id": application_id, "version": version}
    row = await (await conn.execute(_Q["notice"], given)).fetchone()
    return StoredNotice(**row) if row else None


async def open_notices(conn: Connection, *, due_before: datetime | None, limit: int) -> list[NoticeDue]:
    """Return notices that were not sent and are not superseded, the most urgent first."""
    cursor = await conn.execute(_Q["open_notices"], {"due_before": due_before, "limit": limit})
    return [NoticeDue(**row) for row in await cursor.fetchall()]


async def count_open(conn: Connection, *, now: datetime) -> tuple[int, int]:
    """Return how many notices are open, and how many of them are overdue."""
    [row] = await (await conn.execute(_Q["count_open_notices"], {"now": now})).fetchall()
    return row["open"], row["overdue"]


async def mark_sent(
    conn: Connection, notice: StoredNotice, *, document: Mapping[str, Any], by: str, now: datetime
) -> bool:
    """Record that a notice went out, and what it said, in the audit trail; False if it was recorded before."""
    given = {
        "id": notice.application_id,
        "version": notice.version,
        "now": now,
        "by": by,
        "document": Jsonb(dict(document)),
    }
    return (await conn.execute(_Q["mark_notice_sent"], given)).rowcount == 1
