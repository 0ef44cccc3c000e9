"""Tells an outage, of the database or of what a handler needs, from a fault of the work, and how long to wait."""

from __future__ import annotations

import psycopg

from faregate.kernel.errors import UnavailableError

OUTAGES = (
    psycopg.OperationalError,
    psycopg.InterfaceError,
    psycopg.errors.IdleInTransactionSessionTimeout,  # to the driver an "internal error"
    UnavailableError,
)
"""What driver, pool and cache raise when their server goes away (the driver, for other reasons, too)."""

_LOST_STATES = ("08", "53", "57P", "25P03")
"""SQL states of a lost connection, a full server, a server that stops or starts, a session cut off while idle."""


def is_outage(error: BaseException) -> bool:
    """Whether a server or the connection to it went away, so that the same work may succeed later unchanged."""
    if not isinstance(error, OUTAGES):
        return False
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return state is None or state.startswith(_LOST_STATES)


class Backoff:
    """Doubling pauses with an upper bound: 0.1 s, 0.2 s, … `max_s`."""

    def __init__(self, *, first_s: float = 0.1, max_s: float = 5.0) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._attempt = 0

    def next_s(self) -> float:
        """Count one failure and return how long to wait after it, in seconds."""
        pause_s = pause_after(self._attempt, first_s=self._first_s, max_s=self._max_s)
        self._attempt += 1
        return pause_s

    def reset(self) -> None:
        """Begin again with the shortest pause, after a success."""
        self._attempt = 0


def pause_after(failures: int, *, first_s: float, max_s: float) -> float:
    """Return the pause in seconds after that many earlier failures."""
    return float(min(max_s, first_s * 2 ** min(failures, 30)))
