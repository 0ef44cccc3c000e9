"""Time and randomness as the handlers get them, and the stamp that turns a published event into an appended one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

from faregate.events.base import PublishedEvent
from faregate.kernel.clock import Clock
from faregate.kernel.event import NewEvent
from faregate.kernel.ids import RANDOM_BYTES, prefixed_id, uuid7


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The clock and the source of random bytes."""

    clock: Clock
    random_bytes: Callable[[int], bytes]

    def new_id(self, prefix: str, *, now: datetime) -> str:
        """Return a new id that sorts by time, such as `mbr_01J…`."""
        return prefixed_id(prefix, now=now, random=self.random_bytes(RANDOM_BYTES))

    def stamp(self, event: PublishedEvent, *, now: datetime, traceparent: str | None = None) -> NewEvent:
        """Give a published event its id and time; `traceparent` continues a stored trace."""
        event_id = uuid7(now=now, random=self.random_bytes(RANDOM_BYTES))
        return event.to_event(id=event_id, time=now, traceparent=traceparent)
