"""One provider's policies, asked in order: deadline, breaker, bulkhead, rate, and for a repeat the retry budget.

A call asks `admit` and gets a `Permit`, or a `Refusal` that names the policy that said no. Whoever has a permit ends it
with `finish`, or with `cancel` when nothing was sent. All policies are asked before any is charged, so that a call that
the last one refuses costs nothing with the others.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from faregate.gateway.policies.breaker import CircuitBreaker, Pass, State
from faregate.gateway.policies.bulkhead import Bulkhead
from faregate.gateway.policies.declared import READS, GuardPolicy, Operation, OperationPolicy
from faregate.gateway.policies.hedging import Hedging
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policies.retry_budget import RetryBudget
from faregate.gateway.policies.tokens import TokenBucket, Tokens, Unlimited

BULKHEAD_AGAIN_S = 0.02
"""How soon to ask again where all places are taken: a call in flight usually ends sooner than anything else."""

Changed = Callable[[Operation, State], None]


class Lease(NamedTuple):
    """The place of a probe that somebody else counts, until a time of the caller's clock."""

    id: str
    until: float


class Permit:
    """The leave to make one call, which its holder must `finish`, `cancel` or `abandon` once."""

    __slots__ = ("is_retry", "lane", "lease", "passed", "started_at")

    def __init__(self, lane: Lane, passed: Pass, started_at: float, is_retry: bool) -> None:
        self.lane = lane
        self.passed = passed
        self.started_at = started_at
        self.is_retry = is_retry
        self.lease: Lease | None = None


class Lane:
    """The breaker and the bulkhead of one operation."""

    __slots__ = ("breaker", "bulkhead", "kept", "operation")

    def __init__(self, operation: Operation, policy: OperationPolicy, kept: float, changed: Changed) -> None:
        self.operation = operation
        self.breaker = CircuitBreaker(policy.breaker, on_change=lambda state: changed(operation, state))
        self.bulkhead = Bulkhead(policy.bulkhead)
        self.kept = kept

    def adapt(self, old: OperationPolicy, new: OperationPolicy, kept: float) -> None:
        """Go by another policy from now on; what did not change keeps what it has learned."""
        self.kept = kept
        if new.breaker != old.breaker:
            self.breaker.adapt(new.breaker)
        if new.bulkhead != old.bulkhead:
            self.bulkhead.adapt(new.bulkhead)


class Guard:
    """The policies before the calls to one provider.

    `tokens` is where the rate's tokens come from, a bucket of this process's own if not given. `changed` hears of each
    change of a breaker's state that the breaker made by itself.
    """

    def __init__(
        self, policy: GuardPolicy, *, now: float, tokens: Tokens | None = None, changed: Changed | None = None
    ) -> None:
        self.policy = policy
        self.lanes = {
            operation: Lane(operation, of, _kept(operation, policy), changed or _nobody)
            for operation, of in policy.operations.items()
        }
        self.tokens = tokens or _tokens(policy, now)
        self._has_own_tokens = tokens is None
        self.retries = RetryBudget(policy.retry_budget, now=now)
        self.hedging = Hedging(policy.hedge)

    def adapt(self, policy: GuardPolicy, *, now: float) -> None:
        """Go by another policy from now on. States, calls in flight and what did not change stay as they are."""
        old, self.policy = self.policy, policy
        for operation, lane in self.lanes.items():
            lane.adapt(old.operations[operation], policy.operations[operation], _kept(operation, policy))
        if self._has_own_tokens and policy.rate != old.rate:
            self.tokens = _tokens(policy, now)
        if policy.retry_budget != old.retry_budget:
            self.retries = RetryBudget(policy.retry_budget, now=now)
        if policy.hedge != old.hedge:
            self.hedging = Hedging(policy.hedge)

    def admit(
        self, operation: Operation, *, now: float, left_s: float, is_retry: bool = False
    ) -> Permit | Refusal:
        """Let a call begin, or say why not. `left_s` is what is left of the time that it may take."""
        lane = self.lanes[operation]
        refusal = self._refusal(lane, now, left_s, is_retry)
        if refusal is not None:
            return refusal
        lane.bulkhead.in_flight += 1
        self.tokens.take()
        if is_retry:
            self.retries.take(now=now)
        elif operation is Operation.SEND or operation is Operation.WRITE:
            self.retries.call(now=now)
        return Permit(lane, lane.breaker.enter(), now, is_retry)

    def finish(self, permit: Permit, *, now: float, is_failure: bool) -> None:
        """Learn how a call ended. A failure is one that says that the provider is not well, not a refusal."""
        took_s = now - permit.started_at
        lane = permit.lane
        lane.bulkhead.leave(took_s=took_s, is_failure=is_failure)
        lane.breaker.leave(permit.passed, now=now, took_s=took_s, is_failure=is_failure)
        if lane.operation in READS and not is_failure:
            self.hedging.learn(took_s=took_s)

    def cancel(self, permit: Permit) -> None:
        """Take back a permit under which nothing was sent; all that was paid for it is returned."""
        permit.lane.bulkhead.leave(took_s=None, is_failure=False)
        permit.lane.breaker.cancel(permit.passed)
        self.tokens.give_back()
        if permit.is_retry:
            self.retries.give_back()

    def abandon(self, permit: Permit) -> None:
        """End a call that nobody waits for any more: it was paid for, and says nothing of the provider."""
        permit.lane.bulkhead.leave(took_s=None, is_failure=False)
        permit.lane.breaker.abandon(permit.passed)

    def room(self, operation: Operation, *, now: float) -> int:
        """Return how many calls the breaker and the bulkhead would let begin now: no more are worth preparing."""
        lane = self.lanes[operation]
        passing = lane.breaker.room(now=now)
        return lane.bulkhead.free if passing is None else min(passing, lane.bulkhead.free)

    def _refusal(self, lane: Lane, now: float, left_s: float, is_retry: bool) -> Refusal | None:
        if left_s <= 0:
            return Refusal(Reason.DEADLINE, 0.0)
        if (refusal := lane.breaker.refusal(now=now)) is not None:
            return refusal
        if lane.bulkhead.in_flight >= lane.bulkhead.limit:
            return Refusal(Reason.BULKHEAD_FULL, BULKHEAD_AGAIN_S)
        if (wait_s := self.tokens.wait_s(now=now, kept=lane.kept)) > 0:
            return Refusal(Reason.RATE_LIMITED, wait_s)
        if is_retry and (wait_s := self.retries.wait_s(now=now)) > 0:
            return Refusal(Reason.RETRY_BUDGET, wait_s)
        return None


def _kept(operation: Operation, policy: GuardPolicy) -> float:
    return 0.0 if operation in READS else policy.rate.kept_for_reads


def _tokens(policy: GuardPolicy, now: float) -> Tokens:
    rate = policy.rate
    return TokenBucket(per_s=rate.per_s, burst=rate.burst, now=now) if rate.per_s else Unlimited()


def _nobody(_: Operation, __: State) -> None:
    """Hear nothing."""
