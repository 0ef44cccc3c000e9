"""The life of models: registered, activated, rolled back, let watch. Who did it and why is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from faregate.features.feature_set import FeatureSet
from faregate.fraud.contracts.release import ModelsInForce, ModelVersion
from faregate.fraud.domain.reasons import ReasonTable
from faregate.fraud.handlers.booster import Booster
from faregate.fraud.handlers.models import ModelNotFound, content_hash, require_usable
from faregate.fraud.handlers.training import Trained
from faregate.fraud.store import models as store
from faregate.infra.database import Connection, Database
from faregate.kernel.errors import ConflictError, InvalidError

_NAME: Final = re.compile(r"[a-z][a-z0-9-]{1,62}")


class ModelNameInvalid(InvalidError):
    """A model is named by lower-case letters, digits and hyphens, a version by that, a hyphen and its number."""


class NoEarlierModel(ConflictError):
    """No other model was active before the active one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Doing:
    """Who does something, when and why."""

    by: str
    at: datetime
    reason: str | None = None


class ModelRegistry:
    """The registry, for those who manage models."""

    def __init__(self, *, database: Database, declared: FeatureSet, reasons: ReasonTable) -> None:
        self._database, self._declared, self._reasons = database, declared, reasons

    async def register(self, trained: Trained, *, name: str, doing: Doing) -> ModelVersion:
        """Put a model into the registry, and return the version that it is; the same one twice is one.

        Raises BoosterUnreadable and ReasonTableIncomplete: what could not be scored or explained never gets in.
        """
        release, content = trained.release, trained.content
        require_name(name)
        self._reasons.require_whole(release.names)
        Booster(content, inputs=len(release.inputs)).close()
        sha256 = content_hash(content, release)
        async with self._database.transaction() as conn:
            await store.register(
                conn, name=name, sha256=sha256, content=content, release=release, at=doing.at, by=doing.by
            )
            [version] = await store.versions(conn, sha256=sha256)
        return version

    async def versions(self) -> tuple[Sequence[ModelVersion], ModelsInForce]:
        """Return all versions, and which of them are in force."""
        async with self._database.connection() as conn:
            return await store.versions(conn), await store.in_force(conn)

    async def acts(self, *, limit: int) -> Sequence[Mapping[str, Any]]:
        """Return what was done, the newest first."""
        async with self._database.connection() as conn:
            return await store.acts(conn, limit=limit)

    async def activate(self, label: str, *, doing: Doing) -> ModelVersion:
        """Let a version decide. Raises ModelNotFound, ModelNameInvalid and ModelUnusable."""
        async with self._database.transaction() as conn:
            await store.lock_acts(conn)
            version = await self._usable(conn, label)
            await _note(conn, "activated", version, doing)
        return version

    async def roll_back(self, *, doing: Doing) -> ModelVersion:
        """Let the version decide that was active before the active one; a second time goes on backwards.

        Raises NoEarlierModel and ModelUnusable.
        """
        async with self._database.transaction() as conn:
            await store.lock_acts(conn)
            before = previous(await store.activations(conn))
            if before is None:
                raise NoEarlierModel("no other model was active before the active one")
            version = await self._usable(conn, f"{before[0]}-{before[1]}")
            await _note(conn, "rolled_back", version, doing)
        return version

    async def shadow(self, label: str | None, *, doing: Doing) -> ModelVersion | None:
        """Let a version watch, None: none any more. Raises ModelNotFound, ModelNameInvalid and ModelUnusable."""
        async with self._database.transaction() as conn:
            await store.lock_acts(conn)
            version = None if label is None else await self._usable(conn, label)
            await _note(conn, "shadowed", version, doing)
        return version

    async def _usable(self, conn: Connection, label: str) -> ModelVersion:
        name, number = parse_label(label)
        found = await store.versions(conn, name=name, version=number)
        if not found:
            raise ModelNotFound(f"the registry has no model {label}")
        require_usable(found[0], self._declared)
        return found[0]


def require_name(name: str) -> str:
    """Return a model's name. Raises ModelNameInvalid for what can be none."""
    if not _NAME.fullmatch(name):
        raise ModelNameInvalid("a model has a name like payments: lower case, digits and hyphens")
    return name


def parse_label(label: str) -> tuple[str, int]:
    """Return name and number of a label such as `payments-2`. Raises ModelNameInvalid."""
    name, _, number = label.rpartition("-")
    if not name or not number.isdecimal() or not number.isascii() or not 0 < int(number[:10]) < 2**31:
        raise ModelNameInvalid("a version is named like payments-2")
    return name, int(number)


def previous(activations: Sequence[Mapping[str, Any]]) -> tuple[str, int] | None:
    """Return what was active before the active one: a roll-back takes the last one off the stack."""
    stack: list[tuple[str, int]] = []
    for one in activations:
        version = (one["name"], one["version"])
        if one["kind"] == "rolled_back":
            stack.pop()
        elif not stack or stack[-1] != version:
            stack.append(version)
    return stack[-2] if len(stack) > 1 else None


async def _note(conn: Connection, kind: str, version: ModelVersion | None, doing: Doing) -> None:
    await store.note(
        conn,
        kind=kind,
        name=version.name if version else None,
        version=version.version if version else None,
        at=doing.at,
        by=doing.by,
        reason=doing.reason,
    )
