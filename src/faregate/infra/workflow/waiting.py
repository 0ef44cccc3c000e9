"""The runs of this process that wait, for a signal or for an instant, without a thread or a connection each.

One task looks for all of them: when a notification names a run, when a deadline has passed, and every now and then
in case a notification was lost. Recording what a wait returned does not belong here.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import psycopg

from faregate.infra.database import Database, DatabaseUnavailable
from faregate.infra.queries import load_queries
from faregate.infra.workflow.loops import keep_doing, stop
from faregate.kernel.clock import Clock

_QUERIES = load_queries(__package__)

CHANNEL = "faregate_signal"
LOOK_AGAIN_S = 2.0  # a lost notification costs at most this
FORGET_AT_LEAST = 1000  # deadlines of answered waits are removed in bulk
CLOCK_CHECK_S = 0.5  # a clock that is set forward is noticed after at most this


@dataclass(frozen=True, slots=True)
class Received:
    """A signal that has come."""

    signal_id: str
    payload: Any


@dataclass(eq=False, slots=True)
class _Waiter:
    run_id: str
    name: str | None
    seen: frozenset[str]
    answer: asyncio.Future[Received | None] = field(repr=False)
    is_due: bool = False


class WaitingRoom:
    """Answers waits. Open it on the loop whose runs wait in it."""

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._waiters: dict[str, set[_Waiter]] = {}
        self._deadlines: list[tuple[datetime, int, _Waiter]] = []
        self._answered = 0  # entries of `_deadlines` that nobody waits for any more, roughly
        self._order = itertools.count()
        self._to_look_for: set[str] = set()
        self._woken = asyncio.Event()
        self._look_again_at = 0.0
        self._tasks: list[asyncio.Task[None]] = []

    def open(self) -> None:
        """Begin to look and to listen."""
        self._tasks = [
            asyncio.create_task(keep_doing("looking for signals", self._look)),
            asyncio.create_task(keep_doing("listening for signals", self._listen)),
        ]

    async def close(self) -> None:
        """Stop; whoever still waits is left for its own task to be cancelled."""
        await stop(self._tasks)

    async def signal(
        self, *, run_id: str, name: str, seen: frozenset[str], deadline: datetime
    ) -> Received | None:
        """The oldest signal of that name whose id is not in `seen`, or None after the deadline."""
        return await self._wait(run_id, name, seen, deadline)

    async def until(self, *, run_id: str, instant: datetime) -> None:
        """Return once the clock has reached the instant."""
        await self._wait(run_id, None, frozenset(), instant)

    async def _wait(
        self, run_id: str, name: str | None, seen: frozenset[str], deadline: datetime
    ) -> Received | None:
        waiter = _Waiter(run_id, name, seen, asyncio.get_running_loop().create_future())
        heapq.heappush(self._deadlines, (deadline, next(self._order), waiter))
        if name is not None:
            self._waiters.setdefault(run_id, set()).add(waiter)
            self._to_look_for.add(run_id)
        self._woken.set()
        try:
            return await waiter.answer
        finally:
            self._forget(waiter)

    def _forget(self, waiter: _Waiter) -> None:
        waiters = self._waiters.get(waiter.run_id, set())
        waiters.discard(waiter)
        if not waiters:
            self._waiters.pop(waiter.run_id, None)
        self._answered += not waiter.is_due
        if self._answered > FORGET_AT_LEAST and self._answered > len(self._deadlines) / 2:
            self._deadlines = [entry for entry in self._deadlines if not entry[2].answer.done()]
            heapq.heapify(self._deadlines)
            self._answered = 0

    async def _look(self) -> None:
        loop = asyncio.get_running_loop()
        with suppress(TimeoutError):
            async with asyncio.timeout(self._time_to_next()):
                await self._woken.wait()
        self._woken.clear()
        self._mark_due()
        if loop.time() >= self._look_again_at:
            self._to_look_for.update(self._waiters)
            self._look_again_at = loop.time() + LOOK_AGAIN_S
        await self._look_for(self._to_look_for & self._waiters.keys())

    def _time_to_next(self) -> float:
        if not self._deadlines:
            return CLOCK_CHECK_S
        left = (self._deadlines[0][0] - self._clock.now()).total_seconds()
        return min(CLOCK_CHECK_S, max(0.0, left))

    def _mark_due(self) -> None:
        """Answer sleepers; a deadline for a signal gets one last look, so that a signal that is there wins."""
        now = self._clock.now()
        while self._deadlines and self._deadlines[0][0] <= now:
            waiter = heapq.heappop(self._deadlines)[2]
            waiter.is_due = True
            if waiter.answer.done():
                continue
            if waiter.name is None:
                waiter.answer.set_result(None)
            else:
                self._to_look_for.add(waiter.run_id)

    async def _look_for(self, runs: set[str]) -> None:
        self._to_look_for.clear()
        if not runs:
            return
        due = [waiter for run in runs for waiter in self._waiters.get(run, ()) if waiter.is_due]
        try:
            found = await self._signals_of(runs)
        except (psycopg.Error, DatabaseUnavailable):
            self._to_look_for.update(runs)
            self._woken.set()
            raise
        for row in found:
            self._deliver(row["run_id"], row["name"], Received(row["signal_id"], row["payload"]))
        for waiter in due:
            if not waiter.answer.done():
                waiter.answer.set_result(None)

    async def _signals_of(self, runs: Iterable[str]) -> list[dict[str, Any]]:
        async with self._database.connection() as conn:
            cursor = await conn.execute(_QUERIES["signals_of"], {"runs": list(runs)})
            return await cursor.fetchall()

    def _deliver(self, run_id: str, name: str, received: Received) -> None:
        for waiter in self._waiters.get(run_id, ()):
            if waiter.name == name and received.signal_id not in waiter.seen and not waiter.answer.done():
                waiter.answer.set_result(received)
                return

    async def _listen(self) -> None:
        async with await self._database.connect() as conn:
            await conn.execute(f"listen {CHANNEL}")
            self._to_look_for.update(self._waiters)
            self._woken.set()
            async for notification in conn.notifies():
                named = self._waiters.keys() & notification.payload.split(",")
                if named:
                    self._to_look_for.update(named)
                    self._woken.set()
