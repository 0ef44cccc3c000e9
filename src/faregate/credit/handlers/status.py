"""Status snapshots: what pollers read. They stand in Valkey, and everything works without it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

import orjson
import structlog

from faregate.credit.contracts import Status, StatusView
from faregate.credit.domain.application import ApplicationNotFound
from faregate.credit.store import applications
from faregate.events.credit import DecisionFinalized
from faregate.infra.admission import Admission, Work
from faregate.infra.cache import Cache, CacheUnavailable
from faregate.infra.database import Connection
from faregate.infra.replica import ReadDatabase
from faregate.infra.single_flight import SingleFlight

_log = structlog.get_logger(__name__)


@dataclass(frozen=True, kw_only=True)
class StatusSnapshots:
    """Snapshots by application id, each for `ttl_s` seconds. A Valkey that is down only costs the speed-up."""

    cache: Cache
    ttl_s: float

    async def put(self, views: Sequence[StatusView]) -> None:
        """Replace the snapshots of these applications, except those that are newer. Raises CacheUnavailable."""
        await asyncio.gather(*(self._put(view) for view in views))

    async def try_to_put(self, views: Sequence[StatusView]) -> None:
        """Do what `put` does where a missed snapshot costs no more than a read of the database, or a late step."""
        try:
            await self.put(views)
        except CacheUnavailable as error:
            _log.info("snapshots_not_written", why=error.detail, snapshots=len(views))

    async def _put(self, view: StatusView) -> None:
        key, value = _key(view.application_id), _encode(view)
        await self.cache.put(key, value, revision=view.revision, ttl_s=self.ttl_s)

    async def get(self, application_id: str) -> StatusView | None:
        """Return the snapshot, None when there is none or Valkey does not answer."""
        try:
            found = await self.cache.get(_key(application_id))
        except CacheUnavailable:
            return None
        return _decode(found) if found else None


@dataclass(frozen=True, kw_only=True)
class StatusReader:
    """Reads states: from the snapshot, else from the database, once for all who ask at the same moment."""

    reads: ReadDatabase
    snapshots: StatusSnapshots
    admission: Admission
    _loading: SingleFlight[tuple[str, int], StatusView] = field(default_factory=SingleFlight)

    async def __call__(
        self, *, client_id: str | None, application_id: str, known_revision: int = 0
    ) -> StatusView:
        """Return the status; another client's application is not found. A `client_id` of None sees all.

        A reader who knows of a revision is not given an older one, unless there is no newer. Raises Overloaded when
        there is no snapshot, and a connection to the database would have to be waited for.
        """
        view = await self.snapshots.get(application_id)
        if view is None or view.revision < known_revision:
            key = application_id, known_revision
            view = await self._loading(key, lambda: self._load(*key))
        if client_id is not None and view.client_id != client_id:
            raise ApplicationNotFound(f"there is no application {application_id}")
        return view

    async def _load(self, application_id: str, known_revision: int) -> StatusView:
        self.admission.admit(Work.DATABASE_READ)
        view = await self.reads.read(
            lambda conn: applications.status_of(conn, application_id),
            suffices=lambda found: found.revision >= known_revision,
        )
        await self.snapshots.try_to_put([view])
        return view


async def refresh_snapshots(
    conn: Connection, finalized: Sequence[DecisionFinalized], *, snapshots: StatusSnapshots
) -> None:
    """Bring the snapshots of decided applications up to date; runs after the decisions were committed.

    Raises CacheUnavailable, so that the events come again: a snapshot from before would outlive a lost write.
    """
    ids = sorted({event.application_id for event in finalized})
    await snapshots.put(await applications.statuses_of(conn, ids))


def _key(application_id: str) -> str:
    return f"credit:status:{application_id}"


def _encode(view: StatusView) -> bytes:
    return orjson.dumps(
        [view.application_id, view.client_id, view.status, view.latest_step, view.updated_at, view.revision]
    )


def _decode(found: bytes) -> StatusView | None:
    """Return the view; None for one that another version of this program wrote in its own form."""
    try:
        application_id, client_id, status, latest_step, updated_at, revision = orjson.loads(found)
        return StatusView(
            application_id=application_id,
            client_id=client_id,
            status=Status(status),
            latest_step=latest_step,
            updated_at=datetime.fromisoformat(updated_at),
            revision=revision,
        )
    except (ValueError, TypeError):
        _log.info("snapshot_not_understood", bytes=len(found))
        return None
