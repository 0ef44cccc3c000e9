"""A retry budget: retries are a share of the first sends, so that they cannot multiply an outage.

The idea and its terms are Finagle's ("Retry budgets", Finagle's blog, 2016-02-08). Here the floor is drained by every
retry, also by those that the share pays for: under load it adds nothing, so that attempts stay below
`(1 + ratio) * calls + floor_per_s * (seconds + window_s)`, and close to the first term.
"""

from __future__ import annotations

from faregate.gateway.policies.declared import RetryBudgetPolicy
from faregate.gateway.policies.tokens import TokenBucket
from faregate.gateway.policies.windows import TimeWindow


class RetryBudget:
    """What is left for retries of one provider in this process."""

    __slots__ = ("_balance", "_calls", "_floor", "_policy", "granted")

    def __init__(self, policy: RetryBudgetPolicy, *, now: float) -> None:
        self._policy = policy
        self._calls = TimeWindow(seconds=policy.window_s)
        self._balance = 0.0
        floor = policy.floor_per_s * policy.window_s
        self._floor = TokenBucket(per_s=policy.floor_per_s, burst=floor, now=now)
        self.granted = 0

    def call(self, *, now: float) -> None:
        """Count a first send: it earns its share, and what is older than the window is worth nothing."""
        calls = self._calls.add(0, now).calls
        self._balance = min(self._balance + self._policy.ratio, calls * self._policy.ratio)

    def available(self, *, now: float) -> float:
        """Return how many retries could be paid for now."""
        return max(self._earned(now), self._floor.available(now=now))

    def wait_s(self, *, now: float) -> float:
        """Return when to ask again: 0 when a retry can be paid for, else when the floor will have one."""
        if self._earned(now) >= 1.0:
            return 0.0
        return min(self._floor.wait_s(now=now), self._policy.window_s)

    def take(self, *, now: float) -> None:
        """Pay for a retry; ask `wait_s` in the same instant first."""
        if self._earned(now) >= 1.0:
            self._balance -= 1.0
        self._floor.drain(now=now)
        self.granted += 1

    def give_back(self) -> None:
        """Return what was paid for a retry that was not sent after all."""
        self._balance += 1.0
        self.granted -= 1

    def _earned(self, now: float) -> float:
        self._balance = min(self._balance, self._calls.tally(now).calls * self._policy.ratio)
        return self._balance
