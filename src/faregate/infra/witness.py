"""A witness of PostgreSQL's outages that shares nothing with the parts under test but the server's address.

It asks `select 1` on a connection of its own, in a thread of its own. PostgreSQL counts as *down* from the last
answer before a failure until the first answer after it. A slow answer is an answer.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter
from types import TracebackType
from typing import Self

import psycopg

EVERY_S = 0.05
CONNECT_TIMEOUT_S = 2


@dataclass(frozen=True, slots=True)
class Outage:
    """A time in which PostgreSQL was down, on the clock of `time.perf_counter`."""

    begin: float
    end: float

    def overlaps(self, begin: float, end: float) -> bool:
        """Whether a span of the same clock has an instant in common with the outage."""
        return begin <= self.end and end >= self.begin


class PostgresWitness:
    """Watches while the block runs. Use as a context manager; `outages` may be read at any time."""

    def __init__(self, url: str, *, every_s: float = EVERY_S) -> None:
        self._url = url
        self._every_s = every_s
        self._outages: list[Outage] = []
        self._last_answer = perf_counter()
        self._is_down = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="postgres witness", daemon=True)

    def __enter__(self) -> Self:
        self._last_answer = perf_counter()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def is_down(self) -> bool:
        """Whether the last question has had no answer."""
        return self._is_down

    @property
    def outages(self) -> Sequence[Outage]:
        """The outages so far; one that lasts ends now."""
        now = [Outage(self._last_answer, perf_counter())] if self._is_down else []
        return [*self._outages, *now]

    def _watch(self) -> None:
        while not self._stop.is_set():
            try:
                self._ask_until_it_fails()
            except psycopg.OperationalError:
                self._is_down = True
            self._stop.wait(self._every_s)

    def _ask_until_it_fails(self) -> None:
        with psycopg.connect(self._url, autocommit=True, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            while not self._stop.is_set():
                connection.execute("select 1")
                self._answered(perf_counter())
                self._stop.wait(self._every_s)

    def _answered(self, now: float) -> None:
        if self._is_down:
            self._outages.append(Outage(self._last_answer, now))
            self._is_down = False
        self._last_answer = now
