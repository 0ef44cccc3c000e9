"""Time and randomness as the handlers get them, and the stamp that turns a published event into an appended one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass, replace
from typing import TypeVar

from faregate.events.base import PublishedEvent
from faregate.kernel.clock import Clock
from faregate.kernel.event import NewEvent
from faregate.kernel.ids import RANDOM_BYTES, prefixed_id, uuid7

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The clock and the source of random bytes."""

    clock: Clock
    random_bytes: Callable[[int], bytes]

    def new_id(self, prefix: str) -> str:
        """Return a new id that sorts by time, such as `app_01J…`."""
        return prefixed_id(prefix, now=self.clock.now(), random=self.random_bytes(RANDOM_BYTES))

    def stamp(self, event: PublishedEvent, *, traceparent: str | None = None) -> NewEvent:
        """Give a published event its id and time; `traceparent` continues a stored trace."""
        now = self.clock.now()
        stamped = event.to_event(id=uuid7(now=now, random=self.random_bytes(RANDOM_BYTES)), time=now)
        return replace(stamped, traceparent=traceparent) if traceparent else stamped


async def giving_way(items: Iterable[Item], *, burst: int = 20) -> AsyncIterator[Item]:
    """Yield items, and let the process's other work go on after each few: whatever is done with each takes its time."""
    for number, item in enumerate(items, 1):
        yield item
        if number % burst == 0:
            await asyncio.sleep(0)
