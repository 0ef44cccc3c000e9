"""A loop that asks for work: at once when woken, soon while there is some, a little later when there is none.

What the work is does not belong here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass

import structlog

_log = structlog.get_logger(__name__)
_SLOWER = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Intervals:
    """Seconds until the next look for work: after some was found, at most when none is, after a failure."""

    busy_s: float = 0.02
    idle_s: float = 0.05
    error_s: float = 0.5


class Poller:
    """Calls `work`, which returns how much it found, again and again until told to stop."""

    def __init__(self, *, name: str, work: Callable[[], Awaitable[int]], intervals: Intervals) -> None:
        self._name = name
        self._work = work
        self._intervals = intervals
        self._wake = asyncio.Event()

    def wake(self) -> None:
        """Look for work now instead of at the next poll."""
        self._wake.set()

    async def run(self, stop: asyncio.Event) -> None:
        """Work until `stop` is set; a failure is logged and tried again after a while."""
        waking = asyncio.create_task(self._wake_at(stop))
        pause_s = self._intervals.busy_s
        while not stop.is_set():
            pause_s = self._next_pause_s(pause_s, await self._try())
            with suppress(TimeoutError):
                await asyncio.wait_for(self._wake.wait(), pause_s)
            self._wake.clear()
        waking.cancel()

    async def _wake_at(self, stop: asyncio.Event) -> None:
        await stop.wait()
        self._wake.set()

    async def _try(self) -> int | None:
        try:
            return await self._work()
        except Exception:  # noqa: BLE001 - a loop at the edge outlives its database and its owner's faults
            _log.exception("gateway.work_failed", work=self._name)
            return None

    def _next_pause_s(self, pause_s: float, found: int | None) -> float:
        if found is None:
            return self._intervals.error_s
        return self._intervals.busy_s if found else min(pause_s * _SLOWER, self._intervals.idle_s)
