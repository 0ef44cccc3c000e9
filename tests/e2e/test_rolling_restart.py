"""Every process of a running system is restarted, one after the other, as a deployment does; clients notice nothing."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from faregate.bench.credit import wait_drained
from faregate.bench.partner import Habits, Operation, Partner
from faregate.bench.verdict import judge
from faregate.entrypoints.local_client import connected, new_token, set_faults
from faregate.entrypoints.processes import roles_of
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.supervisor import poll_until
from faregate.sandbox.people import application
from faregate.sandbox.plans import PLANS
from tests.servers import require_kafka

APPLICATIONS = 150
PATIENCE_S = 120.0


@pytest.mark.soak
@pytest.mark.timeout(400)
@pytest.mark.parametrize("kafka", [False, True], ids=["log", "kafka"])
@pytest.mark.requirement("P2")
async def test_no_request_fails_beyond_one_retry_and_nothing_is_lost_while_every_process_is_restarted(
    tmp_path: Path, database_url: str, valkey_socket: Path, kafka: bool
) -> None:
    if kafka:
        require_kafka()
    plan = Plan(
        home=tmp_path / "home",
        temporary=True,
        apis=2,
        workers=0,
        roles=roles_of(kafka=kafka),
        database_url=database_url,
        valkey_url=f"unix://{valkey_socket}",
        kafka=kafka,
    )
    operations: list[Operation] = []
    async with local_system(plan) as system, connected(system) as (site, credit, session):
        await set_faults(session, system, PLANS["calm"])
        partner = Partner(
            session=session,
            urls=system.api_urls,
            token=await new_token(site, client_id="crowd"),
            body_of=application,
            run="rolling",
            habits=Habits(rate_per_s=4.0),
            on_operation=operations.append,
        )
        submitting = asyncio.create_task(partner.submit(range(APPLICATIONS), on_progress=lambda _: None))
        for name in sorted(name for name in system.supervisor.pids() if name != "sandbox"):
            await restarted(system, name)
        submitted = await submitting
        assert await wait_drained(credit, on_progress=lambda *_: None, timeout_s=PATIENCE_S)
        verdict = await judge(
            credit=credit, session=session, sandbox_url=system.sandbox_url, submitted=submitted
        )
    assert all(verdict.checks.values()), verdict.checks
    assert len(operations) >= APPLICATIONS
    assert all(operation.is_available for operation in operations)


async def restarted(system: LocalSystem, name: str) -> None:
    """Ask a process to end, and wait until another one is ready in its place."""
    old = system.supervisor.pid(name)
    os.kill(old, signal.SIGTERM)

    async def is_replaced() -> bool:
        return system.supervisor.pid(name) != old

    assert await poll_until(is_replaced, timeout_s=PATIENCE_S)
    await system.supervisor.wait_ready(name, timeout_s=PATIENCE_S)
