"""The rows of the registry of models: runs `queries.sql`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson

from faregate.fraud.contracts.release import ModelsInForce, ModelVersion, Release, StoredModel
from faregate.infra.database import Connection
from faregate.infra.queries import load_queries

_Q = load_queries("faregate.fraud.store")


async def register(
    conn: Connection, *, name: str, sha256: str, content: bytes, release: Release, at: datetime, by: str
) -> None:
    """Store a version, the next of its name; one that is there already stays as it is."""
    given = {"name": name, "sha256": sha256, "content": content, "at": at, "by": by}
    await conn.execute(_Q["lock_model_acts"])
    await conn.execute(_Q["register_model"], {**given, "release": orjson.dumps(release.document()).decode()})


async def versions(
    conn: Connection, *, name: str | None = None, version: int | None = None, sha256: str | None = None
) -> list[ModelVersion]:
    """Return versions, the newest of each name first, without their content."""
    given = {"name": name, "version": version, "sha256": sha256}
    rows = await (await conn.execute(_Q["models"], given)).fetchall()
    return [ModelVersion(**{**row, "release": Release.of(row["release"])}) for row in rows]


async def stored(conn: Connection, *, sha256: str) -> StoredModel | None:
    """Return a version with its content, None if there is none of this hash."""
    row = await (await conn.execute(_Q["model_content"], {"sha256": sha256})).fetchone()
    return None if row is None else StoredModel(**{**row, "release": Release.of(row["release"])})


async def in_force(conn: Connection) -> ModelsInForce:
    """Return which versions decide and watch now."""
    row: Any = await (await conn.execute(_Q["models_in_force"])).fetchone()
    return ModelsInForce(**row)


async def note(
    conn: Connection,
    *,
    kind: str,
    name: str | None,
    version: int | None,
    at: datetime,
    by: str,
    reason: str | None,
) -> None:
    """Note what was done with a version."""
    given = {"kind": kind, "name": name, "version": version, "at": at, "by": by, "reason": reason}
    await conn.execute(_Q["note_model_act"], given)


async def lock_acts(conn: Connection) -> None:
    """Let one act come after the other, until the end of the transaction."""
    await conn.execute(_Q["lock_model_acts"])


async def acts(conn: Connection, *, limit: int) -> Sequence[Mapping[str, Any]]:
    """Return what was done with versions, the newest first."""
    return await (await conn.execute(_Q["model_acts"], {"limit": limit})).fetchall()


async def activations(conn: Connection) -> Sequence[Mapping[str, Any]]:
    """Return which versions decided, oldest first, with whether each came by a roll-back."""
    return await (await conn.execute(_Q["model_activations"])).fetchall()
