"""What a policy did not let through was not sent: where it goes instead, and what a breaker counts as a failure."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from faregate.gateway.contracts import Capabilities
from faregate.gateway.intent import Intent, State, Status
from faregate.gateway.policies.refusals import Reason, Refusal
from faregate.gateway.policy import FallbackUnsafe, Policies, RetryPolicy, Route, Rules
from faregate.gateway.settlement import (
    Change,
    Moment,
    Step,
    after_refusal,
    is_failure,
    look_up_refused,
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
ALONE = Rules(capabilities=CAPABILITIES, retry=RetryPolicy())
WITH_FALLBACK = replace(ALONE, fallback="bureau_alt")
CLAIMED = Intent(
    provider_request_id="app_1:bureau:1",
    subject_id="app_1",
    check="bureau",
    provider="bureau",
    attempt=1,
    state=State.SENDING,
    deadline=START + timedelta(seconds=10),
    sends=2,
)
DIVERTED = replace(CLAIMED, state=State.DECLARED, sends=1)


def at(seconds: float, *, chance: float = 0.0) -> Moment:
    now = START + timedelta(seconds=seconds)
    return Moment(now=now, started_at=now, chance=chance)


def after(change: Change) -> tuple[str, float | None, str | None]:
    """State, seconds until it is due, and who is asked instead."""
    due_at, successor = change.intent.next_at, change.successor
    due_s = None if due_at is None else (due_at - START).total_seconds()
    return change.intent.state, due_s, successor.provider if successor else None


@pytest.mark.requirement("C15")
@pytest.mark.requirement("C29")
@pytest.mark.parametrize(
    ("reason", "retry_after_s", "rules", "doubtful", "expected"),
    [
        (Reason.BREAKER_OPEN, 3.0, WITH_FALLBACK, False, ("not_done", None, "bureau_alt")),
        (Reason.BREAKER_OPEN, 3.0, WITH_FALLBACK, True, ("declared", 4.0, None)),  # it may have been executed
        (Reason.BREAKER_OPEN, 3.0, ALONE, False, ("declared", 4.0, None)),
        (Reason.PROBES_TAKEN, 0.1, WITH_FALLBACK, False, ("not_done", None, "bureau_alt")),
        (Reason.RETRY_BUDGET, 1.0, WITH_FALLBACK, False, ("not_done", None, "bureau_alt")),
        (Reason.RETRY_BUDGET, 1.0, ALONE, False, ("declared", 2.0, None)),
        (Reason.RATE_LIMITED, 2.0, WITH_FALLBACK, False, ("declared", 3.0, None)),
        (Reason.RATE_LIMITED, 9.0, WITH_FALLBACK, False, ("not_done", None, "bureau_alt")),  # no time to wait
        (Reason.RATE_LIMITED, 60.0, ALONE, False, ("declared", 10.0, None)),  # its deadline
        (Reason.BULKHEAD_FULL, 0.5, WITH_FALLBACK, False, ("declared", 1.5, None)),
    ],
)
def test_what_is_refused_waits_or_goes_elsewhere(
    reason: Reason,
    retry_after_s: float,
    rules: Rules,
    doubtful: bool,
    expected: tuple[str, float | None, str | None],
) -> None:
    intent = replace(DIVERTED, doubtful=doubtful)
    assert after(after_refusal(intent, Refusal(reason, retry_after_s), at=at(1), rules=rules)) == expected


def test_a_refused_send_was_no_send() -> None:
    refusal = Refusal(Reason.RATE_LIMITED, 1.0)
    assert after_refusal(CLAIMED, refusal, at=at(1), rules=ALONE).intent.sends == 1
    assert after_refusal(DIVERTED, refusal, at=at(1), rules=ALONE).intent.sends == 1


def test_what_was_refused_together_does_not_come_back_together() -> None:
    refusal = Refusal(Reason.RATE_LIMITED, 5.0)
    due = {
        after(after_refusal(CLAIMED, refusal, at=at(1, chance=c), rules=ALONE))[1] for c in (0.0, 0.5, 1.0)
    }
    assert due == {6.0, 6.5, 7.0}


@pytest.mark.parametrize("settled", [None, Status.UNKNOWN])
def test_a_refused_look_up_counts_as_none(settled: Status | None) -> None:
    unknown = replace(CLAIMED, state=State.UNKNOWN, looks=3, settled=settled, doubtful=True)
    change = look_up_refused(unknown, Refusal(Reason.BREAKER_OPEN, 2.0), at=at(1), rules=WITH_FALLBACK)
    assert (change.intent.state, change.intent.looks, change.successor) == (State.UNKNOWN, 3, None)
    assert change.intent.next_at is not None


@pytest.mark.parametrize(
    ("step", "outcome", "expected"),
    [
        (Step.SEND, Done({}), False),
        (Step.SEND, Accepted(1.0), False),
        (Step.SEND, NotDone("bad_request"), False),
        (Step.SEND, NotDone("unavailable", retryable=True), True),
        (Step.SEND, NotDone("not_connected", retryable=True), True),
        (Step.SEND, NotDone("rate_limited", retryable=True, retry_after_s=1.0), False),
        (Step.SEND, Unknown("timeout"), True),
        (Step.LOOK_UP, NotDone("not_found", retryable=True), False),
        (Step.LOOK_UP, Unknown("http_500"), True),
    ],
)
def test_a_breaker_counts_what_tells_of_the_provider(step: Step, outcome: Outcome, expected: bool) -> None:
    assert is_failure(step, outcome) is expected


@pytest.mark.requirement("C23")
def test_nobody_else_is_asked_after_a_provider_whose_refusals_count_as_executed() -> None:
    refusing = replace(CAPABILITIES, refusal_is_executed=True)
    both = {"bureau": refusing, "bureau_alt": replace(CAPABILITIES, provider="bureau_alt")}
    with pytest.raises(FallbackUnsafe, match="counts as executed"):
        Policies(
            routes={"bureau": Route(check="bureau", providers=("bureau", "bureau_alt"))}, capabilities=both
        )
    Policies(routes={"bureau": Route(check="bureau", providers=("bureau_alt", "bureau"))}, capabilities=both)
