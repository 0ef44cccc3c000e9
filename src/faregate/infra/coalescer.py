"""Turns many concurrent requests into few set-based ones: what arrives while a batch is written forms the next.

An idle coalescer writes the first request at once, so that batching costs no latency when there is no load.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar, cast

from faregate.kernel.errors import UnavailableError

Item = TypeVar("Item")
Result = TypeVar("Result")

_NEWEST_WEIGHT = 0.3
"""Of the newest batch in the mean time that one takes."""
_GROWTH_MAX = 3.0
_BATCH_S_MIN = 0.1
"""A batch counts for at most this many times the mean, or this many seconds: one that stood still, as while the
database was lost, says nothing about the next. While it is under way, its age counts."""
STALL_S = 1.0
"""Of a batch's age this much does not count: when a disk stalls for a moment, the queue behind it is soon gone."""


class Coalescer(Generic[Item, Result]):
    """Calls `write` with up to `batch_max` items, from at most `writers_max` tasks at once, every `every_s` at most.

    A batch costs much the same whatever its size: one that began at once, under load, would be small.

    `write` returns one result an item, in order. A batch that fails is halved until the item at fault
    stands alone, so that it takes nobody with it; unavailability is reported to all without more tries.
    """

    def __init__(
        self,
        *,
        write: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        batch_max: int = 200,
        writers_max: int = 2,
        every_s: float = 0.0,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._write = write
        self._batch_max = batch_max
        self._writers_max = writers_max
        self._every_s = every_s
        self._next_at = 0.0  # when a batch that is not full may begin
        self._monotonic = monotonic
        self._waiting: deque[tuple[Item, asyncio.Future[Result]]] = deque()
        self._writers: set[asyncio.Task[None]] = set()
        self._begun: dict[asyncio.Task[None], float] = {}  # since when each writer writes its batch
        self._batch_s = 0.0

    async def submit(self, item: Item) -> Result:
        """Hand over one item and return its result, or raise what its write raised."""
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._waiting.append((item, answer))
        if len(self._writers) < self._writers_max:
            writer = asyncio.create_task(self._drain())
            self._writers.add(writer)
            writer.add_done_callback(self._writers.discard)
        return await answer

    def delay_s(self) -> float:
        """Return for how long an item that is handed over now would be under way; 0 when nothing else is.

        That is the batches before it and its own, as long as batches took lately, and at least as long as one that
        is being written takes already, but for the length of a stall.
        """
        if not self._begun and not self._waiting:
            return 0.0
        expected_s = self._batch_s * (1 + len(self._waiting) / (self._batch_max * self._writers_max))
        oldest = min(self._begun.values(), default=None)
        return expected_s if oldest is None else max(expected_s, self._monotonic() - oldest - STALL_S)

    async def close(self) -> None:
        """Wait until everything that was handed over has been written."""
        while self._writers:
            await asyncio.gather(*self._writers, return_exceptions=True)

    async def _drain(self) -> None:
        writer = cast("asyncio.Task[None]", asyncio.current_task())
        try:
            while self._waiting:
                now = self._monotonic()
                if now < self._next_at and len(self._waiting) < self._batch_max:
                    await asyncio.sleep(self._next_at - now)
                    continue
                self._next_at = now + self._every_s
                size = min(len(self._waiting), self._batch_max)
                self._begun[writer] = now
                await self._write_batch([self._waiting.popleft() for _ in range(size)])
        finally:
            # At once, not by a callback: what is handed over in between would wait for a writer that has ended.
            self._writers.discard(writer)
            self._begun.pop(writer, None)

    async def _write_batch(self, batch: list[tuple[Item, asyncio.Future[Result]]]) -> None:
        begun = self._monotonic()
        try:
            results = await self._write([item for item, _ in batch])
            took_s = min(self._monotonic() - begun, max(_GROWTH_MAX * self._batch_s, _BATCH_S_MIN))
            self._batch_s += _NEWEST_WEIGHT * (took_s - self._batch_s)
        except BaseException as error:  # noqa: BLE001 - whoever waits must hear of it, cancellation included
            await self._write_failed(batch, error)
            return
        for (_, answer), result in zip(batch, results, strict=True):
            if not answer.done():
                answer.set_result(result)

    async def _write_failed(
        self, batch: list[tuple[Item, asyncio.Future[Result]]], error: BaseException
    ) -> None:
        hopeless = len(batch) == 1 or not isinstance(error, Exception) or isinstance(error, UnavailableError)
        if not hopeless:
            middle = len(batch) // 2
            await self._write_batch(batch[:middle])
            await self._write_batch(batch[middle:])
            return
        for _, answer in batch:
            if not answer.done():
                answer.set_exception(
                    error if isinstance(error, Exception) else UnavailableError("shutting down")
                )
        if not isinstance(error, Exception):
            raise error
