"""G1 to G4 hold whatever callers, failures, operators and the clock do. The clock here is a number."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from faregate.gateway.policies.breaker import State
from faregate.gateway.policies.declared import (
    BreakerPolicy,
    BulkheadPolicy,
    GuardPolicy,
    Operation,
    OperationPolicy,
    Override,
    RatePolicy,
    RetryBudgetPolicy,
)
from faregate.gateway.policies.guard import Guard, Permit
from faregate.gateway.policies.refusals import Refusal

BREAKERS = st.builds(
    BreakerPolicy,
    window_calls=st.sampled_from([0, 5, 10]),
    window_s=st.sampled_from([1.0, 10.0]),
    calls_min=st.integers(1, 5),
    failure_rate=st.sampled_from([0.2, 0.5, 1.0]),
    slow_call_s=st.sampled_from([0.5, 60.0]),
    open_s=st.sampled_from([0.5, 5.0]),
    probes=st.integers(3, 5),
    successes=st.integers(1, 3),
)
BULKHEADS = st.builds(
    BulkheadPolicy, in_flight_max=st.integers(2, 12), adaptive=st.booleans(), limit_min=st.just(1)
)
BUDGETS = st.builds(
    RetryBudgetPolicy,
    ratio=st.sampled_from([0.0, 0.1, 0.5]),
    floor_per_s=st.sampled_from([0.0, 1.0, 3.0]),
    window_s=st.sampled_from([2.0, 10.0]),
)
RATES = st.builds(RatePolicy, per_s=st.sampled_from([0.0, 3.0, 50.0]), burst=st.integers(1, 20))


@dataclass
class Counted:
    """What was let through, and when."""

    calls: int = 0
    retries: int = 0
    tokens: int = 0


class Callers(RuleBasedStateMachine):
    """Any number of callers of one guard."""

    @initialize(breaker=BREAKERS, bulkhead=BULKHEADS, budget=BUDGETS, rate=RATES)
    def start(
        self, breaker: BreakerPolicy, bulkhead: BulkheadPolicy, budget: RetryBudgetPolicy, rate: RatePolicy
    ) -> None:
        lane = OperationPolicy(breaker=breaker, bulkhead=bulkhead)
        self.policy = GuardPolicy(operations={Operation.SEND: lane}, retry_budget=budget, rate=rate)
        self.now = 100.0
        self.guard = Guard(self.policy, now=self.now, changed=self.changed)
        self.breaker = self.guard.lanes[Operation.SEND].breaker
        self.flying: list[Permit] = []
        self.probes_of_round: dict[int, int] = {}
        self.counted = Counted()
        self.changes: list[State] = []

    def changed(self, operation: Operation, state: State) -> None:
        assert operation is Operation.SEND
        self.changes.append(state)

    @rule(callers=st.integers(1, 30), is_retry=st.booleans())
    def callers_ask(self, callers: int, is_retry: bool) -> None:
        for _ in range(callers):
            answer = self.guard.admit(Operation.SEND, now=self.now, left_s=1.0, is_retry=is_retry)
            if isinstance(answer, Permit):
                self.let_through(answer)
            else:
                assert answer.retry_after_s >= 0

    def let_through(self, permit: Permit) -> None:
        is_forced = self.breaker.override is not Override.AUTOMATIC
        assert self.breaker.override is not Override.FORCED_OPEN
        assert is_forced or self.breaker.state is not State.OPEN, "G4"
        self.flying.append(permit)
        self.counted.tokens += 1
        if permit.is_retry:
            self.counted.retries += 1
        else:
            self.counted.calls += 1
        if permit.passed.is_probe:
            begun = self.probes_of_round.get(permit.passed.round, 0) + 1
            self.probes_of_round[permit.passed.round] = begun

    @precondition(lambda self: self.flying)
    @rule(many=st.integers(1, 10), is_failure=st.booleans(), newest=st.booleans())
    def calls_end(self, many: int, is_failure: bool, newest: bool) -> None:
        for _ in range(min(many, len(self.flying))):
            permit = self.flying.pop(-1 if newest else 0)
            self.guard.finish(permit, now=self.now, is_failure=is_failure)

    @precondition(lambda self: self.flying)
    @rule()
    def a_call_is_not_made_after_all(self) -> None:
        permit = self.flying.pop()
        self.guard.cancel(permit)
        self.counted.tokens -= 1
        if permit.is_retry:
            self.counted.retries -= 1
        if permit.passed.is_probe:
            self.probes_of_round[permit.passed.round] -= 1

    @rule(seconds=st.sampled_from([0.01, 0.3, 1.0, 6.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(override=st.sampled_from(Override))
    def an_operator_acts(self, override: Override) -> None:
        self.breaker.override = override

    @invariant()
    def g1_at_most_k_probes_a_round(self) -> None:
        most = self.policy.operations[Operation.SEND].breaker.probes
        assert all(begun <= most for begun in self.probes_of_round.values())

    @invariant()
    def g2_in_flight_never_exceeds_the_limit(self) -> None:
        lane = self.guard.lanes[Operation.SEND]
        assert lane.bulkhead.in_flight == len(self.flying)
        assert len(self.flying) <= self.policy.operations[Operation.SEND].bulkhead.in_flight_max

    @invariant()
    def g3_retries_are_a_share_of_the_calls_and_the_floor(self) -> None:
        budget = self.policy.retry_budget
        floor = budget.floor_per_s * (self.now - 100.0 + budget.window_s)
        assert self.counted.retries <= budget.ratio * self.counted.calls + floor + 1e-6

    @invariant()
    def the_rate_is_kept(self) -> None:
        rate = self.policy.rate
        if rate.per_s:
            assert self.counted.tokens <= rate.burst + rate.per_s * (self.now - 100.0) + 1e-6

    @invariant()
    def what_there_is_room_for_is_let_through(self) -> None:
        room = self.guard.room(Operation.SEND, now=self.now)
        lane = self.guard.lanes[Operation.SEND]
        assert 0 <= room <= lane.bulkhead.free
        if room == 0 and lane.bulkhead.free:
            assert isinstance(self.guard.admit(Operation.SEND, now=self.now, left_s=1.0), Refusal)


@pytest.mark.requirement("C15")
@pytest.mark.requirement("C27")
def test_the_invariants_hold_whatever_happens() -> None:
    run_state_machine_as_test(
        Callers,
        settings=settings(
            max_examples=120,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
