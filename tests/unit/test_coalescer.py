"""The coalescing writer: batches under load, isolation of a bad item, nothing left behind at close."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from faregate.infra.coalescer import STALL_S, Coalescer
from faregate.kernel.errors import UnavailableError


class Writer:
    """Records its batches; waits at a gate so that a test decides when a batch ends."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()

    async def __call__(self, items: Sequence[int]) -> list[int]:
        self.batches.append(list(items))
        await self.gate.wait()
        if -1 in items:
            raise ValueError("a bad item")
        if -2 in items:
            raise UnavailableError("the database is down")
        return [item * 10 for item in items]


async def test_a_lone_item_is_written_at_once_and_gets_its_own_result() -> None:
    writer = Writer()
    writer.gate.set()
    assert await Coalescer(write=writer).submit(4) == 40
    assert writer.batches == [[4]]


async def test_what_arrives_during_a_write_forms_the_next_batch() -> None:
    writer = Writer()
    coalescer = Coalescer(write=writer, writers_max=1)
    tasks = [asyncio.create_task(coalescer.submit(n)) for n in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    writer.gate.set()
    assert await asyncio.gather(*tasks) == [0, 10, 20, 30, 40]
    assert [item for batch in writer.batches for item in batch] == [0, 1, 2, 3, 4]
    assert len(writer.batches) <= 2


async def test_a_batch_never_exceeds_its_limit() -> None:
    writer = Writer()
    writer.gate.set()
    coalescer = Coalescer(write=writer, batch_max=3, writers_max=1)
    await asyncio.gather(*(coalescer.submit(n) for n in range(10)))
    assert max(map(len, writer.batches)) <= 3


async def test_what_follows_a_batch_closely_waits_for_more_and_forms_one_batch() -> None:
    writer = Writer()
    writer.gate.set()
    coalescer = Coalescer(write=writer, every_s=1.0)
    await coalescer.submit(0)
    tasks = []
    for n in range(1, 6):
        tasks.append(asyncio.create_task(coalescer.submit(n)))
        await asyncio.sleep(0.01)
    await asyncio.gather(*tasks)
    assert writer.batches == [[0], [1, 2, 3, 4, 5]]


async def test_a_full_batch_does_not_wait() -> None:
    writer = Writer()
    writer.gate.set()
    coalescer = Coalescer(write=writer, batch_max=2, every_s=3600.0)
    await coalescer.submit(0)
    assert await asyncio.gather(coalescer.submit(1), coalescer.submit(2)) == [10, 20]


async def test_a_bad_item_fails_alone() -> None:
    writer = Writer()
    writer.gate.set()
    coalescer = Coalescer(write=writer, writers_max=1)
    answers = await asyncio.gather(*(coalescer.submit(n) for n in (1, -1, 3)), return_exceptions=True)
    assert answers[0] == 10
    assert isinstance(answers[1], ValueError)
    assert answers[2] == 30


async def test_unavailability_reaches_every_waiter_without_more_tries() -> None:
    writer = Writer()
    coalescer = Coalescer(write=writer, writers_max=1)
    tasks = [asyncio.create_task(coalescer.submit(n)) for n in (1, -2, 3)]
    await asyncio.sleep(0)
    writer.gate.set()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    assert any(isinstance(answer, UnavailableError) for answer in answers)
    assert len(writer.batches) <= 2


async def test_close_waits_for_everything_handed_over() -> None:
    writer = Writer()
    coalescer = Coalescer(write=writer)
    task = asyncio.create_task(coalescer.submit(7))
    await asyncio.sleep(0)
    writer.gate.set()
    await coalescer.close()
    assert await task == 70


async def test_a_caller_that_gave_up_does_not_disturb_the_others() -> None:
    writer = Writer()
    coalescer = Coalescer(write=writer, writers_max=1)
    gone, stays = (asyncio.create_task(coalescer.submit(n)) for n in (1, 2))
    await asyncio.sleep(0)
    gone.cancel()
    writer.gate.set()
    assert await stays == 20
    with pytest.raises(asyncio.CancelledError):
        await gone


async def test_an_item_handed_over_just_when_the_last_writer_ends_is_written() -> None:
    async def write(items: Sequence[int]) -> Sequence[int]:
        return items

    coalescer = Coalescer(write=write, writers_max=1)

    async def hand_over(number: int) -> int:
        answer = await coalescer.submit(number)
        return answer + await coalescer.submit(number)  # before anything else runs

    async with asyncio.timeout(5):
        assert await asyncio.gather(*(hand_over(number) for number in range(3))) == [0, 2, 4]


class Hand:
    """A clock that a test moves by hand, in seconds."""

    def __init__(self) -> None:
        self.now_s = 50.0

    def __call__(self) -> float:
        return self.now_s


async def begun(writer: Writer, *, batches: int) -> None:
    """Wait until so many batches are being written or were."""
    while len(writer.batches) < batches:  # noqa: ASYNC110 - the condition is a list
        await asyncio.sleep(0)


async def test_the_delay_is_nothing_when_idle_and_at_least_what_a_stuck_batch_takes_already() -> None:
    writer, clock = Writer(), Hand()
    coalescer = Coalescer(write=writer, monotonic=clock)
    assert coalescer.delay_s() == 0.0
    stuck = asyncio.create_task(coalescer.submit(1))
    await begun(writer, batches=1)
    clock.now_s += 7.0
    assert coalescer.delay_s() == 7.0 - STALL_S
    writer.gate.set()
    await stuck
    assert coalescer.delay_s() == 0.0


async def test_the_delay_grows_with_what_waits_by_the_time_that_batches_took() -> None:
    writer, clock = Writer(), Hand()
    coalescer = Coalescer(write=writer, batch_max=2, writers_max=2, monotonic=clock)
    first = asyncio.create_task(coalescer.submit(0))
    await begun(writer, batches=1)
    clock.now_s += 0.1
    writer.gate.set()
    await first
    writer.gate.clear()
    tasks = [asyncio.create_task(coalescer.submit(n)) for n in range(10)]
    await begun(writer, batches=3)
    waiting = 10 - sum(len(batch) for batch in writer.batches[1:])
    assert coalescer.delay_s() == pytest.approx(0.03 * (1 + waiting / 4))
    writer.gate.set()
    await asyncio.gather(*tasks)


async def test_one_batch_that_stood_still_says_little_about_the_next_and_many_slow_ones_much() -> None:
    writer, clock = Writer(), Hand()
    coalescer = Coalescer(write=writer, monotonic=clock)
    delays = []
    for batch in range(1, 12):
        writer.gate.clear()
        task = asyncio.create_task(coalescer.submit(batch))
        await begun(writer, batches=batch)
        delays.append(coalescer.delay_s())
        clock.now_s += 10.0
        writer.gate.set()
        await task
    assert delays[1] < 0.1
    assert delays[-1] > 1.0
    assert delays == sorted(delays)
