"""The rules schema: runs `queries.sql`, and turns constraint violations into named errors."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError, NotFoundError
from faregate.rules.contracts import Activation, RulesetVersion

_Q = load_queries("faregate.rules.store")


class RulesetVersionTaken(ConflictError):
    """This version was published with another content; published versions never change."""


class RulesetVersionNotFound(NotFoundError):
    """No such version has been published."""


class NoActiveRuleset(NotFoundError):
    """No version of this name was active at that instant."""


class ActivationInThePast(ConflictError):
    """A later activation exists; what was active in the past cannot be changed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRuleset(RulesetVersion):
    """A version with its canonical content."""

    content: str


async def insert_version(conn: Connection, version: RulesetVersion, *, content: str) -> RulesetVersion:
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
        },
    )
    found = RulesetVersion(**(await _only_row(cursor)))
    if found.sha256 != version.sha256:
        raise RulesetVersionTaken(
            f"{version.label} was published with another content", version=version.label
        )
    return found


async def insert_activation(conn: Connection, *, name: str, version: int, at: datetime, by: str) -> None:
    """Make a version the active one from an instant on; nothing happens if it is already."""
    parameters = {"name": name, "version": version, "at": at, "by": by}
    try:
        async with conn.transaction():
            row = await _only_row(await conn.execute(_Q["activate"], parameters))
    except psycopg.errors.ForeignKeyViolation as error:
        raise _not_published(name, version) from error
    if not row["activated"]:
        raise ActivationInThePast(f"{name} has an activation later than {at.isoformat()}", name=name)


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


def _not_published(name: str, version: int) -> RulesetVersionNotFound:
    label = f"{name}-{version}"
    return RulesetVersionNotFound(f"{label} has not been published", version=label)


async def _only_row(cursor: psycopg.AsyncCursor[Any]) -> Any:
    """Return the row of a query that calls one function, which always gives one."""
    return await cursor.fetchone()
