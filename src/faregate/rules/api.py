"""The door to the rules engine: publish, activate, and get a version ready to be evaluated.

Every call runs inside the caller's transaction, whatever its role. A `Rulesets` belongs to one database.
Reading the clock does not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from faregate.infra.database import Connection
from faregate.rules import store
from faregate.rules.checks import check_document
from faregate.rules.contracts import Activation, RulesetVersion
from faregate.rules.ruleset import CompiledRuleset, canonical, compile_ruleset, content_sha256


async def publish(
    conn: Connection, *, document: Mapping[str, Any], published_at: datetime, published_by: str
) -> RulesetVersion:
    """Check and store a ruleset document under its name and version; the same content twice is one.

    Raises `RulesetRefused` with every problem found, or `RulesetVersionTaken`.
    """
    check_document(document)
    content = canonical(document)
    version = RulesetVersion(
        name=document["name"],
        version=document["version"],
        sha256=content_sha256(content),
        published_at=published_at,
        published_by=published_by,
    )
    return await store.insert_version(conn, version, content=content)


async def activate(
    conn: Connection, *, name: str, version: int, activated_at: datetime, activated_by: str
) -> None:
    """Make a published version the active one. Raises `RulesetVersionNotFound` or `ActivationInThePast`."""
    await store.insert_activation(conn, name=name, version=version, at=activated_at, by=activated_by)


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

    async def version(self, conn: Connection, *, name: str, version: int) -> CompiledRuleset:
        """Return one published version. Raises `RulesetVersionNotFound`."""
        if (found := self._compiled.get((name, version))) is None:
            stored = await store.stored_version(conn, name=name, version=version)
            found = self._compiled[name, version] = compile_ruleset(stored.content)
        return found
