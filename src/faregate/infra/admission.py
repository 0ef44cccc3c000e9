"""Refuses work before it makes everything slow: the least important first, by how long the next request would wait.

What is measured is delay, not load: the lag of the event loop (its minimum over an interval, so that a burst does not
count and a standing queue does), the delay that a new submission is to expect, the wait for a connection to the
database. Nichols and Jacobson, "Controlling Queue Delay", ACM Queue 10(5), 2012 (RFC 8289), give the reason for delay
and its minimum; Zhou et al., "Overload Control for Scaling WeChat Microservices", SoCC 2018, that for classes.

Callbacks of providers, health and metrics never ask here: they end work that was begun, or show what is wrong.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import Enum

from faregate.infra.telemetry.metrics import Metrics
from faregate.kernel.errors import UnavailableError

SAMPLE_S = 0.02
SAMPLES = 8


class Work(Enum):
    """A class of requests, the least important first.

    A list is made for people, who can wait. A submission that is refused was promised nothing yet. A read of a status
    or decision costs little, and refusing it makes its client ask more often.
    """

    LIST = "list"
    SUBMIT = "submit"
    KEY_LOOK_UP = "key_look_up"
    """Whether a refused submission repeats an earlier one, which has an answer."""
    DATABASE_READ = "database_read"
    """What a read needs when the cache does not have it."""
    READ = "read"


PATIENCE: Mapping[Work, float] = {
    Work.LIST: 0.5,
    Work.SUBMIT: 1.0,
    Work.KEY_LOOK_UP: 2.0,
    Work.DATABASE_READ: 2.0,
    Work.READ: 2.0,
}
"""How much of the greatest delay a class bears before it is refused."""


class Overloaded(UnavailableError):
    """The service has more to do than it can do in time, and refused this request at once. Nothing was stored.

    Send it again after `Retry-After` seconds. A submission that was accepted before is answered all the same.
    """


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A delay in seconds, measured now, and the work that it would delay."""

    name: str
    delay_s: Callable[[], float]
    works: Collection[Work]


class Admission:
    """Says whether work may begin. `delay_s_max` is what a submission may have to wait."""

    def __init__(self, *, delay_s_max: float, signals: Sequence[Signal], metrics: Metrics) -> None:
        self._limits = {work: PATIENCE[work] * delay_s_max for work in Work}
        self._signals = {work: [s for s in signals if work in s.works] for work in Work}
        refused = metrics.counter(
            "faregate_admission_refused_total", "Requests refused because of overload", labels=("work",)
        )
        self._refused = {work: refused.labels(work.value) for work in Work}
        delay = metrics.gauge(
            "faregate_admission_delay_seconds", "What a new request would wait", labels=("signal",)
        )

        async def probe() -> None:
            for signal in signals:
                delay.labels(signal.name).set(signal.delay_s())

        metrics.add_probe(probe)

    def admit(self, work: Work) -> None:
        """Return if work of this class may begin, else raise Overloaded."""
        limit_s = self._limits[work]
        for signal in self._signals[work]:
            if (delay_s := signal.delay_s()) > limit_s:
                self._refused[work].inc()
                raise Overloaded("more requests than can be served in time", retry_after_s=max(1.0, delay_s))


class LoopLag:
    """How late the event loop is. Each sample is the time by which a timer fired too late."""

    def __init__(self) -> None:
        self._samples: deque[float] = deque(maxlen=SAMPLES)

    def standing_s(self) -> float:
        """Return the least lag of the last samples: more than nothing only if the loop was late all the time."""
        return min(self._samples, default=0.0)

    @asynccontextmanager
    async def measured(self) -> AsyncIterator[None]:
        """Take samples on the running loop for the length of the block."""
        self._wait(asyncio.get_running_loop())
        try:
            yield
        finally:
            self._timer.cancel()

    def _wait(self, loop: asyncio.AbstractEventLoop) -> None:
        due = loop.time() + SAMPLE_S
        self._timer = loop.call_at(due, self._sample, loop, due)

    def _sample(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._samples.append(max(0.0, loop.time() - due))
        self._wait(loop)
