"""The keeper of a process's loops: a failure is logged, shown by the check and started again."""

from __future__ import annotations

import asyncio

import pytest
import structlog.testing

from faregate.infra.loops import LoopKeeper, LoopsResting


class FailingAtFirst:
    """A loop that fails in each of the given ways, then runs until it is stopped."""

    def __init__(self, *failures: BaseException) -> None:
        self.failures = list(failures)
        self.works = asyncio.Event()

    async def __call__(self, stop: asyncio.Event) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.works.set()
        await stop.wait()


async def test_a_loop_that_fails_is_logged_and_started_again_beside_the_others() -> None:
    stop, steady = asyncio.Event(), FailingAtFirst()
    failing = FailingAtFirst(RuntimeError("a fault"), asyncio.CancelledError())
    keeper = LoopKeeper({"failing": failing, "steady": steady}, rest_s_min=0.001)
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(keeper.run(stop))
        await asyncio.wait_for(failing.works.wait(), 10)
        await keeper.check()
        stop.set()
        await running
    assert [(line["loop"], type(line["exc_info"])) for line in lines] == [
        ("failing", RuntimeError),
        ("failing", asyncio.CancelledError),
    ]


async def test_a_loop_that_rests_fails_the_check_and_does_not_delay_the_end() -> None:
    stop, steady = asyncio.Event(), FailingAtFirst()
    keeper = LoopKeeper({"failing": FailingAtFirst(OSError()), "steady": steady}, rest_s_min=3600)
    running = asyncio.create_task(keeper.run(stop))
    await asyncio.wait_for(steady.works.wait(), 10)
    with pytest.raises(LoopsResting, match="failing"):
        await keeper.check()
    stop.set()
    await asyncio.wait_for(running, 10)


async def test_a_keeper_that_is_cancelled_ends_with_its_loops() -> None:
    steady = FailingAtFirst()
    running = asyncio.create_task(LoopKeeper({"steady": steady}).run(asyncio.Event()))
    await asyncio.wait_for(steady.works.wait(), 10)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_loop_that_does_not_end_when_it_should_is_cut_off_and_named() -> None:
    stop, begun = asyncio.Event(), asyncio.Event()

    async def endless(_: asyncio.Event) -> None:
        begun.set()
        await asyncio.Event().wait()

    keeper = LoopKeeper({"endless": endless, "steady": FailingAtFirst()}, drain_s_max=0.01)
    with structlog.testing.capture_logs() as lines:
        running = asyncio.create_task(keeper.run(stop))
        await asyncio.wait_for(begun.wait(), 10)
        stop.set()
        await asyncio.wait_for(running, 10)
    assert [(line["event"], line["loop"]) for line in lines] == [("loop_cut_off", "endless")]
