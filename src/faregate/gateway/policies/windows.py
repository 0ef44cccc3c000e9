"""Sliding windows over the ends of calls: how many there were, how many failed, how many were slow."""

from __future__ import annotations

from typing import Protocol

FAILED = 1
SLOW = 2
_BUCKETS = 10


class Tally:
    """Calls of a window."""

    __slots__ = ("calls", "failed", "slow")

    def __init__(self) -> None:
        self.calls = self.failed = self.slow = 0

    def add(self, mark: int) -> None:
        """Count a call with this mark, a sum of FAILED and SLOW."""
        self.calls += 1
        if mark:
            self.failed += mark & FAILED
            self.slow += mark >> 1

    def forget(self, mark: int) -> None:
        """Take a call with this mark away."""
        self.calls -= 1
        if mark:
            self.failed -= mark & FAILED
            self.slow -= mark >> 1


class Window(Protocol):
    """Counts recent calls."""

    def add(self, mark: int, now: float) -> Tally:
        """Count a call that ended now and return what the window holds; the tally is the window's own."""
        ...

    def tally(self, now: float) -> Tally:
        """Return what the window holds now."""
        ...

    def clear(self) -> None:
        """Forget every call."""
        ...


class CallWindow:
    """The last `size` calls, in a ring."""

    __slots__ = ("_marks", "_next", "_size", "_tally")

    def __init__(self, *, size: int) -> None:
        self._size = size
        self._marks = bytearray(size)
        self._next = 0
        self._tally = Tally()

    def add(self, mark: int, now: float) -> Tally:  # noqa: ARG002 - a window of calls needs no clock
        """Count a call in the place of the one that was `size` calls ago."""
        tally, at = self._tally, self._next
        if tally.calls == self._size:
            tally.forget(self._marks[at])
        tally.add(mark)
        self._marks[at] = mark
        self._next = at + 1 if at + 1 < self._size else 0
        return tally

    def tally(self, now: float) -> Tally:  # noqa: ARG002 - a window of calls needs no clock
        """Return what the window holds."""
        return self._tally

    def clear(self) -> None:
        """Forget every call."""
        self._next = 0
        self._tally = Tally()


class TimeWindow:
    """The last `seconds`, in ten buckets: a call is forgotten between nine and ten tenths of them later."""

    __slots__ = ("_at", "_bucket_s", "_buckets", "_now", "_tally")

    def __init__(self, *, seconds: float) -> None:
        self._bucket_s = seconds / _BUCKETS
        self._at = -1
        self._tally = Tally()
        self.clear()

    def add(self, mark: int, now: float) -> Tally:
        """Count a call that ended now."""
        tally = self.tally(now)
        tally.add(mark)
        self._now.add(mark)
        return tally

    def tally(self, now: float) -> Tally:
        """Return what the window holds now, without the buckets that have become too old."""
        at = int(now / self._bucket_s)
        if at > self._at:
            self._turn_to(at)
        return self._tally

    def clear(self) -> None:
        """Forget every call."""
        self._at = -1
        self._buckets = [Tally() for _ in range(_BUCKETS)]
        self._now = self._buckets[0]
        self._tally = Tally()

    def _turn_to(self, at: int) -> None:
        for index in range(max(self._at + 1, at - _BUCKETS + 1), at + 1):
            old = self._buckets[index % _BUCKETS]
            self._tally.calls -= old.calls
            self._tally.failed -= old.failed
            self._tally.slow -= old.slow
            self._buckets[index % _BUCKETS] = Tally()
        self._at = at
        self._now = self._buckets[at % _BUCKETS]
