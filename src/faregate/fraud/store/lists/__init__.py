"""The lists in the fraud schema: runs `queries.sql`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.fraud.contracts.lists import ListChange, ListEntry, ListKind, ListName, NewEntry
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.fraud.store.lists")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An entry as processes keep it, and what became of it."""

    act: str
    list: ListName
    kind: ListKind
    value: str
    expires_at: datetime | None


async def lock(conn: Connection) -> int:
    """Let one change come after the other; return the number of the last one."""
    row: Any = await (await conn.execute(_Q["lock"])).fetchone()
    return int(row["version"])


async def forget_expired(conn: Connection, *, before: datetime) -> None:
    """Take off what ended before an instant."""
    await conn.execute(_Q["forget_expired"], {"before": before})


async def count_besides(conn: Connection, name: ListName, entries: Sequence[NewEntry]) -> int:
    """Return how many entries there are on all lists besides these."""
    row: Any = await (await conn.execute(_Q["count"], {"list": name, **_columns(entries)})).fetchone()
    return int(row["entries"])


async def add(
    conn: Connection,
    name: ListName,
    entries: Sequence[NewEntry],
    *,
    version: int,
    at: datetime,
    by: str,
    reason: str,
) -> None:
    """Put entries on a list, each once, after the change `version`."""
    given = {"list": name, "version": version, "at": at, "by": by, "reason": reason}
    ends = [entry.expires_at for entry in entries]
    await conn.execute(_Q["add"], {**given, **_columns(entries), "expires_at": ends})


async def remove(
    conn: Connection,
    name: ListName,
    entries: Sequence[NewEntry],
    *,
    version: int,
    at: datetime,
    by: str,
    reason: str,
) -> set[tuple[str, str]]:
    """Take entries off a list; return kind and value of those that were there."""
    given = {"list": name, "version": version, "at": at, "by": by, "reason": reason}
    rows = await (await conn.execute(_Q["remove"], {**given, **_columns(entries)})).fetchall()
    return {(row["kind"], row["value"]) for row in rows}


async def entries(
    conn: Connection,
    *,
    name: ListName | None,
    kind: ListKind | None,
    value: str | None,
    at: datetime,
    after: tuple[str, str, str],
    limit: int,
) -> list[ListEntry]:
    """Return a page of what stands on the lists, by list, kind and value."""
    given = {"list": name, "kind": kind, "value": value, "at": at, "limit": limit}
    place = dict(zip(("after_list", "after_kind", "after_value"), after, strict=True))
    rows = await (await conn.execute(_Q["entries"], {**given, **place})).fetchall()
    return [ListEntry(**{**row, **_named(row)}) for row in rows]


async def history(
    conn: Connection,
    *,
    name: ListName | None,
    kind: ListKind | None,
    value: str | None,
    before: int | None,
    limit: int,
) -> list[ListChange]:
    """Return a page of what was done, the newest first."""
    given = {"list": name, "kind": kind, "value": value, "before": before, "limit": limit}
    rows = await (await conn.execute(_Q["history"], given)).fetchall()
    return [ListChange(**{**row, **_named(row)}) for row in rows]


async def everything(conn: Connection) -> tuple[int, list[Standing]]:
    """Return the number of the last change, and all that stands on the lists."""
    rows = await (await conn.execute(_Q["everything"])).fetchall()
    standing = [_standing({**row, "act": "added"}) for row in rows if row["list"] is not None]
    return rows[0]["version"], standing


async def changes(conn: Connection, *, after: int, limit: int) -> list[tuple[int, Standing]]:
    """Return what was done after a change, in order."""
    rows = await (await conn.execute(_Q["changes"], {"after": after, "limit": limit})).fetchall()
    return [(row["version"], _standing(row)) for row in rows]


def _standing(row: Any) -> Standing:
    return Standing(act=row["act"], value=row["value"], expires_at=row["expires_at"], **_named(row))


def _named(row: Any) -> dict[str, Any]:
    return {"list": ListName(row["list"]), "kind": ListKind(row["kind"])}


def _columns(entries: Sequence[NewEntry]) -> dict[str, list[str]]:
    return {"kinds": [entry.kind for entry in entries], "values": [entry.value for entry in entries]}
