"""Stories of members and of accounts that are taken over: the same plot is the same story, with what it must have."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.sandbox.traffic.sessions import DURATION_S, Act, Plot, PlotInvalid, frauds, tell

PLOT = Plot(seed=7, members=50, payments=500, takeovers=5)


def test_the_same_plot_is_the_same_story_and_another_seed_another() -> None:
    assert tell(PLOT) == tell(PLOT)
    assert tell(PLOT) != tell(Plot(seed=8))


def test_a_story_has_the_counts_that_its_generator_and_seed_are_published_with() -> None:
    counts = Counter(act.kind for act in tell(PLOT))
    assert counts == {
        "click": 2_178,
        "payment": 500,
        "login": 361,
        "device": 295,
        "session": 295,
        "password_change": 3,
    }
    assert len(list(frauds(tell(PLOT)))) == 22


@given(
    seed=st.integers(0, 10**6),
    members=st.integers(5, 60),
    payments=st.integers(30, 200),
    takeovers=st.integers(0, 5),
)
@settings(max_examples=30, deadline=None)
def test_a_story_is_in_order_and_has_as_many_payments_and_thefts_as_its_plot(
    seed: int, members: int, payments: int, takeovers: int
) -> None:
    story = tell(Plot(seed=seed, members=members, payments=payments, takeovers=takeovers))
    assert [act.at_s for act in story] == sorted(act.at_s for act in story)
    assert 0 <= story[0].at_s <= story[-1].at_s <= DURATION_S
    assert sum(act.kind == "payment" for act in story) == payments
    assert {act.member for act in story} <= set(range(members))
    assert len({act.member for act in frauds(story)}) == takeovers
    assert all(act.kind == "payment" for act in frauds(story))


def test_who_takes_an_account_over_tries_first_and_comes_with_a_device_that_was_never_there() -> None:
    story = tell(PLOT)
    for theft in frauds(story):
        before = [act for act in story if act.member == theft.member and act.at_s < theft.at_s]
        device = theft.says["device_id"]
        theirs = [act for act in before if act.says.get("device_id") == device]
        assert sum(_failed(act) for act in theirs) >= 4
        own = [act for act in story if act.member == theft.member and not act.is_fraud]
        devices = {act.says.get("device_id") for act in own if act.kind == "payment"}
        assert device not in devices


def _failed(act: Act) -> bool:
    return act.kind == "login" and not act.says["succeeded"]


@pytest.mark.parametrize(
    "plot",
    [{"members": 0}, {"payments": 0}, {"members": 3, "takeovers": 4}, {"payments": 20, "takeovers": 5}],
)
def test_a_plot_that_cannot_be_told_is_refused(plot: dict[str, int]) -> None:
    with pytest.raises(PlotInvalid):
        Plot(**plot)
