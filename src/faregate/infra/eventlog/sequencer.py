"""Gives every committed event its place in the log. One sequencer works at a time, others stand by."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.cursor import Cursor, Scan
from faregate.infra.eventlog.outage import OUTAGES, Backoff
from faregate.infra.queries import load_queries

_log = structlog.get_logger(__name__)
_QUERIES = load_queries(__package__)

PAUSE_S = 0.005
"""Least time between two batches that were not full: a few events share one batch and one notification."""

WAIT_S = 0.5
"""How long the server looks for new rows before it answers that there are none."""


class SequencerLeaseLost(Exception):
    """Another sequencer took the lease: nothing was written, and nothing can be until it is ours again."""


class Sequencer:
    """Moves committed rows from the outbox into the log while it holds the lease.

    `holder` names this instance uniquely among all; `database` acts as `faregate_eventlog`. After a crash of
    the holder another takes over within `lease_s`; a holder that wakes up later is shut out by the fence.
    """

    def __init__(
        self,
        *,
        database: Database,
        holder: str,
        lease_s: float = 3.0,
        batch_max: int = 2_000,
        pause_s: float = PAUSE_S,
    ) -> None:
        self._database = database
        self._holder = holder
        self._lease_s = lease_s
        self._batch_max = batch_max
        self._pause_s = pause_s

    async def run(self, stop: asyncio.Event) -> None:
        """Sequence, or stand by, until `stop` is set. Outages of the database are waited out."""
        backoff = Backoff()
        while not stop.is_set():
            try:
                async with await self._database.connect() as conn:
                    await self._work(conn, stop, backoff)
            except OUTAGES as error:
                pause_s = backoff.next_s()
                _log.warning("eventlog.sequencer_disconnected", error=str(error), retry_s=pause_s)
                await _pause(stop, pause_s)

    async def _work(self, conn: Connection, stop: asyncio.Event, backoff: Backoff) -> None:
        while not stop.is_set():
            fence = await self.acquire(conn)
            backoff.reset()
            if fence is None:
                await _pause(stop, self._lease_s / 4)
                continue
            _log.info("eventlog.sequencer_leading", holder=self._holder, fence=fence)
            try:
                await self._lead(conn, fence, stop)
            except SequencerLeaseLost:
                _log.warning("eventlog.sequencer_lease_lost", holder=self._holder, fence=fence)

    async def _lead(self, conn: Connection, fence: int, stop: asyncio.Event) -> None:
        cursor, pause_s, renew_at = Cursor(), 0.0, time.monotonic() + self._lease_s / 3
        while not stop.is_set():
            scan = await self.sequence(conn, fence=fence, cursor=cursor, pause_s=pause_s)
            cursor = cursor.advanced(scan)
            pause_s = self._pause_s if scan.complete else 0.0
            if time.monotonic() >= renew_at:
                await self._renew(conn, fence)
                renew_at = time.monotonic() + self._lease_s / 3
        await conn.execute(_QUERIES["release_lease"], {"fence": fence})

    async def acquire(self, conn: Connection) -> int | None:
        """Take the lease and return its fence; None while another holds it."""
        given = {"holder": self._holder, "lease_s": self._lease_s}
        row = await (await conn.execute(_QUERIES["acquire_lease"], given)).fetchone()
        return int(row["fence"]) if row else None

    async def sequence(self, conn: Connection, *, fence: int, cursor: Cursor, pause_s: float) -> Scan:
        """Wait a moment for committed events and move a batch; without the fence, SequencerLeaseLost."""
        given = {
            "fence": fence,
            "after": cursor.after,
            "missing": list(cursor.missing),
            "limit": self._batch_max,
            "pause_s": pause_s,
            "wait_s": min(WAIT_S, self._lease_s / 4),
        }
        row: Any = await (await conn.execute(_QUERIES["sequence"], given)).fetchone()
        if not row["held"]:
            raise SequencerLeaseLost(f"fence {fence} is no longer valid")
        repeated = len(row["ords"]) - row["written"]
        if repeated:
            _log.warning("eventlog.repeated_events_dropped", count=repeated)
        return Scan(
            ords=row["ords"],
            complete=len(row["ords"]) < self._batch_max,
            top=row["top"],
            xmin=int(row["xmin"]),
            xmax=int(row["xmax"]),
        )

    async def _renew(self, conn: Connection, fence: int) -> None:
        given = {"fence": fence, "lease_s": self._lease_s}
        if await (await conn.execute(_QUERIES["renew_lease"], given)).fetchone() is None:
            raise SequencerLeaseLost(f"fence {fence} is no longer valid")


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not past `stop`."""
    try:
        await asyncio.wait_for(stop.wait(), seconds)
    except TimeoutError:
        return
