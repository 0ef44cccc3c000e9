"""All that is recorded of one application, for whoever must explain a decision."""

from __future__ import annotations

from typing import Any

from faregate.credit.domain.application import ApplicationNotFound
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries(__package__)


async def application(conn: Connection, application_id: str) -> dict[str, Any]:
    """Return an application without the person's identity; raise ApplicationNotFound."""
    row = await (await conn.execute(_Q["trace_application"], {"id": application_id})).fetchone()
    if row is None:
        raise ApplicationNotFound(f"there is no application {application_id}")
    found: dict[str, Any] = row
    return found


async def entries(conn: Connection, application_id: str) -> list[dict[str, Any]]:
    """Return the audit entries, oldest first."""
    return await (await conn.execute(_Q["trace_entries"], {"id": application_id})).fetchall()


async def decisions(conn: Connection, application_id: str) -> list[dict[str, Any]]:
    """Return every version of the decision with its inputs, its versions and its trace."""
    return await (await conn.execute(_Q["trace_decisions"], {"id": application_id})).fetchall()


async def notices(conn: Connection, application_id: str) -> list[dict[str, Any]]:
    """Return the notices that became due."""
    return await (await conn.execute(_Q["trace_notices"], {"id": application_id})).fetchall()


async def take_one_snapshot(conn: Connection) -> None:
    """Let the transaction, which has read nothing yet, see one instant only."""
    await conn.execute(_Q["one_snapshot"])
