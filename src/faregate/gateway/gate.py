"""The gate before one provider: its policies in this process, in step with those of the other processes.

A pool asks how much there is room for before it claims, and lets each call through when it is about to be made.
Whatever asks here may hold the answer for no longer than it takes to act on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from faregate.gateway import metrics
from faregate.gateway.policies.breaker import State
from faregate.gateway.policies.declared import READS, Operation, Override, RatePolicy
from faregate.gateway.policies.guard import Guard, Permit
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policies.tokens import LeasedTokens, Unlimited
from faregate.gateway.policy import JOURNAL_OPERATIONS, ProviderPolicy
from faregate.gateway.shared import PROCESS, BreakerLink, Shared
from faregate.infra.rate import Rate

TOKENS_HELD_S = 1.0
"""How long tokens that were taken for a claim may wait for their calls."""
_PER_S_MIN = 0.001
_SCARCE_S = 1.0
"""For how long after a refusal tokens are taken before the work is claimed, not after."""


def monotonic() -> float:
    """Seconds that only grow and, where the system can tell, count a suspended machine's sleep."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerChange:
    """A breaker's change of state, and whether it is that of `all` processes or of this `process` alone."""

    provider: str
    operation: Operation
    state: State
    scope: str


class Gate:
    """All policies before one provider. Without `shared`, every limit is this process's own.

    `told` hears of every change of state of a breaker that this process is to report.
    """

    def __init__(
        self,
        *,
        provider: str,
        policy: ProviderPolicy,
        shared: Shared | None = None,
        told: Callable[[BreakerChange], None] | None = None,
        now: Callable[[], float] = monotonic,
        new_id: Callable[[], str] = lambda: uuid4().hex,
    ) -> None:
        self.provider = provider
        self.policy = policy
        self._shared = shared
        self._told = told or _nobody
        self._now = now
        self._hand = LeasedTokens()
        self._scarce_until = 0.0
        self._last = dict.fromkeys(JOURNAL_OPERATIONS, 0)
        guarded = policy.guard(JOURNAL_OPERATIONS)
        self.guard = Guard(guarded, now=now(), tokens=self._tokens(), changed=self._changed)
        self.links: Mapping[Operation, BreakerLink] = {}
        if shared is not None:
            self.links = {
                operation: self._link(operation, shared, new_id) for operation in guarded.operations
            }

    def adapt(self, policy: ProviderPolicy) -> None:
        """Go by another policy from now on."""
        self.policy = policy
        self.guard.adapt(policy.guard(JOURNAL_OPERATIONS), now=self._now())
        if self._shared is not None:
            self.guard.tokens = self._tokens() or Unlimited()
            self._hand.clear()
        for operation, link in self.links.items():
            link.policy = self.guard.policy.operations[operation].breaker

    def override(self, overrides: Mapping[Operation, Override]) -> None:
        """Hold breakers open or closed as an operator wishes, and leave the others to themselves."""
        for operation, lane in self.guard.lanes.items():
            lane.breaker.override = overrides.get(operation, Override.AUTOMATIC)

    def limit(self, operation: Operation) -> int:
        """Return the most calls of this operation in flight in this process."""
        return self.guard.lanes[operation].bulkhead.limit

    async def room(self, operation: Operation) -> int:
        """Return how many calls breaker, bulkhead and, where they are scarce, tokens would let through."""
        if operation in self.links:
            await self.links[operation].prepare()
        free = self.guard.room(operation, now=self._now())
        if free and self._now() < self._scarce_until:
            await self._take(operation, calls=free)
            return int(min(free, self.guard.tokens.available(now=self._now())))
        await self._take(operation, calls=min(free, self._last[operation]))
        return free

    async def fill(self, operation: Operation, *, calls: int) -> None:
        """Take tokens for this many calls, as far as there are some. The next room has as many ready."""
        self._last[operation] = calls
        await self._take(operation, calls=calls)

    def idle(self) -> None:
        """Have no tokens ready for the next room: nothing is due."""
        self._last = dict.fromkeys(JOURNAL_OPERATIONS, 0)

    async def _take(self, operation: Operation, *, calls: int) -> None:
        if self._shared is None or not self.policy.rate.per_s:
            return
        missing = calls - int(self._hand.available(now=self._now()))
        for key, rate in self._buckets(is_read=operation in READS):
            granted = missing
            while missing > 0 and granted > 0:
                granted, wait_s = await self._shared.buckets.take_many(key, rate=rate, wanted=missing)
                self._hand.add(granted, until=self._now() + TOKENS_HELD_S)
                self._hand.empty_until = self._now() + wait_s
                missing -= granted

    def admit(self, operation: Operation, *, left_s: float, is_retry: bool = False) -> Permit | Refusal:
        """Let a call begin, or say why not. A permit is ended by `finish`, `cancel` or `abandon`."""
        answer = self.guard.admit(operation, now=self._now(), left_s=left_s, is_retry=is_retry)
        if isinstance(answer, Refusal):
            self._count_refusal(operation, answer)
        elif operation in self.links:
            self.links[operation].enter(answer)
        if is_retry:
            kind = "granted" if isinstance(answer, Permit) else answer.reason.value
            metrics.RETRIES.labels(self.provider, kind).inc()
        return answer

    def finish(self, permit: Permit, *, is_failure: bool) -> None:
        """Learn how a call ended."""
        now, operation = self._now(), permit.lane.operation
        self.guard.finish(permit, now=now, is_failure=is_failure)
        if operation in self.links:
            slow_s = self.guard.policy.operations[operation].breaker.slow_call_s
            self.links[operation].leave(permit, is_good=not is_failure and now - permit.started_at < slow_s)

    def cancel(self, permit: Permit) -> None:
        """Take back a permit under which nothing was sent."""
        self.guard.cancel(permit)
        if permit.lane.operation in self.links:
            self.links[permit.lane.operation].cancel(permit)

    def abandon(self, permit: Permit) -> None:
        """End a call that nobody waits for any more, without a judgement. The lease of a probe ends by its time."""
        self.guard.abandon(permit)

    def stopped(self, operation: Operation) -> Refusal | None:
        """Return why the breaker lets no call of this operation through, None when it does."""
        return self.guard.lanes[operation].breaker.refusal(now=self._now())

    def hedge(self, *, left_s: float) -> Permit | None:
        """Let a second look-up begin beside one that is late, if its share, the policies and the time left allow it."""
        if not self.guard.hedging.take():
            return None
        answer = self.admit(Operation.LOOK_UP, left_s=left_s)
        if isinstance(answer, Refusal):
            return None
        metrics.HEDGES.labels(self.provider).inc()
        return answer

    def snapshot(self) -> dict[str, Any]:
        """Return how things stand in this process, for people: by operation, and what is common to all of them."""
        now = self._now()
        return {
            "operations": {
                operation.value: {
                    "state": lane.breaker.state.value,
                    "is_led": lane.breaker.is_led,
                    "override": lane.breaker.override.value,
                    "in_flight": lane.bulkhead.in_flight,
                    "limit": lane.bulkhead.limit,
                    **lane.breaker.recent(now=now),
                }
                for operation, lane in self.guard.lanes.items()
            },
            "retries_granted": self.guard.retries.granted,
            "retries_left": round(self.guard.retries.available(now=now), 1),
        }

    def show(self) -> None:
        """Set the gauges."""
        for operation, lane in self.guard.lanes.items():
            metrics.LIMIT.labels(self.provider, operation).set(lane.bulkhead.limit)
            for state in State:
                metrics.BREAKER.labels(self.provider, operation, state).set(lane.breaker.state is state)

    async def close(self) -> None:
        """Give back to the other processes what this one held for itself."""
        for link in self.links.values():
            await link.close()

    def _tokens(self) -> LeasedTokens | Unlimited | None:
        """Where tokens come from: out of the shared bucket into the hand, or out of the guard's own bucket."""
        if self._shared is None:
            return None
        return self._hand if self.policy.rate.per_s else Unlimited()

    def _buckets(self, *, is_read: bool) -> list[tuple[str, Rate]]:
        """The buckets that a call is paid from: a read from those kept for reads first, then from that of all."""
        rate = self.policy.rate
        name, kept = rate.credential or self.provider, rate.kept_for_reads
        for_all = (name, _share(rate, 1 - kept))
        return [(f"{name}:reads", _share(rate, kept)), for_all] if is_read and kept else [for_all]

    def _link(self, operation: Operation, shared: Shared, new_id: Callable[[], str]) -> BreakerLink:
        return BreakerLink(
            key=f"{self.provider}/{operation}",
            breaker=self.guard.lanes[operation].breaker,
            policy=self.guard.policy.operations[operation].breaker,
            shared=shared,
            now=self._now,
            new_id=new_id,
            told=lambda state, scope: self._tell(operation, state, scope),
        )

    def _changed(self, operation: Operation, state: State) -> None:
        if operation in self.links:
            self.links[operation].changed(state)
        else:
            self._tell(operation, state, PROCESS)

    def _tell(self, operation: Operation, state: State, scope: str) -> None:
        self._told(BreakerChange(provider=self.provider, operation=operation, state=state, scope=scope))

    def _count_refusal(self, operation: Operation, refusal: Refusal) -> None:
        if refusal.reason is Reason.RATE_LIMITED:
            self._scarce_until = self._now() + refusal.retry_after_s + _SCARCE_S
        metrics.REFUSALS.labels(self.provider, operation, refusal.reason).inc()


def _share(rate: RatePolicy, share: float) -> Rate:
    return Rate(per_s=max(_PER_S_MIN, rate.per_s * share), burst=max(1, int(rate.burst * share)))


def _nobody(_: BreakerChange) -> None:
    """Hear nothing."""
