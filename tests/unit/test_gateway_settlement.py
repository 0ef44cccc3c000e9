"""What follows from an outcome, as a table: state × outcome × capabilities × time → the next state."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from faregate.gateway.contracts import Capabilities
from faregate.gateway.intent import Intent, NewIntent, State, Status
from faregate.gateway.policy import Policies, ProviderPolicy, RetryPolicy, Route, Rules
from faregate.gateway.settlement import (
    Change,
    Moment,
    Step,
    after_callback,
    after_look_up,
    after_send,
    at_deadline,
    call_timeout_s,
    next_step,
)
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

START = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
CAPABILITIES = Capabilities(
    provider="bureau",
    asynchronous=False,
    deduplicates=False,
    look_up_lag_s_max=2.0,
    timeout_s=1.0,
    callback=False,
    polls=False,
)
ONE_SHOT = Rules(capabilities=CAPABILITIES, retry=RetryPolicy(sends_max=2))
WITH_FALLBACK = replace(ONE_SHOT, fallback="bureau_alt")
DEDUPLICATING = replace(ONE_SHOT, capabilities=replace(CAPABILITIES, deduplicates=True))
POLLING = replace(ONE_SHOT, capabilities=replace(CAPABILITIES, polls=True))

FACTS = Done({"credit_history": "good"}, b"raw")
BUSY = NotDone("overloaded", retryable=True)
REFUSED = NotDone("malformed")
NOT_FOUND = NotDone("not_found")
LOST = Unknown("timeout")


def second(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def at(seconds: float, *, started: float | None = None, chance: float = 1.0) -> Moment:
    return Moment(
        now=second(seconds), started_at=second(seconds if started is None else started), chance=chance
    )


def intent(state: State = State.SENDING, **fields: object) -> Intent:
    plain = Intent(
        provider_request_id="app_1:bureau:1",
        subject_id="app_1",
        check="bureau",
        provider="bureau",
        attempt=1,
        state=state,
        deadline=second(10),
        sends=1,
    )
    return replace(plain, **fields)  # type: ignore[arg-type]


def shape(change: Change) -> tuple[str, str | None, str | None]:
    """What a row of the tables below compares: state, what the owner is told, the request declared next."""
    successor = change.successor
    following = f"{successor.provider}:{successor.attempt}" if successor else None
    return change.intent.state, change.tell, following


UNKNOWN_SENT = {"state": State.UNKNOWN, "sent_end": second(1), "doubtful": True}
NOT_FOUND_ONCE = UNKNOWN_SENT | {"reason": "not_found", "looks": 1}
"""A first look-up found nothing at 1 s."""


@pytest.mark.requirement("C23")
@pytest.mark.parametrize(
    ("outcome", "sends", "doubtful", "now", "rules", "expected"),
    [
        # outcome        sends doubt  now  rules           state        told        next
        (FACTS, 1, False, 1, ONE_SHOT, ("done", "done", None)),
        (FACTS, 2, True, 1, DEDUPLICATING, ("done", "done", None)),
        (Accepted(1.0), 1, False, 1, ONE_SHOT, ("accepted", None, None)),
        (LOST, 1, False, 1, ONE_SHOT, ("unknown", None, None)),
        (LOST, 2, False, 1, WITH_FALLBACK, ("unknown", None, None)),
        (LOST, 1, False, 10, WITH_FALLBACK, ("unknown", "unknown", None)),
        (BUSY, 1, False, 1, ONE_SHOT, ("declared", None, None)),
        (BUSY, 1, False, 9.99, ONE_SHOT, ("not_done", "not_done", None)),
        (BUSY, 2, False, 1, ONE_SHOT, ("not_done", "not_done", None)),
        (BUSY, 2, False, 1, WITH_FALLBACK, ("not_done", None, "bureau_alt:1")),
        (BUSY, 2, False, 9.99, WITH_FALLBACK, ("not_done", "not_done", None)),
        (BUSY, 2, True, 1, DEDUPLICATING, ("unknown", None, None)),
        (REFUSED, 1, False, 1, ONE_SHOT, ("not_done", "not_done", None)),
        (REFUSED, 1, False, 1, WITH_FALLBACK, ("not_done", None, "bureau_alt:1")),
        (REFUSED, 2, True, 1, DEDUPLICATING, ("unknown", None, None)),
    ],
)
def test_a_send_is_judged_by_this_table(
    outcome: Outcome,
    sends: int,
    doubtful: bool,
    now: float,
    rules: Rules,
    expected: tuple[str, str | None, str | None],
) -> None:
    sent = intent(sends=sends, doubtful=doubtful)
    assert shape(after_send(sent, outcome, at=at(now), rules=rules)) == expected


@pytest.mark.requirement("C5")
@pytest.mark.parametrize(
    ("outcome", "sends", "started", "rules", "expected"),
    [
        # Nothing was found at 1 s, and the provider may lag by 2 s: "not found" is final only after 3 s.
        (FACTS, 1, 2, ONE_SHOT, ("done", "done", None)),
        (Accepted(1.0), 1, 2, ONE_SHOT, ("accepted", None, None)),
        (LOST, 1, 2, ONE_SHOT, ("unknown", None, None)),
        (BUSY, 1, 9, ONE_SHOT, ("unknown", None, None)),
        (REFUSED, 1, 2, ONE_SHOT, ("not_done", "not_done", None)),
        (REFUSED, 1, 2, WITH_FALLBACK, ("not_done", None, "bureau_alt:1")),
        (NOT_FOUND, 1, 2, WITH_FALLBACK, ("unknown", None, None)),
        (NOT_FOUND, 1, 3, WITH_FALLBACK, ("unknown", None, None)),
        (NOT_FOUND, 1, 3.01, WITH_FALLBACK, ("not_done", None, "bureau:2")),
        (NOT_FOUND, 2, 3.01, WITH_FALLBACK, ("not_done", None, "bureau_alt:1")),
        (NOT_FOUND, 2, 3.01, ONE_SHOT, ("not_done", "not_done", None)),
        (NOT_FOUND, 1, 2, DEDUPLICATING, ("declared", None, None)),
        (NOT_FOUND, 2, 2, DEDUPLICATING, ("unknown", None, None)),
        (NOT_FOUND, 1, 3.01, DEDUPLICATING, ("declared", None, None)),
        (NOT_FOUND, 2, 3.01, DEDUPLICATING, ("not_done", "not_done", None)),
    ],
)
def test_a_look_up_is_judged_by_this_table(
    outcome: Outcome, sends: int, started: float, rules: Rules, expected: tuple[str, str | None, str | None]
) -> None:
    asked = intent(**NOT_FOUND_ONCE, sends=sends)  # type: ignore[arg-type]
    change = after_look_up(asked, outcome, at=at(started + 0.1, started=started), rules=rules)
    assert shape(change) == expected


@pytest.mark.requirement("C5")
def test_the_lag_counts_from_the_first_answer_of_a_provider_that_may_have_stood_still() -> None:
    asked = intent(**UNKNOWN_SENT, sends=1)  # type: ignore[arg-type]
    first = after_look_up(asked, NOT_FOUND, at=at(6, started=5), rules=ONE_SHOT)
    early = after_look_up(first.intent, NOT_FOUND, at=at(8.1, started=8), rules=ONE_SHOT)
    final = after_look_up(first.intent, NOT_FOUND, at=at(8.1, started=8.01), rules=ONE_SHOT)
    assert [shape(change)[0] for change in (first, early, final)] == ["unknown", "unknown", "not_done"]


@pytest.mark.requirement("C5")
def test_a_look_up_without_an_answer_lets_the_lag_begin_anew() -> None:
    silent = after_look_up(intent(**NOT_FOUND_ONCE), LOST, at=at(4), rules=ONE_SHOT)  # type: ignore[arg-type]
    again = after_look_up(silent.intent, NOT_FOUND, at=at(5), rules=ONE_SHOT)
    assert (again.intent.state, again.intent.sent_end) == (State.UNKNOWN, second(5))


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    ("state", "settled", "outcome", "expected"),
    [
        (State.DECLARED, None, FACTS, ("done", "done", None)),
        (State.SENDING, None, FACTS, ("done", "done", None)),
        (State.ACCEPTED, None, FACTS, ("done", "done", None)),
        (State.UNKNOWN, None, FACTS, ("done", "done", None)),
        (State.UNKNOWN, Status.UNKNOWN, FACTS, ("done", "done", None)),
        (State.ACCEPTED, None, REFUSED, ("not_done", None, "bureau_alt:1")),
        (State.ACCEPTED, None, BUSY, ("not_done", None, "bureau:2")),
        (State.UNKNOWN, Status.UNKNOWN, REFUSED, ("not_done", None, None)),
        (State.DONE, Status.DONE, REFUSED, None),
        (State.DONE, Status.DONE, FACTS, None),
        (State.NOT_DONE, Status.NOT_DONE, FACTS, None),
        (State.ACCEPTED, None, Accepted(1.0), None),
        (State.ACCEPTED, None, LOST, None),
    ],
)
def test_a_callback_is_judged_by_this_table(
    state: State,
    settled: Status | None,
    outcome: Outcome,
    expected: tuple[str, str | None, str | None] | None,
) -> None:
    change = after_callback(intent(state, settled=settled), outcome, at=at(2), rules=WITH_FALLBACK)
    assert (shape(change) if change else None) == expected


@pytest.mark.requirement("C29")
@pytest.mark.parametrize(
    ("state", "doubtful", "expected"),
    [
        (State.DECLARED, False, ("not_done", "not_done", None)),
        (State.SENDING, False, ("not_done", "not_done", None)),
        (State.DECLARED, True, ("unknown", "unknown", None)),
        (State.UNKNOWN, True, ("unknown", "unknown", None)),
        (State.ACCEPTED, False, ("accepted", "unknown", None)),
    ],
)
def test_the_end_of_the_budget_is_judged_by_this_table(
    state: State, doubtful: bool, expected: tuple[str, str | None, str | None]
) -> None:
    assert shape(at_deadline(intent(state, doubtful=doubtful), at=at(10), rules=WITH_FALLBACK)) == expected


def test_facts_and_raw_answer_go_with_a_done() -> None:
    change = after_send(intent(), FACTS, at=at(1), rules=ONE_SHOT)
    assert (change.facts, change.raw, change.intent.next_at) == ({"credit_history": "good"}, b"raw", None)


def test_a_retry_waits_a_random_part_of_an_exponential_bound() -> None:
    rules = replace(ONE_SHOT, retry=RetryPolicy(sends_max=9, backoff_s=0.5))
    waits = [
        after_send(intent(sends=sends), BUSY, at=at(1, chance=0.5), rules=rules).intent.next_at
        for sends in (1, 2, 3)
    ]
    assert waits == [second(1.25), second(1.5), second(2)]


def test_a_retry_comes_no_earlier_than_the_provider_asks_for() -> None:
    change = after_send(intent(), NotDone("busy", retryable=True, retry_after_s=3), at=at(1), rules=ONE_SHOT)
    assert change.intent.next_at == second(4)


def test_a_provider_that_asks_for_more_patience_than_there_is_makes_room_for_the_fallback() -> None:
    busy = NotDone("busy", retryable=True, retry_after_s=30)
    assert shape(after_send(intent(), busy, at=at(1), rules=WITH_FALLBACK))[2] == "bureau_alt:1"


def test_a_further_attempt_carries_what_was_sent_before() -> None:
    asked = intent(**NOT_FOUND_ONCE, traceparent="00-1-2-01")  # type: ignore[arg-type]
    change = after_look_up(asked, NOT_FOUND, at=at(4, chance=0.5), rules=ONE_SHOT)
    assert change.successor == NewIntent(
        subject_id="app_1",
        check="bureau",
        provider="bureau",
        deadline=second(10),
        attempt=2,
        sends=1,
        delay_s=0.05,
        traceparent="00-1-2-01",
    )


def test_an_early_not_found_is_asked_again_as_soon_as_it_can_be_final() -> None:
    patient = replace(ONE_SHOT, retry=RetryPolicy(look_up_s=5.0))
    asked = intent(**NOT_FOUND_ONCE)  # type: ignore[arg-type]
    change = after_look_up(asked, NOT_FOUND, at=at(2), rules=patient)
    assert second(3) < (change.intent.next_at or START) < second(3.01)


def test_a_lost_callback_is_asked_for_at_half_the_rest_of_the_budget() -> None:
    change = after_send(intent(), Accepted(60.0), at=at(2), rules=ONE_SHOT)
    assert change.intent.next_at == second(6)


def test_a_lost_callback_costs_a_long_budget_only_its_longest_wait() -> None:
    change = after_send(intent(deadline=second(500)), Accepted(60.0), at=at(2), rules=ONE_SHOT)
    assert change.intent.next_at == second(2 + RetryPolicy().callback_s_max)


def test_a_polling_provider_says_when_to_ask() -> None:
    assert after_send(intent(), Accepted(1.5), at=at(2), rules=POLLING).intent.next_at == second(3.5)


def test_nothing_is_due_after_the_deadline_before_the_owner_was_told() -> None:
    change = after_send(intent(), Accepted(60.0), at=at(2), rules=POLLING)
    assert change.intent.next_at == second(10)


def test_after_the_budget_asking_goes_on_ever_more_patiently_and_ends() -> None:
    ended = at_deadline(intent(State.UNKNOWN), at=at(10), rules=ONE_SHOT).intent
    waits = []
    now = ended.next_at
    while now is not None:
        moment = Moment(now=now, started_at=START, chance=1.0)
        ended = after_look_up(ended, LOST, at=moment, rules=ONE_SHOT).intent
        waits.append((ended.next_at - now).total_seconds() if ended.next_at else None)
        now = ended.next_at
    assert waits[:3] == [0.2, 0.4, 0.8]
    assert max(wait for wait in waits if wait) == 60.0
    assert len(waits) < 30


@pytest.mark.parametrize(
    ("state", "settled", "now", "expected"),
    [
        (State.SENDING, None, 1, Step.SEND),
        (State.SENDING, None, 9.99, Step.EXPIRE),
        (State.DECLARED, None, 10, Step.EXPIRE),
        (State.UNKNOWN, None, 1, Step.LOOK_UP),
        (State.ACCEPTED, None, 1, Step.LOOK_UP),
        (State.ACCEPTED, None, 10, Step.EXPIRE),
        (State.UNKNOWN, Status.UNKNOWN, 11, Step.LOOK_UP),
    ],
)
def test_the_next_step_follows_from_state_and_time(
    state: State, settled: Status | None, now: float, expected: Step
) -> None:
    assert next_step(intent(state, settled=settled), now=second(now), rules=ONE_SHOT) is expected


def test_a_call_never_outlasts_the_budget() -> None:
    assert call_timeout_s(intent(), now=second(1), rules=ONE_SHOT) == 1.0
    assert call_timeout_s(intent(), now=second(9.5), rules=ONE_SHOT) == 0.5
    assert call_timeout_s(intent(settled=Status.UNKNOWN), now=second(11), rules=ONE_SHOT) == 1.0


def test_rules_come_from_route_provider_and_policy() -> None:
    route = Route(check="bureau", providers=("bureau", "bureau_alt"))
    alt = replace(CAPABILITIES, provider="bureau_alt")
    policies = Policies(
        routes={"bureau": route},
        capabilities={"bureau": CAPABILITIES, "bureau_alt": alt},
        providers={"bureau": ProviderPolicy(retry=RetryPolicy(sends_max=7), timeout_s=0.7)},
    )
    first = policies.rules(check="bureau", provider="bureau")
    last = policies.rules(check="bureau", provider="bureau_alt")
    assert (first.fallback, first.retry.sends_max, first.capabilities.timeout_s) == ("bureau_alt", 7, 0.7)
    assert (last.fallback, last.retry, last.capabilities) == (None, RetryPolicy(), alt)
