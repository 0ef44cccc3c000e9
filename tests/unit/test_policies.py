"""Each policy by itself, at its edges. Times are numbers of seconds on no clock."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faregate.gateway.policies.adaptive import AdaptiveLimit
from faregate.gateway.policies.breaker import CircuitBreaker, State
from faregate.gateway.policies.declared import (
    BreakerPolicy,
    BulkheadPolicy,
    GuardPolicy,
    HedgePolicy,
    Operation,
    OperationPolicy,
    Override,
    RatePolicy,
    RetryBudgetPolicy,
)
from faregate.gateway.policies.guard import Guard, Permit
from faregate.gateway.policies.hedging import Hedging
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policies.retry_budget import RetryBudget
from faregate.gateway.policies.tokens import LeasedTokens, TokenBucket
from faregate.gateway.policies.windows import FAILED, SLOW, CallWindow, TimeWindow

COUNTED = BreakerPolicy(window_calls=4, window_s=0, calls_min=4, open_s=5.0, probes=3, successes=2)
SENDS = {Operation.SEND: OperationPolicy()}


def end_calls(breaker: CircuitBreaker, marks: str, *, now: float = 0.0, took_s: float = 0.0) -> None:
    """End one call for each mark: `x` failed, `.` did not."""
    for mark in marks:
        breaker.leave(breaker.enter(), now=now, took_s=took_s, is_failure=mark == "x")


def admitted(guard: Guard, *, now: float = 0.0, is_retry: bool = False) -> Permit:
    answer = guard.admit(Operation.SEND, now=now, left_s=1.0, is_retry=is_retry)
    assert isinstance(answer, Permit), answer
    return answer


def refused(guard: Guard, *, now: float = 0.0, left_s: float = 1.0, is_retry: bool = False) -> Reason:
    answer = guard.admit(Operation.SEND, now=now, left_s=left_s, is_retry=is_retry)
    assert isinstance(answer, Refusal)
    return answer.reason


def test_a_window_of_calls_forgets_the_oldest() -> None:
    window = CallWindow(size=3)
    tallies = [window.add(mark, 0.0) for mark in (FAILED, SLOW, FAILED | SLOW, 0)]
    assert (tallies[-1].calls, tallies[-1].failed, tallies[-1].slow) == (3, 1, 2)


@pytest.mark.parametrize(("at", "failed"), [(8.9, 2), (10.0, 1), (10.9, 1), (15.0, 0), (1e9, 0)])
def test_a_window_of_time_forgets_by_tenths(at: float, failed: int) -> None:
    window = TimeWindow(seconds=10.0)
    window.add(FAILED, 0.5)
    window.add(FAILED, 2.5)
    assert window.tally(at).failed == failed


@pytest.mark.parametrize(
    ("marks", "state"),
    [
        ("xxx", State.CLOSED),  # fewer than calls_min
        ("x.x.", State.OPEN),
        ("x...", State.CLOSED),
        ("...xx", State.OPEN),  # the first has left the window
        ("xx..", State.OPEN),  # what makes it enough need not be a failure
    ],
)
def test_a_breaker_opens_at_its_rate_of_failures(marks: str, state: State) -> None:
    breaker = CircuitBreaker(COUNTED)
    end_calls(breaker, marks)
    assert breaker.state is state


def test_slow_calls_open_a_breaker_though_none_failed() -> None:
    breaker = CircuitBreaker(replace(COUNTED, slow_call_s=2.0, slow_rate=0.5))
    end_calls(breaker, "..", took_s=0.1)
    end_calls(breaker, "..", took_s=2.0)
    assert breaker.state is State.OPEN


def test_a_window_of_seconds_opens_where_the_calls_are_too_few_for_the_other() -> None:
    breaker = CircuitBreaker(replace(COUNTED, window_calls=100, window_s=10.0))
    end_calls(breaker, "..", now=1.0)
    end_calls(breaker, "xxxx", now=50.0)
    assert breaker.state is State.OPEN


@pytest.mark.parametrize(
    ("marks", "state"),
    [(".", State.HALF_OPEN), ("..", State.CLOSED), ("x..", State.CLOSED), ("xx", State.OPEN)],
)
def test_probes_decide_as_soon_as_they_can(marks: str, state: State) -> None:
    breaker = CircuitBreaker(COUNTED)
    breaker.open(now=0.0, for_s=5.0)
    assert breaker.refusal(now=4.9) == Refusal(Reason.BREAKER_OPEN, pytest.approx(0.1))
    assert breaker.refusal(now=5.0) is None
    end_calls(breaker, marks, now=5.0)
    assert breaker.state is state


def test_what_began_before_the_breaker_opened_says_nothing_about_a_probe() -> None:
    breaker = CircuitBreaker(COUNTED)
    early = [breaker.enter() for _ in range(3)]
    breaker.open(now=0.0, for_s=1.0)
    assert breaker.refusal(now=1.0) is None
    for entered in early:
        breaker.leave(entered, now=1.0, took_s=1.0, is_failure=True)
    assert breaker.state is State.HALF_OPEN


def test_a_thousand_callers_get_exactly_the_probes_there_are() -> None:
    breaker = CircuitBreaker(COUNTED)
    breaker.open(now=0.0, for_s=1.0)
    passed = [breaker.enter() for _ in range(1_000) if breaker.refusal(now=1.0) is None]
    assert len(passed) == COUNTED.probes


def test_a_led_breaker_waits_to_be_given_probes() -> None:
    breaker = CircuitBreaker(COUNTED)
    breaker.is_led = True
    breaker.open(now=0.0, for_s=1.0)
    assert (breaker.is_ripe(now=0.5), breaker.is_ripe(now=1.0)) == (False, True)
    assert breaker.refusal(now=1.0) is not None
    breaker.half_open(probes=0)
    breaker.grant(2)
    assert breaker.room(now=1.0) == 2
    end_calls(breaker, "xx")
    assert breaker.state is State.HALF_OPEN, "its leader judges"


def test_an_operator_opens_and_closes_whatever_the_calls_say() -> None:
    breaker = CircuitBreaker(COUNTED)
    breaker.override = Override.FORCED_OPEN
    assert breaker.room(now=0.0) == 0
    breaker.override = Override.FORCED_CLOSED
    end_calls(breaker, "xxxxxxxx")
    assert breaker.room(now=0.0) is None
    breaker.override = Override.AUTOMATIC
    assert breaker.state is State.CLOSED, "what happened under an override is not held against it"


@pytest.mark.requirement("C29")
def test_probes_that_end_while_an_operator_holds_the_breaker_are_free_again() -> None:
    breaker = CircuitBreaker(COUNTED)
    breaker.half_open(probes=1)
    probe = breaker.enter()
    breaker.override = Override.FORCED_CLOSED
    breaker.leave(probe, now=0.0, took_s=0.0, is_failure=False)
    breaker.override = Override.AUTOMATIC
    assert breaker.refusal(now=0.0) is None


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"window_calls": 0}, "at least one window"),
        ({"calls_min": 5}, "could never open"),
        ({"successes": 4}, "could never close"),
    ],
)
def test_a_breaker_that_cannot_work_is_refused(changes: dict[str, int], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        replace(COUNTED, **changes)


@pytest.mark.requirement("C26")
def test_a_bucket_gives_its_burst_and_then_its_rate() -> None:
    bucket = TokenBucket(per_s=2.0, burst=3, now=0.0)
    for _ in range(3):
        assert bucket.wait_s(now=0.0) == 0
        bucket.take()
    assert bucket.wait_s(now=0.0) == pytest.approx(0.5)
    assert bucket.available(now=100.0) == 3


def test_a_share_of_a_bucket_can_be_kept_for_others() -> None:
    bucket = TokenBucket(per_s=1.0, burst=10, now=0.0)
    for _ in range(8):
        bucket.take()
    assert bucket.wait_s(now=0.0, kept=0.2) > 0
    assert bucket.wait_s(now=0.0) == 0


def test_tokens_in_hand_are_dropped_when_nobody_uses_them_in_time() -> None:
    hand = LeasedTokens()
    hand.add(2, until=1.0)
    hand.take()
    hand.add(3, until=2.0)
    assert [hand.available(now=at) for at in (1.5, 2.0)] == [4, 0]


def test_an_empty_hand_waits_for_the_shared_bucket() -> None:
    hand = LeasedTokens()
    hand.empty_until = 4.0
    assert hand.wait_s(now=3.0) == pytest.approx(1.0)
    hand.give_back()
    assert hand.available(now=3.0) == 0, "a token whose time is over is nobody's"


@pytest.mark.requirement("C27")
def test_a_retry_storm_is_a_tenth_of_the_calls() -> None:
    budget, sent = RetryBudget(RetryBudgetPolicy(), now=0.0), 0
    for number in range(6_000):
        now = number * 0.01
        budget.call(now=now)
        for _ in range(3):
            if budget.wait_s(now=now) == 0:
                budget.take(now=now)
                sent += 1
    assert 0.09 * 6_000 < sent <= 0.1 * 6_000 + 15, "the floor's first ten come on top"


def test_what_calls_earned_for_retries_is_forgotten_with_them() -> None:
    budget = RetryBudget(RetryBudgetPolicy(ratio=1.0, floor_per_s=0.0), now=0.0)
    for _ in range(5):
        budget.call(now=0.0)
    assert (budget.available(now=5.0), budget.available(now=20.0)) == (5.0, 0.0)
    assert budget.wait_s(now=20.0) == 10.0


def test_a_limit_finds_what_a_provider_can_take_and_follows_it_down_and_up() -> None:
    limit = AdaptiveLimit(least=2, most=200)
    for capacity in (40, 20, 40):
        for _ in range(400):  # at 50 ms and `capacity` places, about ten seconds
            in_flight = limit.limit
            limit.learn(took_s=0.05 * max(1.0, in_flight / capacity), in_flight=in_flight, is_failure=False)
        assert 0.9 * capacity <= limit.limit <= 1.9 * capacity


def test_failures_lower_the_limit_but_not_below_its_least() -> None:
    limit = AdaptiveLimit(least=2, most=50)
    for _ in range(100):
        limit.learn(took_s=0.01, in_flight=1, is_failure=True)
    assert limit.limit == 2


def test_an_unused_limit_is_not_raised() -> None:
    limit = AdaptiveLimit(least=2, most=50)
    before = limit.limit
    limit.learn(took_s=0.01, in_flight=1, is_failure=False)
    assert limit.limit == before


def test_a_hedge_waits_for_the_slowest_twentieth_and_is_paid_for() -> None:
    hedging = Hedging(HedgePolicy(share_max=0.25))
    assert hedging.delay_s() is None
    for number in range(100):
        hedging.learn(took_s=number / 100)
    assert hedging.delay_s() == pytest.approx(0.95)
    assert [hedging.take() for _ in range(6)] == [True] * 5 + [False], "no more than five are saved up"


def test_a_hedge_forgets_old_durations() -> None:
    hedging = Hedging(HedgePolicy(share_max=0.5))
    for took_s in [9.0] * 100 + [0.1] * 100:
        hedging.learn(took_s=took_s)
    assert hedging.delay_s() == pytest.approx(0.1)


def test_no_share_means_no_hedge() -> None:
    hedging = Hedging(HedgePolicy(delay_s=0.1))
    hedging.learn(took_s=1.0)
    assert (hedging.delay_s(), hedging.take()) == (None, False)


def test_the_policies_are_asked_in_their_order() -> None:
    lane = OperationPolicy(breaker=COUNTED, bulkhead=BulkheadPolicy(in_flight_max=2))
    policy = GuardPolicy(
        operations={Operation.SEND: lane},
        rate=RatePolicy(per_s=0.01, burst=2, kept_for_reads=0.0),
        retry_budget=RetryBudgetPolicy(floor_per_s=0.0),
    )
    guard = Guard(policy, now=0.0)
    assert refused(guard, left_s=0.0) is Reason.DEADLINE
    assert refused(guard, is_retry=True) is Reason.RETRY_BUDGET
    permits = [admitted(guard), admitted(guard)]
    assert refused(guard) is Reason.BULKHEAD_FULL
    guard.cancel(permits.pop())
    guard.finish(permits.pop(), now=0.0, is_failure=False)
    admitted(guard)
    assert refused(guard) is Reason.RATE_LIMITED
    guard.lanes[Operation.SEND].breaker.open(now=0.0, for_s=9.0)
    assert refused(guard) is Reason.BREAKER_OPEN


def test_a_refused_call_is_charged_nowhere() -> None:
    guard = Guard(GuardPolicy(operations=SENDS, retry_budget=RetryBudgetPolicy(floor_per_s=0.1)), now=0.0)
    admitted(guard, is_retry=True)
    before = guard.retries.granted
    assert refused(guard, is_retry=True) is Reason.RETRY_BUDGET
    assert (guard.retries.granted, guard.lanes[Operation.SEND].bulkhead.in_flight) == (before, 1)


def test_one_operation_does_not_take_the_places_of_another() -> None:
    lane = OperationPolicy(bulkhead=BulkheadPolicy(in_flight_max=2))
    guard = Guard(GuardPolicy(operations={Operation.SEND: lane, Operation.LOOK_UP: lane}), now=0.0)
    for _ in range(2):
        admitted(guard)
    assert refused(guard) is Reason.BULKHEAD_FULL
    assert guard.room(Operation.LOOK_UP, now=0.0) == 2


@pytest.mark.requirement("C29")
def test_a_breaker_change_is_told_once() -> None:
    told: list[tuple[Operation, State]] = []
    policy = GuardPolicy(operations={Operation.SEND: OperationPolicy(breaker=COUNTED)})
    guard = Guard(policy, now=0.0, changed=lambda operation, state: told.append((operation, state)))
    for _ in range(8):
        if isinstance(permit := guard.admit(Operation.SEND, now=0.0, left_s=1.0), Permit):
            guard.finish(permit, now=0.0, is_failure=True)
    assert told == [(Operation.SEND, State.OPEN)]


@pytest.mark.requirement("C29")
def test_a_call_that_was_given_up_leaves_its_place_and_says_nothing_of_the_provider() -> None:
    guard = Guard(GuardPolicy(operations={Operation.SEND: OperationPolicy(breaker=COUNTED)}), now=0.0)
    lane = guard.lanes[Operation.SEND]
    for _ in range(8):
        guard.abandon(admitted(guard))
    assert (lane.breaker.state, lane.bulkhead.in_flight) == (State.CLOSED, 0)
    lane.breaker.half_open(probes=1)
    guard.abandon(admitted(guard))
    assert lane.breaker.state is State.HALF_OPEN
    admitted(guard)


@pytest.mark.requirement("C29")
def test_a_probe_that_was_given_up_keeps_its_place_while_another_may_still_decide() -> None:
    guard = Guard(GuardPolicy(operations={Operation.SEND: OperationPolicy(breaker=COUNTED)}), now=0.0)
    guard.lanes[Operation.SEND].breaker.half_open(probes=2)
    given_up, other = admitted(guard), admitted(guard)
    guard.abandon(given_up)
    assert refused(guard) is Reason.PROBES_TAKEN
    guard.finish(other, now=0.0, is_failure=False)
    admitted(guard)
    assert refused(guard) is Reason.PROBES_TAKEN
