"""kill -9 of the sandbox: whatever was answered was executed, and whatever was executed is still known."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

from faregate.kernel.outcome import Done, Unknown
from faregate.sandbox.faults import Fault, FaultPlan
from tests.sandbox import Sandbox, SandboxProcess, adapters, open_receiver, request

HANGING = FaultPlan.model_validate({"default": {"rates": {"hang_after": 1.0}, "hold_s": 60}})


@pytest.mark.requirement("P6")
async def test_every_answered_call_is_still_executed_after_a_kill(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path)
    async with aiohttp.ClientSession() as session:
        bureau = adapters(Sandbox(await process.start(), session))["bureau"]
        asked = [request("bureau", application=f"app_{number}") for number in range(400)]
        calls = [asyncio.create_task(bureau.submit(each, timeout_s=10)) for each in asked]
        await asyncio.wait({calls[100]})
        await process.kill()
        outcomes = await asyncio.gather(*calls)
        answered = {
            each.provider_request_id
            for each, outcome in zip(asked, outcomes, strict=True)
            if isinstance(outcome, Done)
        }
        restarted = Sandbox(await process.start(), session)
        executed = [execution["reference"] for execution in await restarted.executions()]
        await process.kill()
    assert answered
    assert answered <= set(executed)
    assert len(executed) == len(set(executed))


async def test_work_that_was_done_but_never_answered_is_found_after_a_kill(tmp_path: Path) -> None:
    process = SandboxProcess(tmp_path, HANGING)
    async with aiohttp.ClientSession() as session:
        each = adapters(Sandbox(await process.start(), session))
        outcomes = await asyncio.gather(
            *(adapter.submit(request(name), timeout_s=1) for name, adapter in each.items())
        )
        await process.kill()
        process.plan = FaultPlan()
        restarted = Sandbox(await process.start(), session)
        found = [await each[name].look_up(f"app_1:{name}:1", timeout_s=5) for name in each]
        assert await restarted.repeated_pulls() == [{"application": "app_1", "check": "bureau", "pulls": 2}]
        await process.kill()
    assert {type(outcome) for outcome in outcomes} == {Unknown}
    assert {type(outcome) for outcome in found} == {Done}


async def test_a_callback_that_was_due_when_the_sandbox_was_killed_comes_after_its_restart(
    tmp_path: Path,
) -> None:
    process = SandboxProcess(tmp_path)
    async with aiohttp.ClientSession() as session, open_receiver(status=503) as receiver:
        running = Sandbox(await process.start(), session)
        await running.script("kyc", Fault.CALLBACK_LATE)
        asked = request("kyc", callback_url=receiver.url)
        await adapters(running)["kyc"].submit(asked, timeout_s=5)
        await process.kill()
        receiver.status = 202
        before = len(receiver.deliveries)
        await process.start()
        await receiver.wait(before + 1)
        await process.kill()
