"""Tokens that calls are paid with: a bucket of our own, or tokens taken from one that all processes share.

Taking them from there does not belong here.
"""

from __future__ import annotations

from typing import Protocol

UNLIMITED = float("inf")


class Tokens(Protocol):
    """Where a call's token comes from."""

    def available(self, *, now: float, kept: float = 0.0) -> float:
        """Return how many may be taken now, if `kept` of a full bucket are left for others."""
        ...

    def wait_s(self, *, now: float, kept: float = 0.0) -> float:
        """Return how long until there is one, 0 when there is."""
        ...

    def take(self) -> None:
        """Take one; ask `available` in the same instant first."""
        ...

    def give_back(self) -> None:
        """Return one that was not used."""
        ...


class Unlimited:
    """As many tokens as there are calls."""

    __slots__ = ()

    def available(self, *, now: float, kept: float = 0.0) -> float:  # noqa: ARG002 - the protocol's method
        """Return that there is no limit."""
        return UNLIMITED

    def wait_s(self, *, now: float, kept: float = 0.0) -> float:  # noqa: ARG002 - the protocol's method
        """Return 0."""
        return 0.0

    def take(self) -> None:
        """Take nothing."""

    def give_back(self) -> None:
        """Return nothing."""


class TokenBucket:
    """`per_s` tokens a second flow into a bucket that holds `burst`; it begins full."""

    __slots__ = ("_at", "_burst", "_per_s", "_tokens")

    def __init__(self, *, per_s: float, burst: float, now: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = float(burst)
        self._at = now

    def available(self, *, now: float, kept: float = 0.0) -> float:
        """Return how many may be taken now, if `kept` of a full bucket are left for others."""
        if now > self._at:
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
            self._at = now
        return self._tokens - kept * self._burst

    def wait_s(self, *, now: float, kept: float = 0.0) -> float:
        """Return how long until there is one, 0 when there is, infinity when there will be none."""
        missing = 1.0 - self.available(now=now, kept=kept)
        if missing <= 0:
            return 0.0
        return missing / self._per_s if self._per_s else UNLIMITED

    def take(self) -> None:
        """Take one; ask `available` in the same instant first."""
        self._tokens -= 1.0

    def drain(self, *, now: float) -> None:
        """Take one, or what there is of it."""
        self._tokens = max(0.0, self.available(now=now) - 1.0)

    def give_back(self) -> None:
        """Return one that was not used."""
        self._tokens = min(self._burst, self._tokens + 1.0)


class LeasedTokens:
    """Tokens in hand, taken from a bucket that all processes share; those that nobody uses in time are dropped.

    What is kept for others is kept in the shared bucket, so `kept` changes nothing here. `empty_until` is when the
    shared bucket said that there would be more.
    """

    __slots__ = ("_tokens", "_until", "empty_until")

    def __init__(self) -> None:
        self._tokens = 0
        self._until = 0.0
        self.empty_until = 0.0

    def add(self, tokens: int, *, until: float) -> None:
        """Put tokens into the hand; all that is in it may now be used until then."""
        self._tokens += tokens
        self._until = until

    def available(self, *, now: float, kept: float = 0.0) -> float:  # noqa: ARG002 - kept where they come from
        """Return how many are in hand."""
        if now >= self._until:
            self._tokens = 0
        return self._tokens

    def wait_s(self, *, now: float, kept: float = 0.0) -> float:
        """Return how long until the shared bucket is worth asking again, 0 when a token is in hand."""
        if self.available(now=now, kept=kept) >= 1:
            return 0.0
        return max(self.empty_until - now, 0.001)

    def take(self) -> None:
        """Take one; ask `available` in the same instant first."""
        self._tokens -= 1

    def give_back(self) -> None:
        """Return one that was not used."""
        self._tokens += 1

    def clear(self) -> None:
        """Drop what is in hand."""
        self._tokens = 0
