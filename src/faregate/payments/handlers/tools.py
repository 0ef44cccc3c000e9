"""Time and randomness as the handlers get them, and the stamp that turns a published event into an appended one."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta

from faregate.events.base import PublishedEvent
from faregate.kernel.clock import Clock
from faregate.kernel.event import NewEvent
from faregate.kernel.ids import RANDOM_BYTES, prefixed_id, uuid7

EXPIRES_AFTER = timedelta(days=7)
"""How long an authorisation waits for its capture."""
_DIGITS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_ID_LENGTH = 26


@dataclass(frozen=True, kw_only=True)
class Tools:
    """The clock and the source of random bytes."""

    clock: Clock
    random_bytes: Callable[[int], bytes]

    def new_id(self, prefix: str, *, now: datetime) -> str:
        """Return a new id that sorts by time, such as `crd_01J…`."""
        return prefixed_id(prefix, now=now, random=self.random_bytes(RANDOM_BYTES))

    def stamp(self, event: PublishedEvent, *, now: datetime, traceparent: str | None = None) -> NewEvent:
        """Give a published event its id and time; `traceparent` continues a stored trace."""
        event_id = uuid7(now=now, random=self.random_bytes(RANDOM_BYTES))
        return event.to_event(id=event_id, time=now, traceparent=traceparent)


def payment_id_of(client_id: str, key: str) -> str:
    """Return the id of the payment of a client's key: sent again after a crash, it is the same to the scorer."""
    number = int.from_bytes(hashlib.sha256(f"faregate/payment/1\n{client_id}\n{key}".encode()).digest()[:16])
    return "pay_" + "".join(_DIGITS[number >> 5 * place & 31] for place in reversed(range(_ID_LENGTH)))
