"""Work that is done every now and then beside the rest: pruning, sweeping. What it is does not belong here."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

import structlog

_log = structlog.get_logger(__name__)


async def run_periodically(
    stop: asyncio.Event, *, name: str, every_s: float, work: Callable[[], Awaitable[None]]
) -> None:
    """Do the work every `every_s` seconds until `stop` is set; a failure is logged and tried again the next time."""
    while not stop.is_set():
        try:
            await work()
        except Exception:  # noqa: BLE001 - a loop at the edge outlives an outage of the database
            _log.warning("periodic_work_failed", work=name, exc_info=True)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), every_s)
