"""The single writer: whoever decides one application, from wherever, and however late, there is one first decision."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import orjson
import pytest

from faregate.credit.domain.application import DecisionSuperseded
from faregate.credit.domain.decision import decide, inputs_document
from faregate.credit.handlers.recording import decision_of, inputs_of
from faregate.credit.store.applications import LockedApplication, lock_application
from faregate.credit.store.decisions import insert_decision
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection
from faregate.infra.workflow import Workflow
from faregate.infra.workflow.leases import Lease
from faregate.infra.workflow.steps import DeclaredDead, Slots, TableRun
from faregate.infra.workflow.waiting import WaitingRoom
from tests.credit_desk import Desk, desk_of_module, servers_of_module  # noqa: F401

pytestmark = pytest.mark.asyncio(loop_scope="module")

PROCESSES, DECIDERS = 2, 4


@asynccontextmanager
async def decider_processes(desk: Desk, application: str) -> AsyncIterator[list[asyncio.subprocess.Process]]:
    """Start processes whose deciders stand ready, each on a connection of its own."""
    command = [sys.executable, "-m", "tests.decider_process", application]
    pipes = {"stdin": asyncio.subprocess.PIPE, "stdout": asyncio.subprocess.PIPE}
    processes = [
        await asyncio.create_subprocess_exec(*command, str(DECIDERS), **pipes) for _ in range(PROCESSES)
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write(f"{desk.database.url}\n".encode())
    for process in processes:
        assert process.stdout
        assert await process.stdout.readline() == b"ready\n"
    yield processes
    for process in processes:
        assert await process.wait() == 0


async def answers(process: asyncio.subprocess.Process) -> list[str]:
    output, _ = await process.communicate(b"go\n")
    return list(orjson.loads(output))


class Zombie:
    """A worker in the middle of its deciding step: it holds the application, and is declared dead before its commit."""

    def __init__(self, desk: Desk, *, lease: Lease) -> None:
        self.desk, self.lease = desk, lease
        self.has_decided, self.may_commit = asyncio.Event(), asyncio.Event()

    async def work(self, application: str) -> None:
        async def body(_: object) -> None: ...

        workflow = Workflow(name="zombie", body=body, database=self.desk.database, working_max=1)
        run = TableRun(
            id=application,
            input={},
            workflow=workflow,
            slots=Slots(workflow="zombie", working_max=1, connections_max=1),
            waiting=WaitingRoom(database=self.desk.database, clock=SystemClock()),
            worker=self.lease.number,
            idle_ms=60_000,
        )
        await run.transaction("decide", lambda conn: self._decide(conn, application))

    async def _decide(self, conn: Connection, application: str) -> dict[str, str]:
        decided = await self.desk.service.decide(conn, application)
        self.has_decided.set()
        await self.may_commit.wait()
        return decided


async def everything_about(desk: Desk, application: str) -> dict[str, Any]:
    decisions = await desk.sql(
        "select version from credit.decision where application_id = %(id)s", id=application
    )
    trail = await desk.credit.audit_trail(application_id=application)
    return {
        "versions": [row["version"] for row in decisions],
        "announced": Counter(event["type"] for event in await desk.announced(application)),
        "entries": Counter(entry["action"] for entry in trail),
    }


@pytest.mark.requirement("C18")
async def test_ten_deciders_of_several_processes_two_of_them_dead_make_one_decision(desk: Desk) -> None:
    application = await desk.checked()
    async with AsyncExitStack() as stack:
        leases = await desk.world.site.database(stack, "workflow", connections_max=2)
        async with desk.database.transaction() as conn:
            seen_before = await lock_application(conn, application)
        zombie = Zombie(desk, lease=await Lease.enter(leases, length_s=0))
        working = asyncio.create_task(zombie.work(application))
        await zombie.has_decided.wait()
        async with decider_processes(desk, application) as processes:
            racing = [asyncio.create_task(answers(process)) for process in processes]
            assert await (await Lease.enter(leases, length_s=60)).renew()  # it declares the expired one dead
            zombie.may_commit.set()
            with pytest.raises(DeclaredDead):
                await working
            statuses = [status for found in await asyncio.gather(*racing) for status in found]
    assert statuses == ["approved"] * PROCESSES * DECIDERS
    with pytest.raises(DecisionSuperseded):
        await decide_as_seen(desk, seen_before)
    assert await everything_about(desk, application) == {
        "versions": [1],
        "announced": {"credit.decision.ready": 1, "credit.decision.finalized": 1},
        "entries": {"application.submitted": 1, "decision.finalized": 1},
    }


async def decide_as_seen(desk: Desk, application: LockedApplication) -> None:
    """Write the first decision on what was read a while ago, without a lock."""
    inputs = inputs_of(application)
    async with desk.database.transaction() as conn:
        now = SystemClock().now()
        ruleset = await desk.service.rulesets.active(conn, name="card-eligibility", at=now)
        result = decide(inputs, scorecard=desk.service.scorecard, ruleset=ruleset)
        made = decision_of(application, inputs_document(inputs), result, actor="zombie")
        await insert_decision(conn, made, now=now)


@pytest.mark.requirement("C18")
async def test_of_two_who_decide_at_once_without_a_lock_one_is_told_that_it_came_too_late(desk: Desk) -> None:
    application = await desk.checked()
    async with desk.database.transaction() as conn:
        seen = await lock_application(conn, application)
    both = await asyncio.gather(*(decide_as_seen(desk, seen) for _ in range(2)), return_exceptions=True)
    assert [type(answer) for answer in both if answer is not None] == [DecisionSuperseded]
    assert (await everything_about(desk, application))["versions"] == [1]
