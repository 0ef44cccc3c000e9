"""Reads that may be a moment old: from a streaming replica while it keeps up, from the primary otherwise.

A replica is asked only while it is known to have replayed what the primary had written `2 * WATCH_S` before. So a
reader who got something older than that from elsewhere, such as a cache, does not go back in time. What must not be
missed at all, the caller says by `suffices`: what does not suffice is read from the primary.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import TypeVar

import psycopg
import structlog

from faregate.infra.database import Connection, Database, DatabaseUnavailable
from faregate.infra.queries import load_queries
from faregate.infra.telemetry.metrics import Metrics
from faregate.kernel.errors import NotFoundError

WATCH_S = 0.25
_FAILURES = (DatabaseUnavailable, psycopg.OperationalError, psycopg.InterfaceError)
_QUERIES = load_queries(__package__)
_log = structlog.get_logger(__name__)

Found = TypeVar("Found")


class ReadDatabase:
    """A primary, and the replica that it has or has not."""

    def __init__(self, *, primary: Database, replica: Database | None, metrics: Metrics) -> None:
        self._primary = primary
        self._replica = replica
        self._close_until = 0.0
        reads = metrics.counter("faregate_database_reads_total", "Reads by server", labels=("server",))
        self._from_primary, self._from_replica = reads.labels("primary"), reads.labels("replica")

    @property
    def is_replica_close(self) -> bool:
        """Whether the replica is asked at present."""
        return time.monotonic() < self._close_until

    async def read(
        self,
        query: Callable[[Connection], Awaitable[Found]],
        *,
        suffices: Callable[[Found], bool] = lambda _: True,
    ) -> Found:
        """Return what the query finds, on the primary if the replica has not got it or not new enough."""
        if self._replica is not None and self.is_replica_close:
            try:
                async with self._replica.connection() as conn:
                    found = await query(conn)
                if suffices(found):
                    self._from_replica.inc()
                    return found
            except NotFoundError:
                pass  # perhaps not yet
            except _FAILURES as error:
                self._lost(error)
        self._from_primary.inc()
        async with self._primary.connection() as conn:
            return await query(conn)

    @asynccontextmanager
    async def watched(self) -> AsyncIterator[None]:
        """Look after the replica for the length of the block, if there is one."""
        if self._replica is None:
            yield
            return
        task = asyncio.create_task(self._watch(self._replica), name="replica-watch")
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _watch(self, replica: Database) -> None:
        while True:
            try:
                written = await _position(self._primary, "primary_position")
                await asyncio.sleep(WATCH_S)
                replayed = await _position(replica, "replica_position")
            except _FAILURES as error:
                self._lost(error)
                await asyncio.sleep(WATCH_S)
                continue
            if written is not None and replayed is not None and replayed >= written:
                if not self.is_replica_close:
                    _log.info("replica_keeps_up")
                self._close_until = time.monotonic() + 2 * WATCH_S

    def _lost(self, error: Exception) -> None:
        if self.is_replica_close:
            _log.warning("replica_not_used", why=type(error).__name__)
        self._close_until = 0.0


async def _position(database: Database, query: str) -> int | None:
    async with database.connection() as conn:
        row = await (await conn.execute(_QUERIES[query])).fetchone()
    return row["position"] if row else None
