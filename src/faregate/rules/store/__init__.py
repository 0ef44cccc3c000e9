"""The rules schema: runs `queries.sql`, and turns constraint violations into named errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
from psycopg.types.json import Jsonb

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError, NotFoundError
from faregate.rules.contracts import (
    Act,
    Activation,
    AuditEntry,
    ListedVersion,
    RolledBack,
    RulesetVersion,
    Traffic,
)

_Q = load_queries("faregate.rules.store")


class RulesetVersionTaken(ConflictError):
    """This version was published with another content; published versions never change."""


class CodeSetTaken(ConflictError):
    """These reason codes were published in other words under the same version: give the changed set a new one."""


class RulesetVersionNotFound(NotFoundError):
    """No such version has been published."""


class NoActiveRuleset(NotFoundError):
    """No version of this name was active at that instant."""


class ActivationInThePast(ConflictError):
    """A later activation exists; what was active in the past cannot be changed."""


class NothingToRollBackTo(ConflictError):
    """No version was active before the active one."""


class NotTheActiveVersion(ConflictError):
    """Another version is active than the one that was to be rolled back: look before you act again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRuleset(RulesetVersion):
    """A version with its canonical content."""

    content: str


async def insert_version(
    conn: Connection, version: RulesetVersion, *, content: str, reason: str | None
) -> RulesetVersion:
    """Store a version, or return it as it stands if the same content was stored before."""
    cursor = await conn.execute(
        _Q["publish"],
        {
            "name": version.name,
            "version": version.version,
            "content": content,
            "sha256": version.sha256,
            "at": version.published_at,
            "by": version.published_by,
            "reason": reason,
        },
    )
    found = RulesetVersion(**(await _only_row(cursor)))
    if found.sha256 != version.sha256:
        raise RulesetVersionTaken(
            f"{version.label} was published with another content", version=version.label
        )
    return found


async def require_own_codes(conn: Connection, code_set: Mapping[str, Any]) -> None:
    """Raise CodeSetTaken if a published version has other codes under the version of these."""
    given = {"version": code_set["version"], "code_set": Jsonb(code_set)}
    row = await _only_row(await conn.execute(_Q["other_code_set"], given))
    if row["label"] is not None:
        raise CodeSetTaken(
            f"{row['label']} was published with another set of codes under the version {code_set['version']}",
            version=code_set["version"],
        )


async def insert_activation(conn: Connection, *, name: str, version: int, act: Act) -> None:
    """Make a version the active one from an instant on; nothing happens if it is already."""
    parameters = {"name": name, "version": version, **_given(act)}
    row = await _referring(conn, "activate", parameters, name=name, version=version)
    if not row["activated"]:
        raise ActivationInThePast(f"{name} has an activation later than {act.at.isoformat()}", name=name)


async def roll_back(conn: Connection, *, name: str, expected_version: int | None, act: Act) -> RolledBack:
    """Make the version before the active one active again. Raises NotTheActiveVersion, NothingToRollBackTo."""
    parameters = {"name": name, "expected_version": expected_version, **_given(act)}
    row = await (await conn.execute(_Q["roll_back"], parameters)).fetchone()
    if row is None:
        raise NotTheActiveVersion(f"{name}-{expected_version} is not the active version", name=name)
    if row["to_version"] is None:
        raise NothingToRollBackTo(f"no version of {name} was active before", name=name)
    return RolledBack(name=name, **row)


async def set_shadow(conn: Connection, *, name: str, version: int | None, act: Act) -> None:
    """Set the version that watches, None for none."""
    parameters = {"name": name, "version": version, **_given(act)}
    await _referring(conn, "set_shadow", parameters, name=name, version=version)


async def set_split(conn: Connection, *, name: str, version: int | None, basis_points: int, act: Act) -> None:
    """Set the version that challenges and its share, None and 0 for none."""
    parameters = {"name": name, "version": version, "basis_points": basis_points, **_given(act)}
    await _referring(conn, "set_split", parameters, name=name, version=version)


async def traffic_of(conn: Connection, *, name: str, at: datetime) -> Traffic:
    """Return what decides, watches and challenges at an instant. Raises NoActiveRuleset."""
    cursor = await conn.execute(_Q["plan"], {"name": name, "at": at})
    if (row := await cursor.fetchone()) is None:
        raise NoActiveRuleset(f"no version of {name} was active at {at.isoformat()}", name=name)
    return Traffic(**row)


async def versions_of(conn: Connection, *, name: str | None) -> list[ListedVersion]:
    """Return the published versions of a name, or all, newest first."""
    cursor = await conn.execute(_Q["versions"], {"name": name})
    return [ListedVersion(**row) for row in await cursor.fetchall()]


async def audit_trail_of(
    conn: Connection, *, name: str, before_id: int | None, limit: int
) -> list[AuditEntry]:
    """Return a page of what was done under a name, newest first."""
    parameters = {"name": name, "before": before_id, "limit": limit}
    cursor = await conn.execute(_Q["audit_trail"], parameters)
    return [AuditEntry(**row) for row in await cursor.fetchall()]


async def note(
    conn: Connection, *, name: str, version: int, action: str, act: Act, details: Mapping[str, Any]
) -> None:
    """Append an act of another part to the audit trail of a name."""
    parameters = {"name": name, "version": version, "action": action, "details": Jsonb(dict(details))}
    await conn.execute(_Q["note"], {**parameters, **_given(act)})


async def active_version(conn: Connection, *, name: str, at: datetime) -> RulesetVersion:
    """Return the version that was active at an instant, without its content."""
    cursor = await conn.execute(_Q["active"], {"name": name, "at": at})
    if (row := await cursor.fetchone()) is None:
        raise NoActiveRuleset(f"no version of {name} was active at {at.isoformat()}", name=name)
    return RulesetVersion(**row)


async def stored_version(conn: Connection, *, name: str, version: int) -> StoredRuleset:
    """Return a published version with its content."""
    cursor = await conn.execute(_Q["version"], {"name": name, "version": version})
    if (row := await cursor.fetchone()) is None:
        raise _not_published(name, version)
    return StoredRuleset(**row)


async def activations_of(conn: Connection, *, name: str) -> list[Activation]:
    """Return every activation of a name, oldest first."""
    cursor = await conn.execute(_Q["activations"], {"name": name})
    return [Activation(**row) for row in await cursor.fetchall()]


def _given(act: Act) -> dict[str, Any]:
    return {"at": act.at, "by": act.actor, "reason": act.reason}


async def _referring(
    conn: Connection, query: str, parameters: Mapping[str, Any], *, name: str, version: int | None
) -> Any:
    """Run a query that refers to a version; raise RulesetVersionNotFound and leave the transaction usable."""
    try:
        async with conn.transaction():
            return await _only_row(await conn.execute(_Q[query], parameters))
    except psycopg.errors.ForeignKeyViolation as error:
        raise _not_published(name, version) from error


def _not_published(name: str, version: int | None) -> RulesetVersionNotFound:
    label = f"{name}-{version}"
    return RulesetVersionNotFound(f"{label} has not been published", version=label)


async def _only_row(cursor: psycopg.AsyncCursor[Any]) -> Any:
    """Return the row of a query that calls one function, which always gives one."""
    return await cursor.fetchone()
