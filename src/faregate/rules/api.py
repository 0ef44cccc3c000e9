"""The door to the rules engine: publish, activate, and get a version ready to be evaluated.

Every call runs inside the caller's transaction, whatever its role; `publish_first` opens one. A `Rulesets` belongs to
one database. Reading the clock does not belong here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

import orjson

from faregate.infra.database import Connection, Database
from faregate.kernel.errors import InvalidError
from faregate.rules import store
from faregate.rules.checks import check_document
from faregate.rules.contracts import (
    Act,
    Activation,
    AuditEntry,
    ListedVersion,
    RolledBack,
    RulesetVersion,
    Traffic,
)
from faregate.rules.ruleset import CompiledRuleset, canonical, compile_ruleset, content_sha256
from faregate.rules.split import BASIS_POINTS
from faregate.rules.store import ActivationInThePast


class SplitInvalid(InvalidError):
    """A split takes a challenger and a share above 0 and up to the whole, or neither to end it."""


async def publish(
    conn: Connection,
    *,
    document: Mapping[str, Any],
    published_at: datetime,
    published_by: str,
    reason: str | None = None,
) -> RulesetVersion:
    """Check and store a ruleset document under its name and version; the same content twice is one.

    Raises `RulesetRefused` with every problem found, `RulesetVersionTaken` or `CodeSetTaken`.
    """
    check_document(document)
    await store.require_own_codes(conn, document["code_set"])
    content = canonical(document)
    version = RulesetVersion(
        name=document["name"],
        version=document["version"],
        sha256=content_sha256(content),
        published_at=published_at,
        published_by=published_by,
    )
    return await store.insert_version(conn, version, content=content, reason=reason)


async def activate(
    conn: Connection,
    *,
    name: str,
    version: int,
    activated_at: datetime,
    activated_by: str,
    reason: str | None = None,
) -> None:
    """Make a published version the active one. Raises `RulesetVersionNotFound` or `ActivationInThePast`."""
    act = Act(actor=activated_by, at=activated_at, reason=reason)
    await store.insert_activation(conn, name=name, version=version, act=act)


async def publish_first(
    database: Database, *, name: str, document: Callable[[], Mapping[str, Any]], now: datetime, by: str
) -> None:
    """Publish and activate a document, unless some version of the name is active already."""
    async with database.transaction() as conn:
        if await activations(conn, name=name):
            return
        first = await publish(conn, document=document(), published_at=now, published_by=by)
        with suppress(ActivationInThePast):  # another process that starts at this moment was faster
            await activate(conn, name=name, version=first.version, activated_at=now, activated_by=by)


async def roll_back(
    conn: Connection, *, name: str, act: Act, expected_version: int | None = None
) -> RolledBack:
    """Make the version that was active before the active one active again, from now on.

    A second roll-back goes on backwards: what was rolled back is never returned to. With `expected_version`, only
    that version is rolled back. Raises `NotTheActiveVersion` or `NothingToRollBackTo`.
    """
    return await store.roll_back(conn, name=name, expected_version=expected_version, act=act)


async def set_shadow(conn: Connection, *, name: str, version: int | None, act: Act) -> None:
    """Let a published version watch, None: none any more. Raises `RulesetVersionNotFound`."""
    await store.set_shadow(conn, name=name, version=version, act=act)


async def set_split(conn: Connection, *, name: str, version: int | None, basis_points: int, act: Act) -> None:
    """Let a published version decide for so many of 10,000 subjects; None and 0 end it.

    Raises `RulesetVersionNotFound` or `SplitInvalid`.
    """
    if not 0 <= basis_points <= BASIS_POINTS or (version is None) != (basis_points == 0):
        raise SplitInvalid(f"a split takes a version and 1 to {BASIS_POINTS} basis points, or none and 0")
    await store.set_split(conn, name=name, version=version, basis_points=basis_points, act=act)


async def versions(conn: Connection, *, name: str | None = None) -> list[ListedVersion]:
    """Return the published versions of a name, or of all, newest first."""
    return await store.versions_of(conn, name=name)


async def document_of(conn: Connection, *, name: str, version: int) -> dict[str, Any]:
    """Return a published version as it was published. Raises `RulesetVersionNotFound`."""
    document: dict[str, Any] = orjson.loads(await content_of(conn, name=name, version=version))
    return document


async def content_of(conn: Connection, *, name: str, version: int) -> str:
    """Return the canonical content of a published version. Raises `RulesetVersionNotFound`."""
    return (await store.stored_version(conn, name=name, version=version)).content


async def traffic(conn: Connection, *, name: str, at: datetime) -> Traffic:
    """Return what decides, watches and challenges at an instant. Raises `NoActiveRuleset`."""
    return await store.traffic_of(conn, name=name, at=at)


async def audit_trail(
    conn: Connection, *, name: str, before_id: int | None = None, limit: int = 100
) -> list[AuditEntry]:
    """Return a page of what was done under a name, by whom and why, newest first."""
    return await store.audit_trail_of(conn, name=name, before_id=before_id, limit=limit)


async def note(
    conn: Connection, *, name: str, version: int, action: str, act: Act, details: Mapping[str, Any]
) -> None:
    """Append to the audit trail of a name what its context did because of one of its versions."""
    await store.note(conn, name=name, version=version, action=action, act=act, details=details)


async def activations(conn: Connection, *, name: str) -> list[Activation]:
    """Return the history of activations of a name, oldest first."""
    return await store.activations_of(conn, name=name)


class Rulesets:
    """Compiled rulesets of this process, each compiled once. Versions never change, so none is ever stale."""

    def __init__(self) -> None:
        self._compiled: dict[tuple[str, int], CompiledRuleset] = {}

    async def active(self, conn: Connection, *, name: str, at: datetime) -> CompiledRuleset:
        """Return the ruleset that was active at an instant. Raises `NoActiveRuleset`."""
        active = await store.active_version(conn, name=name, at=at)
        return await self.version(conn, name=active.name, version=active.version)

    async def traffic(self, conn: Connection, *, name: str, at: datetime) -> Traffic:
        """Return what decides, watches and challenges at an instant. Raises `NoActiveRuleset`."""
        return await store.traffic_of(conn, name=name, at=at)

    async def version(self, conn: Connection, *, name: str, version: int) -> CompiledRuleset:
        """Return one published version. Raises `RulesetVersionNotFound`."""
        if (found := self._compiled.get((name, version))) is None:
            stored = await store.stored_version(conn, name=name, version=version)
            found = self._compiled[name, version] = compile_ruleset(stored.content)
        return found
