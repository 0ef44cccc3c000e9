"""What operators changed about providers at run time: appended, never altered; the newest of each kind counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

import orjson
from psycopg.types.json import Jsonb

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError

_QUERIES = load_queries(__package__)


class ChangeOvertaken(ConflictError):
    """Somebody else changed this provider meanwhile. Look at what holds now, then change it again."""


class Kind(StrEnum):
    """What a change is about."""

    POLICY = "policy"
    BREAKER = "breaker"


@dataclass(frozen=True, slots=True, kw_only=True)
class ProviderChange:
    """One change. `version` grows with every change of any provider.

    The content of POLICY: each field that differs from the file, of BREAKER: each operation that a person holds open
    or closed.
    """

    version: int
    kind: Kind
    content: Mapping[str, Any]
    reason: str
    changed_by: str
    changed_at: datetime


async def append_change(
    conn: Connection,
    *,
    provider: str,
    kind: Kind,
    seen_version: int,
    content: Mapping[str, Any],
    reason: str,
    changed_by: str,
) -> int:
    """Append a change that replaces the one of `seen_version`, 0 for none; return its version. Or ChangeOvertaken."""
    given = {"provider": provider, "kind": kind, "seen_version": seen_version, "reason": reason}
    rest = {"content": Jsonb(dict(content), dumps=orjson.dumps), "changed_by": changed_by}
    row = await (await conn.execute(_QUERIES["change_provider"], given | rest)).fetchone()
    if row is None or row["version"] is None:
        raise ChangeOvertaken(f"the {kind} of {provider} was changed meanwhile", provider=provider)
    return int(row["version"])


async def newest_changes(conn: Connection) -> Mapping[tuple[str, Kind], ProviderChange]:
    """Return the newest change of each provider and kind."""
    rows = await (await conn.execute(_QUERIES["provider_changes"])).fetchall()
    return {(row["provider"], Kind(row["kind"])): _change(row) for row in rows}


async def change_history(conn: Connection, *, provider: str, most: int) -> Sequence[ProviderChange]:
    """Return the last changes of one provider, the newest first."""
    given = {"provider": provider, "most": most}
    rows = await (await conn.execute(_QUERIES["provider_history"], given)).fetchall()
    return [_change(row) for row in rows]


def _change(row: Mapping[str, Any]) -> ProviderChange:
    return ProviderChange(
        version=row["version"],
        kind=Kind(row["kind"]),
        content=row["content"],
        reason=row["reason"],
        changed_by=row["changed_by"],
        changed_at=row["changed_at"],
    )
