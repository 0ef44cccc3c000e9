"""Versions of the payment policy."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.infra.security.canonical import canonical_json
from faregate.payments.contracts.policy import PolicyVersion
from faregate.payments.domain.policy import PolicyVersionUnknown, read_policy

_Q = load_queries("faregate.payments.store")


async def lock(conn: Connection) -> None:
    """Let nobody else change the policy until the transaction ends."""
    await conn.execute(_Q["lock_policy"])


async def version_of(conn: Connection, version: int | None) -> PolicyVersion:
    """Return a version, the newest if none is named. Raises PolicyVersionUnknown."""
    row: Any = await (await conn.execute(_Q["policy"], {"version": version})).fetchone()
    if row is None:
        raise PolicyVersionUnknown(
            "there is no policy yet: the first process that decides payments sets one"
            if version is None
            else f"there is no version {version}"
        )
    return PolicyVersion(
        version=row["version"],
        policy=read_policy(row["document"]),
        document=row["document"],
        sha256=bytes(row["sha256"]).hex(),
        by=row["by"],
        reason=row["reason"],
        set_at=row["set_at"],
        back_to=row["back_to"],
    )


async def history(conn: Connection, *, limit: int) -> Sequence[Mapping[str, Any]]:
    """Return who set which version, when and why, the newest first."""
    cursor = await conn.execute(_Q["policy_history"], {"limit": limit})
    return [{**row, "sha256": bytes(row["sha256"]).hex()} for row in await cursor.fetchall()]


async def insert(
    conn: Connection,
    document: Mapping[str, Any],
    *,
    by: str,
    reason: str,
    now: datetime,
    back_to: int | None = None,
) -> int:
    """Add a version and return its number."""
    given = {
        "document": orjson.dumps(document).decode(),
        "sha256": hashlib.sha256(canonical_json(document)).digest(),
        "back_to": back_to,
        "by": by,
        "reason": reason,
        "now": now,
    }
    row: Any = await (await conn.execute(_Q["insert_policy"], given)).fetchone()
    return int(row["version"])
