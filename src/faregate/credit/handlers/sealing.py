"""Seals audit entries and decisions: numbers what was committed, in batches, and links it to the audit chain.

Writers know nothing of it and wait for nothing. One sealer works at a time, others stand by.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import suppress
from dataclasses import replace

import structlog

from faregate.credit.domain.audit_chain import Head, sealed
from faregate.credit.store.audit import chain
from faregate.credit.store.audit.chain import Lease, Unsealed
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.cursor import Cursor, Scan
from faregate.infra.eventlog.outage import OUTAGES, Backoff
from faregate.kernel.clock import Clock

_log = structlog.get_logger(__name__)
PAUSE_S = 0.25
"""Between two batches that were not full. An entry waits about this long before it is sealed."""


class SealerLeaseLost(Exception):
    """Another sealer took the lease: nothing was written, and nothing can be until it is ours again."""


class Sealer:
    """Links committed rows to the chain while it holds the lease.

    `holder` names this instance uniquely among all. After a crash of the holder another takes over within `lease_s`; a
    holder that wakes up later is shut out by the fence.
    """

    def __init__(
        self, *, database: Database, clock: Clock, holder: str, lease_s: float = 10.0, batch_max: int = 1_000
    ) -> None:
        self._database = database
        self._clock = clock
        self._holder = holder
        self._lease_s = lease_s
        self._batch_max = batch_max

    async def run(self, stop: asyncio.Event) -> None:
        """Seal, or stand by, until `stop` is set. Outages of the database are waited out."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                async with await self._database.connect() as conn:
                    await self._work(conn, stop, backoff)
            except OUTAGES as error:
                pause_s = backoff.next_s()
                _log.warning("audit.sealer_disconnected", error=str(error), retry_s=pause_s)
                await _pause(stop, pause_s)

    async def _work(self, conn: Connection, stop: asyncio.Event, backoff: Backoff) -> None:
        while not stop.is_set():
            lease = await self.acquire(conn)
            backoff.reset()
            if lease is None:
                await _pause(stop, self._lease_s / 4)
                continue
            try:
                await self._lead(conn, lease, stop)
            except SealerLeaseLost:
                _log.warning("audit.sealer_lease_lost", holder=self._holder, fence=lease.fence)

    async def _lead(self, conn: Connection, lease: Lease, stop: asyncio.Event) -> None:
        _log.info("audit.sealer_leading", holder=self._holder, fence=lease.fence)
        sealing = Sealing(lease=lease, clock=self._clock, batch_max=self._batch_max)
        renew_at = time.monotonic() + self._lease_s / 3
        while not stop.is_set():
            if await sealing.next_batch(conn):
                await _pause(stop, PAUSE_S)
            if time.monotonic() >= renew_at:
                if not await chain.renew_lease(conn, fence=lease.fence, lease_s=self._lease_s):
                    raise SealerLeaseLost(f"fence {lease.fence} is no longer valid")
                renew_at = time.monotonic() + self._lease_s / 3
        await chain.release_lease(conn, fence=lease.fence)

    async def acquire(self, conn: Connection) -> Lease | None:
        """Take the lease; None while another holds it."""
        return await chain.acquire_lease(conn, holder=self._holder, lease_s=self._lease_s)


class Sealing:
    """One stay as the sealer. Numbers commit out of order: the cursor keeps those that may still come."""

    def __init__(self, *, lease: Lease, clock: Clock, batch_max: int) -> None:
        self._fence = lease.fence
        self._settled = lease.settled_ord
        self._cursor = Cursor(after=lease.settled_ord)
        self._clock = clock
        self._batch_max = batch_max

    async def next_batch(self, conn: Connection) -> bool:
        """Seal a batch and tell whether that was all there is. Raises SealerLeaseLost without the fence."""
        async with conn.transaction():
            found = await chain.unsealed_rows(
                conn,
                after=self._cursor.after,
                missing=sorted(self._cursor.missing),
                limit=self._batch_max,
            )
            settled = self._settled_by(self._cursor)
            if found.rows or settled > self._settled:
                await self._append(conn, found, settled=settled)
        self._settled = settled
        scan = self._scan(found)
        self._cursor = self._never_behind(self._cursor.advanced(scan))
        return scan.complete

    async def _append(self, conn: Connection, found: Unsealed, *, settled: int) -> None:
        recorded = await chain.lock_head(conn, fence=self._fence)
        if recorded is None:
            raise SealerLeaseLost(f"fence {self._fence} is no longer valid")
        now = self._clock.now()
        links = sealed(found.rows, after=recorded.head, sealed_at=now)
        head = Head(seq=links[-1].seq, sha256=links[-1].sha256) if links else recorded.head
        await chain.append_links(
            conn, links, fence=self._fence, head=head, settled_ord=settled, sealed_at=now
        )

    def _settled_by(self, cursor: Cursor) -> int:
        """Return the number up to which nothing can come any more that is not sealed."""
        if not cursor.warm:
            return self._settled
        return max(self._settled, min(cursor.missing) - 1 if cursor.missing else cursor.after)

    def _scan(self, found: Unsealed) -> Scan:
        return Scan(
            ords=[row.ord for row in found.rows],
            complete=len(found.rows) < self._batch_max,
            top=found.top,
            xmin=found.xmin,
            xmax=found.xmax,
        )

    def _never_behind(self, cursor: Cursor) -> Cursor:
        """A cursor that gave up its memory begins again, but not before what is settled."""
        return cursor if cursor.after >= self._settled else replace(cursor, after=self._settled)


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not past `stop`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
