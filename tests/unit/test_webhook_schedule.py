"""What an answer leads to, as a table; and the published schedule."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.webhooks.domain.schedule import (
    ATTEMPTS_MAX,
    DELAYS_S,
    DISABLED_AFTER,
    Answer,
    State,
    Verdict,
    judge,
)

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def verdict(
    answer: Answer, *, attempts: int = 1, chance: float = 0.0, failing_for: timedelta | None = None
) -> Verdict:
    since = None if failing_for is None else NOON - failing_for
    return judge(answer, attempts=attempts, now=NOON, chance=chance, failing_since=since)


def test_the_schedule_takes_75_hours_35_minutes_and_5_seconds() -> None:
    assert timedelta(seconds=sum(DELAYS_S)) == timedelta(hours=75, minutes=35, seconds=5)


@pytest.mark.parametrize(
    ("answer", "state", "disabled"),
    [
        (Answer(status=200), State.DELIVERED, None),
        (Answer(status=204), State.DELIVERED, None),
        (Answer(status=299), State.DELIVERED, None),
        (Answer(status=301), State.PENDING, None),
        (Answer(status=302), State.PENDING, None),
        (Answer(status=400), State.PENDING, None),
        (Answer(status=404), State.PENDING, None),
        (Answer(status=410), State.DEAD, "gone"),
        (Answer(status=429), State.PENDING, None),
        (Answer(status=500), State.PENDING, None),
        (Answer(error="timed_out"), State.PENDING, None),
    ],
)
def test_a_first_answer_leads_to(answer: Answer, state: State, disabled: str | None) -> None:
    found = verdict(answer)
    assert (found.state, found.disabled) == (state, disabled)
    assert (found.next_at is not None) == (state is State.PENDING)


@pytest.mark.parametrize("attempts", range(1, ATTEMPTS_MAX))
def test_a_failed_attempt_is_repeated_after_the_delay_of_the_next_one(attempts: int) -> None:
    found = verdict(Answer(status=500), attempts=attempts)
    assert found.next_at == NOON + timedelta(seconds=DELAYS_S[attempts])


def test_after_the_last_attempt_a_message_is_given_up() -> None:
    assert verdict(Answer(status=500), attempts=ATTEMPTS_MAX) == Verdict(state=State.DEAD)


@given(st.integers(1, ATTEMPTS_MAX - 1), st.floats(0, 1, exclude_max=True))
def test_jitter_never_shortens_a_delay_and_stretches_it_by_a_tenth_at_most(
    attempts: int, chance: float
) -> None:
    found = verdict(Answer(error="timed_out"), attempts=attempts, chance=chance).next_at
    assert found is not None
    waited_s = (found - NOON).total_seconds()
    assert DELAYS_S[attempts] <= waited_s <= DELAYS_S[attempts] * 1.1 + 1e-6


@pytest.mark.parametrize("status", [429, 502, 503, 504])
@pytest.mark.parametrize(
    ("asked", "paused_s"), [(None, 30), (0, None), (7, 7), (3600, 3600), (10**9, 86_400)]
)
def test_an_endpoint_that_is_too_busy_is_left_alone_as_long_as_it_asks(
    status: int, asked: float | None, paused_s: float | None
) -> None:
    found = verdict(Answer(status=status, retry_after_s=asked))
    assert found.paused_until == (None if paused_s is None else NOON + timedelta(seconds=paused_s))
    assert found.next_at == NOON + timedelta(seconds=max(DELAYS_S[1], paused_s or 0))


def test_an_endpoint_at_which_nothing_arrived_for_days_is_disabled() -> None:
    assert verdict(Answer(status=500), failing_for=DISABLED_AFTER).disabled == "failing"
    assert verdict(Answer(status=500), failing_for=DISABLED_AFTER - timedelta(seconds=1)).disabled is None
    assert verdict(Answer(status=200), failing_for=DISABLED_AFTER).disabled is None
