"""Clients that read statuses during a fault run, and how available all of it was to them.

What an operation is and when it is available stands with `Operation` in `bench.partner`, which submits.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter

import aiohttp

from faregate.bench.partner import PATH, TRIES, TRY_TIMEOUT, Operation, Sent
from faregate.infra.witness import Outage


@dataclass(frozen=True, slots=True, kw_only=True)
class Availability:
    """Operations, and how many of them were not available: of all, and of those outside of every outage."""

    all: int
    all_failed: int
    outside: int
    outside_failed: int

    @property
    def percent(self) -> float:
        """The available share of all operations, in percent."""
        return 100 * (1 - self.all_failed / max(self.all, 1))

    @property
    def outside_percent(self) -> float:
        """The available share of those that no outage of PostgreSQL touched, in percent."""
        return 100 * (1 - self.outside_failed / max(self.outside, 1))


def availability(operations: Sequence[Operation], outages: Sequence[Outage]) -> Availability:
    """Return the availability; an operation belongs to an outage if they have an instant in common."""
    outside = outside_of(operations, outages)
    return Availability(
        all=len(operations),
        all_failed=sum(not op.is_available for op in operations),
        outside=len(outside),
        outside_failed=sum(not op.is_available for op in outside),
    )


def in_whole_seconds(outages: Sequence[Outage], *, begin: float) -> list[Outage]:
    """Return the seconds, counted from `begin`, in which there was an outage."""
    return [
        Outage(begin + math.floor(outage.begin - begin), begin + math.ceil(outage.end - begin))
        for outage in outages
    ]


def outside_of(operations: Sequence[Operation], outages: Sequence[Outage]) -> list[Operation]:
    """Return the operations that have no instant in common with an outage."""
    return [op for op in operations if not any(outage.overlaps(op.begin, op.end) for outage in outages)]


class Readers:
    """Reads the statuses of applications at a steady rate, over any of the API's addresses."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        urls: Sequence[str],
        token: str,
        on_operation: Callable[[Operation], None],
        applications: Callable[[], Sequence[str]],
        seed: int,
    ) -> None:
        self._session = session
        self._urls = urls
        self._headers = {"Authorization": f"Bearer {token}"}
        self._on_operation = on_operation
        self._applications = applications
        self._random = random.Random(seed)  # noqa: S311 - whose status is read, no secret

    async def run(self, *, rate_per_s: float, concurrency: int = 16) -> None:
        """Read until cancelled. Who is late catches up, so that a pause of the system costs no reads."""
        async with asyncio.TaskGroup() as group:
            for _ in range(concurrency):
                group.create_task(self._read_every(concurrency / rate_per_s))

    async def _read_every(self, period_s: float) -> None:
        due = perf_counter() + self._random.random() * period_s
        while True:
            await asyncio.sleep(max(0.0, due - perf_counter()))
            due += period_s
            if known := self._applications():
                await self._read(self._random.choice(known))

    async def _read(self, application_id: str) -> None:
        begin, first, sent = perf_counter(), self._random.randrange(len(self._urls)), Sent()
        for tries in range(TRIES):
            if tries:
                await asyncio.sleep(sent.pause_s)
            url = self._urls[(first + tries) % len(self._urls)]
            sent = await self._ask(f"{url}{PATH}/{application_id}")
            if sent.is_answered:
                break
        self._on_operation(
            Operation(kind="read", begin=begin, end=perf_counter(), is_available=sent.is_answered)
        )

    async def _ask(self, url: str) -> Sent:
        try:
            async with self._session.get(url, headers=self._headers, timeout=TRY_TIMEOUT) as answer:
                await answer.read()
                return Sent.of(answer)
        except (aiohttp.ClientError, TimeoutError):
            return Sent()
