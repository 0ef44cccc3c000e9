"""What the signal processor makes of a batch before it writes anything."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.domain.checks import CHECK_OF_PROVIDER, attempt_of, check_of
from faregate.credit.handlers.checks import newest_signals
from faregate.events.credit import ExternalCompleted

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@st.composite
def outcomes(draw: st.DrawFn) -> ExternalCompleted:
    application = draw(st.sampled_from(["app_1", "app_2"]))
    provider = draw(st.sampled_from(sorted(CHECK_OF_PROVIDER)))
    status = draw(st.sampled_from(["done", "not_done", "unknown"]))
    return ExternalCompleted.model_validate(
        {
            "application_id": application,
            "provider": provider,
            "provider_request_id": f"{application}:{provider}:{draw(st.integers(1, 3))}",
            "status": status,
            "signal_payload": {"answer": draw(st.integers(0, 9))} if status == "done" else {},
            "received_at": NOON + timedelta(seconds=draw(st.integers(0, 60))),
        }
    )


BATCHES = st.lists(outcomes(), max_size=12)


def key_of(event: ExternalCompleted) -> tuple[str, str]:
    return event.application_id, check_of(event.provider)


@pytest.mark.requirement("C16")
@given(BATCHES)
def test_a_batch_leaves_one_signal_for_each_application_and_check_in_it(
    batch: list[ExternalCompleted],
) -> None:
    signals = newest_signals(batch)
    assert signals.keys() == {key_of(event) for event in batch}
    assert all((s.application_id, s.check) == key for key, s in signals.items())


@pytest.mark.requirement("C16")
@given(BATCHES)
def test_the_first_answer_of_the_latest_attempt_stays_and_without_one_the_last_outcome(
    batch: list[ExternalCompleted],
) -> None:
    for key, signal in newest_signals(batch).items():
        same = [event for event in batch if key_of(event) == key]
        answers = [event for event in same if event.status == "done"]
        wanted = max(answers, key=lambda e: attempt_of(e.provider_request_id), default=same[-1])
        assert signal.provider_request_id == wanted.provider_request_id
        assert (signal.status, signal.facts) == (wanted.status, wanted.signal_payload)


@pytest.mark.requirement("C9")
@given(BATCHES)
def test_a_batch_that_comes_twice_leaves_the_same_signals(batch: list[ExternalCompleted]) -> None:
    assert newest_signals([*batch, *batch]) == newest_signals(batch)
