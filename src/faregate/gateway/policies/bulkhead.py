"""A bulkhead: calls of one operation in flight, so that a slow one fills its own places and nobody else's."""

from __future__ import annotations

from faregate.gateway.policies.adaptive import AdaptiveLimit
from faregate.gateway.policies.declared import BulkheadPolicy


class Bulkhead:
    """Counts calls in flight against a limit that is fixed, or moves with what the provider can take."""

    __slots__ = ("_adaptive", "_most", "in_flight")

    def __init__(self, policy: BulkheadPolicy) -> None:
        self.in_flight = 0
        self.adapt(policy)

    def adapt(self, policy: BulkheadPolicy) -> None:
        """Go by another policy from now on; what is in flight stays."""
        self._most = policy.in_flight_max
        self._adaptive = (
            AdaptiveLimit(least=policy.limit_min, most=policy.in_flight_max) if policy.adaptive else None
        )

    @property
    def limit(self) -> int:
        """The most calls in flight at present."""
        return self._most if self._adaptive is None else self._adaptive.limit

    @property
    def free(self) -> int:
        """How many more may begin; none where the limit fell below what is in flight."""
        return max(0, self.limit - self.in_flight)

    def leave(self, *, took_s: float | None, is_failure: bool) -> None:
        """Give a place back; `took_s` is None for a call that was not made."""
        if self._adaptive is not None and took_s is not None:
            self._adaptive.learn(took_s=took_s, in_flight=self.in_flight, is_failure=is_failure)
        self.in_flight -= 1
