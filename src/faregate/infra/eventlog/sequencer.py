"""Gives every committed event its place in the log. One sequencer works at a time, others stand by."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.cursor import Cursor, Scan
from faregate.infra.eventlog.leadership import LeadershipLost, Progress, lead_in_turn
from faregate.infra.queries import load_queries

_log = structlog.get_logger(__name__)
_QUERIES = load_queries(__package__)

PAUSE_S = 0.005
"""Least time between two batches that were not full: a few events share one batch and one notification."""

WAIT_S = 0.5
"""How long the server looks for new rows before it answers that there are none."""


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
        await lead_in_turn(
            stop,
            name="eventlog.sequencer",
            holder=self._holder,
            lease_s=self._lease_s,
            database=self._database,
            acquire=self.acquire,
            lead=self._lead,
        )

    async def _lead(self, conn: Connection, fence: int, stop: asyncio.Event, progressed: Progress) -> None:
        cursor, pause_s, renew_at = Cursor(), 0.0, time.monotonic() + self._lease_s / 3
        while not stop.is_set():
            scan = await self.sequence(conn, fence=fence, cursor=cursor, pause_s=pause_s)
            progressed()
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
        """Wait a moment for committed events and move a batch; without the fence, LeadershipLost."""
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
            raise LeadershipLost(f"fence {fence} is no longer valid")
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
            raise LeadershipLost(f"fence {fence} is no longer valid")
