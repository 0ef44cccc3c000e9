"""The payment policy: read by every decision, set as a further version, taken back by another one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.resources import files
from typing import Any, Final

from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.payments.contracts.policy import PolicyVersion
from faregate.payments.domain.policy import read_policy
from faregate.payments.store import policies as store

_FIRST_BY: Final = "faregate"
_FIRST_REASON: Final = "the policy that comes along"
_REMEMBERED_MAX: Final = 8


@dataclass(frozen=True)
class PolicyBook:
    """Versions of the policy that were read before. A version never changes, so they are true for ever.

    Every decision asks the database which version counts, in the query that reads its card: what was set a moment ago
    counts in every process.
    """

    _read: dict[int, PolicyVersion] = field(default_factory=dict)

    async def version(self, conn: Connection, version: int) -> PolicyVersion:
        """Return a version."""
        found = self._read.get(version)
        if found is None:
            if len(self._read) >= _REMEMBERED_MAX:
                self._read.pop(min(self._read))
            found = self._read[version] = await store.version_of(conn, version)
        return found


@dataclass(frozen=True, kw_only=True)
class PolicyDesk:
    """Sets the policy. `by` says who: `client:acme`, `operator`."""

    database: Database
    clock: Clock

    async def now(self) -> PolicyVersion:
        """Return the version that counts."""
        async with self.database.connection() as conn:
            return await store.version_of(conn, None)

    async def version(self, version: int) -> PolicyVersion:
        """Return a version. Raises PolicyVersionUnknown."""
        async with self.database.connection() as conn:
            return await store.version_of(conn, version)

    async def history(self, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return who set which version, when and why, the newest first."""
        async with self.database.connection() as conn:
            return await store.history(conn, limit=limit)

    async def set(
        self, conn: Connection, document: Mapping[str, Any], *, by: str, reason: str
    ) -> PolicyVersion:
        """Add a version, which counts from the commit on. Raises PaymentPolicyInvalid."""
        read_policy(document)
        await store.lock(conn)
        version = await store.insert(conn, document, by=by, reason=reason, now=self.clock.now())
        return await store.version_of(conn, version)

    async def roll_back(self, conn: Connection, to: int, *, by: str, reason: str) -> PolicyVersion:
        """Let an earlier version count again, as a further one. Raises PolicyVersionUnknown."""
        await store.lock(conn)
        earlier = await store.version_of(conn, to)
        version = await store.insert(
            conn, earlier.document, by=by, reason=reason, now=self.clock.now(), back_to=to
        )
        return await store.version_of(conn, version)


async def publish_first_policy(database: Database, *, clock: Clock) -> None:
    """Set the policy that comes along, where there is none yet."""
    async with database.transaction() as conn:
        await store.lock(conn)
        if not await store.history(conn, limit=1):
            await store.insert(conn, first_policy(), by=_FIRST_BY, reason=_FIRST_REASON, now=clock.now())


def first_policy() -> dict[str, Any]:
    """Return the document of the policy that comes along."""
    text = (files("faregate.payments") / "artefacts" / "policy.json").read_text(encoding="utf-8")
    document: dict[str, Any] = json.loads(text)
    return document
