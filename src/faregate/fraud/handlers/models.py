"""The models that decide and watch: loaded from the registry, followed within a second, swapped between payments."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from math import nan
from typing import Any, Final

import structlog

from faregate.features.feature_set import FeatureSet
from faregate.fraud.contracts.release import ModelVersion, Release, StoredModel, Thresholds
from faregate.fraud.contracts.scoring import Reason, Values
from faregate.fraud.domain.inputs import definitions_of
from faregate.fraud.domain.reasons import ReasonTable, reasons_of_model
from faregate.fraud.handlers.booster import Booster
from faregate.fraud.store import models as store
from faregate.infra.database import Connection, Database
from faregate.infra.readiness import NotReady
from faregate.infra.security.canonical import canonical_json
from faregate.kernel.errors import ConflictError, FaregateError, NotFoundError, UnavailableError

_log = structlog.get_logger(__name__)

LOOK_S: Final = 0.25


class ModelUnusable(ConflictError):
    """A model cannot be used with the features that there are: it was trained on another definition of one."""


class ModelNotFound(NotFoundError):
    """The registry has no such model."""


class ModelNotLoaded(NotReady):
    """A model is active and could not be loaded."""


class Model:
    """A version ready to score. Make it anew for each thread."""

    def __init__(self, stored: StoredModel, *, reasons: ReasonTable) -> None:
        reasons.require_whole(stored.release.names)
        self.version: ModelVersion = stored
        self.thresholds: Thresholds = stored.release.thresholds
        self._names, self._reasons = stored.release.names, reasons
        self._booster = Booster(stored.content, inputs=len(self._names))

    def score(self, values: Values) -> float:
        """Return the probability of fraud."""
        return self._booster.score(self._row(values))

    def reasons(self, values: Values) -> Sequence[Reason]:
        """Return why the score is as high as it is."""
        contributions = self._booster.contributions(self._row(values))
        return reasons_of_model(self._names, contributions, self._reasons)

    def named(self) -> dict[str, Any]:
        """Return how answers name the version."""
        return {"name": self.version.name, "version": self.version.version, "sha256": self.version.sha256}

    def _row(self, values: Values) -> list[float]:
        return [nan if (value := values[name]) is None else value for name in self._names]


@dataclass(slots=True)
class _Place:
    """Where a model stands: the hash that is wanted, what is loaded, and why what is wanted is not."""

    wanted: str | None = None
    model: Model | None = None
    why_not: str | None = None


class ModelBook:
    """Which models this process uses; `active` and `shadow` may change between two payments."""

    def __init__(self, *, database: Database, declared: FeatureSet, reasons: ReasonTable) -> None:
        self._database, self._declared, self._reasons = database, declared, reasons
        self._active, self._shadow = _Place(), _Place()

    @property
    def active(self) -> Model | None:
        """The model that decides."""
        return self._active.model

    @property
    def shadow(self) -> Model | None:
        """The model that watches."""
        return self._shadow.model

    async def follow(self) -> None:
        """Load what is in force, as far as it changed. One that cannot be used leaves the one before in its place."""
        async with self._database.connection() as conn:
            wanted = await store.in_force(conn)
            for place, sha256 in ((self._active, wanted.active), (self._shadow, wanted.shadow)):
                if sha256 != place.wanted:
                    await self._fill(place, sha256, conn)

    @asynccontextmanager
    async def followed(self) -> AsyncIterator[None]:
        """Follow the registry for the length of the block."""
        with suppress(UnavailableError):
            await self.follow()
        follower = asyncio.create_task(self._follow_for_ever())
        try:
            yield
        finally:
            follower.cancel()
            with suppress(asyncio.CancelledError):
                await follower

    async def check(self) -> str | None:
        """Return what is missing because nobody activated it. Raises ModelNotLoaded for what should be there."""
        if self._active.why_not is not None:
            raise ModelNotLoaded(self._active.why_not)
        return None if self.active else "no model is active"

    async def _follow_for_ever(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            try:
                await self.follow()
            except Exception as error:  # noqa: BLE001 - the models that are loaded go on while the registry is gone
                _log.warning("fraud_models_not_followed", why=str(error))

    async def _fill(self, place: _Place, sha256: str | None, conn: Connection) -> None:
        if sha256 is None:
            place.wanted = place.model = place.why_not = None
            return
        try:
            stored = await store.stored(conn, sha256=sha256)
            if stored is None:
                raise ModelNotFound(f"the registry has no model {sha256[:12]}")
            require_usable(stored, self._declared)
            place.model, place.why_not = Model(stored, reasons=self._reasons), None
            _log.info("fraud_model_loaded", model=stored.label, sha256=sha256)
        except UnavailableError:
            raise
        except FaregateError as error:
            place.why_not = error.detail
            _log.error("fraud_model_refused", sha256=sha256, why=error.detail)
        place.wanted = sha256


def require_usable(version: ModelVersion, declared: FeatureSet) -> None:
    """Raise ModelUnusable if the live features are not those that a model was trained on."""
    live = definitions_of(declared)
    changed = [one.name for one in version.release.inputs if live.get(one.name) != one.definition]
    if changed:
        raise ModelUnusable(
            f"{version.label} was trained on other definitions of {', '.join(changed)}", features=changed
        )


def content_hash(content: bytes, release: Release) -> str:
    """Return the hash by which a version is known: of all that its answers depend on."""
    return hashlib.sha256(content + canonical_json(release.document())).hexdigest()
