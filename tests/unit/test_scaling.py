"""When workers come and go: the rule as a table, and what holds of it whatever the backlog does."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.scaling import Backlog, Scale, ScalingPolicy, ScalingPolicyInvalid, next_scale

POLICY = ScalingPolicy(
    workers_min=1,
    workers_max=4,
    items_a_worker=100,
    idle_share=0.5,
    grow_after_s=2.0,
    shrink_after_s=10.0,
    rest_s=5.0,
)


@pytest.mark.requirement("C30")
@pytest.mark.parametrize(
    ("workers", "high_since", "low_since", "changed_at", "items", "after"),
    [
        (1, None, None, 0.0, 50, 1),  # each has less than its share
        (1, None, None, 0.0, 101, 1),  # too much, but only just
        (1, 98.5, None, 0.0, 150, 1),  # too much for 1.5 s
        (1, 98.0, None, 0.0, 150, 2),  # too much for 2 s
        (1, 98.0, None, 0.0, 390, 4),  # as many as are needed, at once
        (1, 98.0, None, 0.0, 9_999, 4),  # never more than the most
        (1, 98.0, None, 96.0, 390, 1),  # the last change is 4 s old
        (1, 98.0, None, 0.0, 100, 1),  # what was too much is gone
        (2, None, 90.0, 0.0, 49, 1),  # the other one would have less than half of its share, for 10 s
        (2, None, 90.0, 0.0, 50, 2),  # or exactly half: no reason to go
        (2, None, 90.5, 0.0, 0, 2),  # for 9.5 s
        (4, None, 90.0, 0.0, 0, 3),  # one by one
        (4, None, 90.0, 96.0, 0, 4),  # the last change is 4 s old
        (1, None, 90.0, 0.0, 0, 1),  # never less than the least
    ],
)
def test_workers_follow_a_backlog_that_lasts(
    workers: int, high_since: float | None, low_since: float | None, changed_at: float, items: int, after: int
) -> None:
    scale = Scale(workers=workers, changed_at_s=changed_at, high_since_s=high_since, low_since_s=low_since)
    backlog = Backlog(events=items)
    assert next_scale(scale, backlog=backlog, now_s=100.0, policy=POLICY).workers == after


def test_every_kind_of_waiting_work_counts() -> None:
    assert Backlog(events=1, intents=20, runs=300).items == 321


def test_a_change_begins_the_count_anew() -> None:
    grown = next_scale(
        Scale(workers=1, high_since_s=0.0), backlog=Backlog(runs=390), now_s=100.0, policy=POLICY
    )
    assert grown == Scale(workers=4, changed_at_s=100.0)


@pytest.mark.requirement("C30")
@given(backlogs=st.lists(st.integers(0, 2_000), min_size=1, max_size=60), step_s=st.floats(0.1, 5.0))
def test_the_number_stays_within_its_limits_and_changes_no_faster_than_the_rest(
    backlogs: list[int], step_s: float
) -> None:
    scale, changes = Scale(workers=1), []
    for n, items in enumerate(backlogs):
        before, now_s = scale.workers, n * step_s
        scale = next_scale(scale, backlog=Backlog(intents=items), now_s=now_s, policy=POLICY)
        assert POLICY.workers_min <= scale.workers <= POLICY.workers_max
        if scale.workers != before:
            changes.append(now_s)
    assert all(later - earlier >= POLICY.rest_s for earlier, later in pairwise(changes))


@given(items=st.integers(0, 2_000), start=st.integers(1, 4))
def test_a_steady_backlog_ends_in_a_number_that_stays(items: int, start: int) -> None:
    seen, scale = [], Scale(workers=start)
    for second in range(300):
        scale = next_scale(scale, backlog=Backlog(events=items), now_s=float(second), policy=POLICY)
        seen.append(scale.workers)
    assert len(set(seen[150:])) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"workers_min": 0},
        {"workers_min": 3, "workers_max": 2},
        {"items_a_worker": 0},
        {"idle_share": 1.0},
    ],
)
def test_limits_that_contradict_each_other_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ScalingPolicyInvalid):
        replace(POLICY, **wrong)
