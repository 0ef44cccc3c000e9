"""Requests to decide again: which were carried out, and the recorded inputs that they may ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faregate.credit.contracts import Reevaluated, Status
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.credit.store")


async def carried_out(conn: Connection, requests: Sequence[tuple[str, str]]) -> Mapping[str, Reevaluated]:
    """Return what came, by application, of those of the requests (application, key) that were done before."""
    given = {"application_ids": [a for a, _ in requests], "request_keys": [key for _, key in requests]}
    cursor = await conn.execute(_Q["reevaluations"], given)
    return {
        row["application_id"]: Reevaluated(
            application_id=row["application_id"],
            version=row["version"],
            status=Status(row["outcome"]),
            is_repeated=True,
        )
        for row in await cursor.fetchall()
    }


async def decided_by_people(conn: Connection, application_ids: Sequence[str]) -> set[str]:
    """Return those of the applications, whose rows are locked, that a person decided last."""
    cursor = await conn.execute(_Q["decided_by_people"], {"ids": list(application_ids)})
    return {row["id"] for row in await cursor.fetchall()}


async def insert(conn: Connection, done: Sequence[tuple[str, str, int]]) -> None:
    """Remember requests (application, key) and the versions that they made."""
    given = {
        "application_ids": [application for application, _, _ in done],
        "request_keys": [key for _, key, _ in done],
        "versions": [version for _, _, version in done],
    }
    await conn.execute(_Q["insert_reevaluations"], given)


async def recorded_inputs(
    conn: Connection, wanted: Sequence[tuple[str, int]]
) -> Mapping[str, Mapping[str, Any]]:
    """Return the recorded inputs of versions (application, version), by application."""
    given = {"application_ids": [a for a, _ in wanted], "versions": [version for _, version in wanted]}
    cursor = await conn.execute(_Q["recorded_inputs"], given)
    return {row["application_id"]: row["inputs"] for row in await cursor.fetchall()}
