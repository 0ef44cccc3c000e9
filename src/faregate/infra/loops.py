"""Keeps the endless loops of one process running beside each other. What a loop does does not belong here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress

import structlog

from faregate.infra.readiness import NotReady

_log = structlog.get_logger(__name__)

REST_S_MIN = 0.5
REST_S_MAX = 5.0
DRAIN_S_MAX = 8.0
"""Whoever stops us ends us by force after ten seconds or more: what is cut off before that can still be given back."""

Loop = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set; may be run again after it failed."""


class LoopsResting(NotReady):
    """Loops of this process failed and have not been started again yet."""


class LoopKeeper:
    """Runs every loop until told to stop; one that fails is started again and leaves the others alone."""

    def __init__(
        self,
        loops: Mapping[str, Loop],
        *,
        rest_s_min: float = REST_S_MIN,
        rest_s_max: float = REST_S_MAX,
        drain_s_max: float = DRAIN_S_MAX,
    ) -> None:
        """Before the n-th new start of a loop in a row it rests `rest_s_min * 2**(n-1)`, at most `rest_s_max`.

        One that goes on for longer than `drain_s_max` after it was told to stop is cancelled.
        """
        self._loops = loops
        self._drain_s_max = drain_s_max
        self._rest_s_min = rest_s_min
        self._rest_s_max = rest_s_max
        self._resting: set[str] = set()

    async def run(self, stop: asyncio.Event) -> None:
        """Run all loops until `stop` is set and each has ended, in order or by force."""
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(self._keep(name, stop), name=name) for name in self._loops]
            await stop.wait()
            _, late = await asyncio.wait(tasks, timeout=self._drain_s_max) if tasks else ((), ())
            for task in late:
                _log.warning("loop_cut_off", loop=task.get_name(), after_s=self._drain_s_max)
                task.cancel()

    async def check(self) -> None:
        """Raise LoopsResting if a loop failed and rests."""
        if self._resting:
            raise LoopsResting(f"resting after a failure: {', '.join(sorted(self._resting))}")

    async def _keep(self, name: str, stop: asyncio.Event) -> None:
        rest_s = self._rest_s_min
        while not stop.is_set():
            started_at = time.monotonic()
            failure = await self._failure_of(name, stop)
            if time.monotonic() - started_at > self._rest_s_max:
                rest_s = self._rest_s_min
            if failure or not stop.is_set():
                _log.error("loop_failed", loop=name, start_again_in_s=rest_s, exc_info=failure)
            await self._rest(name, stop, rest_s)
            rest_s = min(rest_s * 2, self._rest_s_max)

    async def _failure_of(self, name: str, stop: asyncio.Event) -> BaseException | None:
        """Run the loop; what ended it, or None. A cancellation that nobody asked of us is a failure too."""
        try:
            await self._loops[name](stop)
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return error
        except Exception as error:  # noqa: BLE001 - the edge: whatever a loop raised, it is run again
            return error
        return None

    async def _rest(self, name: str, stop: asyncio.Event, rest_s: float) -> None:
        self._resting.add(name)
        with suppress(TimeoutError):
            await asyncio.wait_for(stop.wait(), rest_s)
        self._resting.discard(name)
