"""Requests for new pulls as rows. What may be asked for, and by whom, is decided in `domain`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from psycopg.errors import UniqueViolation

from faregate.credit.contracts import Repull, RepullState
from faregate.credit.domain.repull import RepullNotFound, RepullPending
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store.reviews")


async def repull_of(conn: Connection, repull_id: str, *, review_id: str) -> Repull:
    """Return one request of a review; raise RepullNotFound."""
    cursor = await conn.execute(_Q["repull"], {"id": repull_id, "review_id": review_id})
    if (row := await cursor.fetchone()) is None:
        raise RepullNotFound(f"review {review_id} has no new pull {repull_id}")
    return _repull(row)


async def repulls_of(conn: Connection, application_id: str) -> list[Repull]:
    """Return the requests of an application, oldest first."""
    cursor = await conn.execute(_Q["repulls"], {"application_id": application_id})
    return [_repull(row) for row in await cursor.fetchall()]


async def save(conn: Connection, repull: Repull) -> None:
    """Write a request, a new one or one that was answered. Raises RepullPending beside another that was not."""
    row = {
        "id": repull.id,
        "review_id": repull.review_id,
        "application_id": repull.application_id,
        "checks": list(repull.checks),
        "reason": repull.reason,
        "state": repull.state.value,
        "requested_by": repull.requested_by,
        "requested_at": repull.requested_at,
        "answered_by": repull.answered_by,
        "answered_at": repull.answered_at,
        "provider_request_ids": list(repull.provider_request_ids),
    }
    try:
        async with conn.transaction():
            await conn.execute(_Q["save_repull"], row)
    except UniqueViolation as error:
        raise RepullPending("a new pull was asked for already") from error


async def await_attempts(conn: Connection, application_id: str, attempts: Mapping[str, int]) -> set[str]:
    """Let answers of these attempts, by check, replace what is there; return the checks that have a signal."""
    given = {
        "application_id": application_id,
        "checks": list(attempts),
        "attempts": list(attempts.values()),
    }
    cursor = await conn.execute(_Q["await_attempts"], given)
    return {row["check_name"] for row in await cursor.fetchall()}


def _repull(row: Mapping[str, Any]) -> Repull:
    return Repull(
        **{
            **row,
            "checks": tuple(row["checks"]),
            "state": RepullState(row["state"]),
            "provider_request_ids": tuple(row["provider_request_ids"]),
        }
    )
