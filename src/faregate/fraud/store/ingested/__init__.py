"""Which events clients reported, by the ids that they gave them, for as long as one of them may come again."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from faregate.infra.database import Connection, execute_last
from faregate.infra.queries import load_queries

_Q = load_queries(__package__)


async def remember(
    conn: Connection, *, client_id: str, contents: Mapping[str, bytes], now: datetime
) -> Collection[str]:
    """Remember the contents of events by id, and return the ids that were not there before."""
    given = {"client_id": client_id, "ids": list(contents), "contents": list(contents.values()), "now": now}
    return {row["id"] for row in await _rows(conn, "remember", given)}


async def contents(conn: Connection, *, client_id: str, ids: Collection[str]) -> Mapping[str, bytes]:
    """Return what was said under these ids."""
    rows = await _rows(conn, "contents", {"client_id": client_id, "ids": list(ids)})
    return {row["id"]: bytes(row["content"]) for row in rows}


async def forget(conn: Connection, *, before: datetime, limit: int) -> None:
    """Forget at most so many of those that were received before an instant."""
    await execute_last(conn, _Q["forget"], {"before": before, "limit": limit})


async def _rows(conn: Connection, query: str, given: Mapping[str, Any]) -> list[Any]:
    return await (await conn.execute(_Q[query], given)).fetchall()
