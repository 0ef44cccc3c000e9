"""Seals rows: numbers what was committed, in batches, and links it to the chain.

Writers know nothing of it and wait for nothing. One sealer works at a time, others stand by.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

from faregate.infra.chain.links import Head, sealed
from faregate.infra.chain.store import ChainStore, Lease, Unsealed
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.cursor import MISSING_MAX, Cursor, Scan
from faregate.infra.eventlog.leadership import LeadershipLost, Progress, lead_in_turn, pause
from faregate.kernel.clock import Clock

PAUSE_S = 0.25
"""Between two batches that were not full. An entry waits about this long before it is sealed."""


class Sealer:
    """Links committed rows to the chain while it holds the lease.

    `holder` names this instance uniquely among all. After a crash of the holder another takes over within `lease_s`; a
    holder that wakes up later is shut out by the fence.
    """

    def __init__(
        self,
        *,
        store: ChainStore,
        database: Database,
        clock: Clock,
        holder: str,
        lease_s: float = 10.0,
        batch_max: int = 1_000,
    ) -> None:
        self._store = store
        self._database = database
        self._clock = clock
        self._holder = holder
        self._lease_s = lease_s
        self._batch_max = batch_max

    async def run(self, stop: asyncio.Event) -> None:
        """Seal, or stand by, until `stop` is set. Outages of the database are waited out."""
        await lead_in_turn(
            stop,
            name=self._store.name,
            holder=self._holder,
            lease_s=self._lease_s,
            database=self._database,
            acquire=self.acquire,
            lead=self._lead,
        )

    async def _lead(self, conn: Connection, lease: Lease, stop: asyncio.Event, progressed: Progress) -> None:
        sealing = Sealing(store=self._store, lease=lease, clock=self._clock, batch_max=self._batch_max)
        renew_at = time.monotonic() + self._lease_s / 3
        while not stop.is_set():
            is_all = await sealing.next_batch(conn)
            progressed()
            if is_all:
                await pause(stop, PAUSE_S)
            if time.monotonic() >= renew_at:
                if not await self._store.renew_lease(conn, fence=lease.fence, lease_s=self._lease_s):
                    raise LeadershipLost(f"fence {lease.fence} is no longer valid")
                renew_at = time.monotonic() + self._lease_s / 3
        await self._store.release_lease(conn, fence=lease.fence)

    async def acquire(self, conn: Connection) -> Lease | None:
        """Take the lease; None while another holds it."""
        return await self._store.acquire_lease(conn, holder=self._holder, lease_s=self._lease_s)


class Sealing:
    """One stay as the sealer. Numbers commit out of order: the cursor keeps those that may still come.

    Until the cursor is warm, a stay passes over everything after what is settled, batch by batch.
    """

    def __init__(self, *, store: ChainStore, lease: Lease, clock: Clock, batch_max: int) -> None:
        self._store = store
        self._fence = lease.fence
        self._settled = lease.settled_ord
        self._clock = clock
        self._batch_max = batch_max
        self._cursor = Cursor()
        self._pass = _Pass(after=self._settled)

    async def next_batch(self, conn: Connection) -> bool:
        """Seal a batch and tell whether that was all there is. Raises LeadershipLost without the fence."""
        settled = self._settled_by(self._cursor)
        if settled == self._settled and await self._has_seen_all(conn):
            return True
        async with conn.transaction():
            found = await self._store.unsealed_rows(
                conn,
                after=self._cursor.after if self._cursor.warm else self._pass.after,
                missing=sorted(self._cursor.missing),
                limit=self._batch_max,
            )
            if found.rows or settled > self._settled:
                await self._append(conn, found, settled=settled)
        self._settled = settled
        is_complete = len(found.rows) < self._batch_max
        if self._cursor.warm:
            self._go_to(self._cursor.advanced(_scan(found, is_complete=is_complete)))
        else:
            await self._go_on_passing(conn, found, is_complete=is_complete)
        return is_complete

    async def _has_seen_all(self, conn: Connection) -> bool:
        """Tell whether no number was drawn that this stay has not settled: an idle look costs one statement."""
        cursor = self._cursor
        return cursor.warm and not cursor.missing and await self._store.last_ord(conn) <= cursor.after

    async def _append(self, conn: Connection, found: Unsealed, *, settled: int) -> None:
        recorded = await self._store.lock_head(conn, fence=self._fence)
        if recorded is None:
            raise LeadershipLost(f"fence {self._fence} is no longer valid")
        now, apart = self._clock.now(), self._store.apart
        if recorded.sealed_at is not None:
            now = max(now, recorded.sealed_at + apart)
        links = sealed(found.rows, after=recorded.head, sealed_at=now, apart=apart)
        head = Head(seq=links[-1].seq, sha256=links[-1].sha256) if links else recorded.head
        await self._store.append_links(conn, links, fence=self._fence, head=head, settled_ord=settled)

    async def _go_on_passing(self, conn: Connection, found: Unsealed, *, is_complete: bool) -> None:
        """Go on after a batch; at the end of a pass, remember the few numbers without a link, and be warm."""
        began = self._pass.xmin if self._pass.xmin is not None else found.xmin
        if not is_complete:
            self._pass = _Pass(after=found.rows[-1].ord, xmin=began)
            return
        top = await self._store.last_ord(conn)
        missing = await self._store.numbers_without_link(
            conn, after=self._settled, upto=top, limit=MISSING_MAX + 1
        )
        if len(missing) <= MISSING_MAX:
            self._go_to(Cursor(after=top, missing=frozenset(missing), warm=True))
        else:  # so many were rolled back: wait until all that could still bring one have ended
            passed = Scan(ords=(), complete=True, top=found.top, xmin=began, xmax=found.xmax)
            self._go_to(self._cursor.advanced(passed))

    def _go_to(self, cursor: Cursor) -> None:
        self._cursor = cursor
        self._pass = _Pass(after=max(self._settled, cursor.after))

    def _settled_by(self, cursor: Cursor) -> int:
        """Return the number up to which nothing can come any more that is not sealed."""
        if not cursor.warm:
            return self._settled
        return max(self._settled, min(cursor.missing) - 1 if cursor.missing else cursor.after)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pass:
    """How far a pass has come, and the oldest transaction that ran when it began."""

    after: int
    xmin: int | None = None


def _scan(found: Unsealed, *, is_complete: bool) -> Scan:
    ords = [row.ord for row in found.rows]
    return Scan(ords=ords, complete=is_complete, top=found.top, xmin=found.xmin, xmax=found.xmax)
