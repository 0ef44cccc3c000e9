"""Who of a process's runs works next."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.infra.workflow.turns import Turns

pytestmark = pytest.mark.requirement("C30")


async def settle() -> None:
    """Let every task that can go on do so."""
    for _ in range(5):
        await asyncio.sleep(0)


async def test_who_goes_on_comes_before_who_begins_and_each_in_order() -> None:
    turns, order = Turns(1), []

    async def work(name: str, *, goes_on: bool) -> None:
        await turns.take(goes_on=goes_on)
        order.append(name)

    await turns.take(goes_on=False)
    tasks = [asyncio.create_task(work(f"new {n}", goes_on=False)) for n in range(3)]
    await settle()
    tasks += [asyncio.create_task(work(f"old {n}", goes_on=True)) for n in range(2)]
    await settle()
    for _ in tasks:
        turns.give()
        await settle()
    assert order == ["old 0", "old 1", "new 0", "new 1", "new 2"]


@given(st.lists(st.sampled_from(["new", "old", "end", "cancel"]), max_size=60), st.integers(1, 3))
@settings(max_examples=60, deadline=None)
async def test_never_more_turns_than_there_are_and_none_is_lost(steps: list[str], most: int) -> None:
    turns, working, tasks = Turns(most), [0], []

    async def work(*, goes_on: bool) -> None:
        await turns.take(goes_on=goes_on)
        working[0] += 1
        assert working[0] <= most

    for step in steps:
        if step in {"new", "old"}:
            tasks.append(asyncio.create_task(work(goes_on=step == "old")))
        elif step == "end" and working[0]:
            working[0] -= 1
            turns.give()
        elif step == "cancel" and tasks:
            tasks[-1].cancel()  # at times in the moment in which its turn comes
        if len(tasks) % 2:
            await settle()
    await settle()
    while working[0]:
        working[0] -= 1
        turns.give()
        await settle()
    assert all(task.done() for task in tasks)
    assert [task.exception() for task in tasks if not task.cancelled()] == [None] * sum(
        not task.cancelled() for task in tasks
    )
    for _ in range(most):
        await asyncio.wait_for(turns.take(goes_on=False), 1)
