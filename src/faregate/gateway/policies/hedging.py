"""When a second read is worth while beside one that is late, and how many may get one.

The method is J. Dean's and L. A. Barroso's ("The Tail at Scale", CACM 56(2), 2013): wait for about the 95th percentile
of the expected latency, and so limit the additional load to a few percent.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

from faregate.gateway.policies.declared import HedgePolicy

_KEPT = 100
_KNOWN_MIN = 20
_PERCENTILE = 0.95
_SAVED_MAX = 5.0


class Hedging:
    """Remembers how long the last reads took, and what share of them was hedged."""

    __slots__ = ("_balance", "_last", "_policy", "_sorted")

    def __init__(self, policy: HedgePolicy) -> None:
        self._policy = policy
        self._last: deque[float] = deque()
        self._sorted: list[float] = []
        self._balance = 0.0

    def delay_s(self) -> float | None:
        """Return how late a read must be to get a second one; None while there is no telling, or never."""
        if not self._policy.share_max:
            return None
        if self._policy.delay_s:
            return self._policy.delay_s
        if len(self._sorted) < _KNOWN_MIN:
            return None
        return self._sorted[int(_PERCENTILE * len(self._sorted))]

    def learn(self, *, took_s: float) -> None:
        """Take in a read that was answered: it earns its share of a hedge."""
        if not self._policy.share_max:
            return
        self._balance = min(_SAVED_MAX, self._balance + self._policy.share_max)
        if len(self._last) == _KEPT:
            del self._sorted[bisect_left(self._sorted, self._last.popleft())]
        self._last.append(took_s)
        insort(self._sorted, took_s)

    def take(self) -> bool:
        """Pay for a hedge; False when the share is used up."""
        if self._balance < 1.0:
            return False
        self._balance -= 1.0
        return True
