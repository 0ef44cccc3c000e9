"""A concurrency limit that finds by itself what a provider can take.

The method is that of TCP Vegas (L. Brakmo, L. Peterson, "TCP Vegas: End to End Congestion Avoidance on a Global
Internet", IEEE JSAC 13(8), 1995), carried over to requests as in Netflix' concurrency-limits (`VegasLimit`): the
shortest duration seen is that of an idle provider, and what a call takes beyond it was spent in a queue. The queue is
kept short but not empty.
"""

from __future__ import annotations

from math import log10

_FRESH_CALLS = 30
"""After this many calls for each place the shortest duration is learned anew: the provider may have changed."""


class AdaptiveLimit:
    """The most calls in flight, between `least` and `most`."""

    __slots__ = ("_least", "_limit", "_most", "_seen", "_shortest_s")

    def __init__(self, *, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._limit = float(min(most, max(least, 10)))
        self._shortest_s = float("inf")
        self._seen = 0

    @property
    def limit(self) -> int:
        """The limit at present."""
        return int(self._limit)

    def learn(self, *, took_s: float, in_flight: int, is_failure: bool) -> None:
        """Take in one call: how long it took while `in_flight` of them, this one included, were out.

        A failure lowers the limit whatever it took. A limit that is not half used is not raised: nothing was learned.
        """
        step = max(1.0, log10(self._limit))
        if is_failure:
            self._move(-step)
            return
        self._seen += 1
        if took_s < self._shortest_s or self._seen > _FRESH_CALLS * self._limit:
            self._shortest_s, self._seen = took_s, 0
        queue = self._limit * (1 - self._shortest_s / took_s) if took_s > 0 else 0.0
        if queue > 6 * step:
            self._move(-step)
        elif queue < 3 * step and in_flight * 2 >= self._limit:
            self._move(6 * step if queue <= step else step)

    def _move(self, by: float) -> None:
        self._limit = min(float(self._most), max(float(self._least), self._limit + by))
