"""A sender that is killed while a message is on its way: it arrives again, with the same id."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from tests.sandbox import until
from tests.webhook_world import Endpoint, Hooks, decided, open_receiver, webhooks_and_sender  # noqa: F401


@asynccontextmanager
async def sender_process(hooks: Hooks) -> AsyncIterator[asyncio.subprocess.Process]:
    arguments = ["-m", "tests.faults.webhook_process", hooks.api.database.url]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


@pytest.mark.requirement("C29")
async def test_a_message_whose_sender_was_killed_arrives_again_with_the_same_id(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.gate.clear()
    await hooks.announce(told := decided())
    async with sender_process(hooks):
        await receiver.wait(1)
    assert (await hooks.only_delivery(subscribed)).state == "pending"
    receiver.gate.set()
    async with sender_process(hooks):
        await receiver.wait(2)
        found = await until(lambda: hooks.only_delivery(subscribed), lambda d: d.state == "delivered")
    assert [arrival.id for arrival in receiver.arrivals] == [told.message_id] * 2
    assert found.attempts == 2


async def test_a_message_that_ends_its_sender_each_time_is_given_up(hooks: Hooks, receiver: Endpoint) -> None:
    subscribed = await hooks.subscribe(receiver)
    await hooks.announce(decided())
    async with hooks.api.database.connection() as conn:
        await conn.execute("update webhooks.secret set sealed = 'broken'")
    for _ in range(10):
        await hooks.deliver()
        hooks.clock.pass_by(60)
    assert (await hooks.only_delivery(subscribed)).state == "pending"
    await hooks.deliver()
    found = await hooks.only_delivery(subscribed)
    assert (found.state, found.last_error, receiver.arrivals) == ("dead", "sender_lost", [])


async def test_a_stopped_sender_finishes_what_is_on_its_way(hooks: Hooks, receiver: Endpoint) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.gate.clear()
    await hooks.announce(decided())
    stop = asyncio.Event()
    running = asyncio.create_task(hooks.sender.run(stop))
    await receiver.wait(1)
    stop.set()
    receiver.gate.set()
    await running
    assert (await hooks.only_delivery(subscribed)).state == "delivered"


async def test_the_outcome_of_a_sender_that_lost_its_claim_changes_nothing(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.gate.clear()
    await hooks.announce(decided())
    await hooks.sender.claim()
    await receiver.wait(1)
    hooks.clock.pass_by(60)
    other = await hooks.new_sender()
    await other.claim()
    await receiver.wait(2)
    receiver.status = 500
    receiver.gate.set()
    await hooks.sender.settled()
    await other.settled()
    found = await hooks.only_delivery(subscribed)
    assert (found.attempts, found.state) == (2, "pending")
