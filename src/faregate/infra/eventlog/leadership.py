"""Lets one of several like loops do the work while the others stand by: who holds the lease of the database leads."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar

import structlog

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.outage import OUTAGES, Backoff

_log = structlog.get_logger(__name__)

Lease = TypeVar("Lease")
Progress = Callable[[], None]
"""Tells that the work went on: what fails next fails for the first time."""


class LeadershipLost(Exception):
    """Another holder took the lease: nothing was written, and nothing can be until it is ours again."""


async def lead_in_turn(
    stop: asyncio.Event,
    *,
    name: str,
    holder: str,
    lease_s: float,
    database: Database,
    acquire: Callable[[Connection], Awaitable[Lease | None]],
    lead: Callable[[Connection, Lease, asyncio.Event, Progress], Awaitable[None]],
) -> None:
    """Lead, or stand by, until `stop` is set. Outages of the database, and of what `lead` needs, are waited out.

    `acquire` returns the lease, or None while another holds it; `lead` works until `stop` is set, renews the lease
    meanwhile, tells its progress, and raises LeadershipLost when it was taken. Pauses grow with the failures since the
    last progress: the lease is there to be had while what the work needs is away. `name` stands in the logs, `holder`
    is this loop's own name.
    """
    backoff = Backoff()
    while not stop.is_set():
        try:
            async with await database.connect() as conn:
                while not stop.is_set():
                    lease = await acquire(conn)
                    if lease is None:
                        await pause(stop, lease_s / 4)
                        continue
                    _log.info(f"{name}_leading", holder=holder)
                    try:
                        await lead(conn, lease, stop, backoff.reset)
                    except LeadershipLost as error:
                        pause_s = backoff.next_s()
                        _log.warning(f"{name}_lease_lost", holder=holder, error=str(error), retry_s=pause_s)
                        await pause(stop, pause_s)
        except OUTAGES as error:
            pause_s = backoff.next_s()
            _log.warning(f"{name}_disconnected", error=str(error), retry_s=pause_s)
            await pause(stop, pause_s)


async def pause(stop: asyncio.Event, seconds: float) -> None:
    """Wait, but not past `stop`."""
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
