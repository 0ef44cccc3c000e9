"""Worker processes that come with a backlog and go when it is drained: real processes, real work."""

from __future__ import annotations

from pathlib import Path

import aiohttp
import psutil
import pytest

from faregate.bench.credit import wait_drained
from faregate.bench.partner import Habits, Partner, Submitted
from faregate.entrypoints.local_client import connected, new_token, scaled
from faregate.infra.local_system import WORKER_NICENESS, LocalSystem, Plan, local_system
from faregate.infra.scaling import ScalingPolicy
from faregate.infra.supervisor import poll_until
from faregate.sandbox.people import application

APPLICATIONS = 80
PATIENCE_S = 60.0
EAGER = ScalingPolicy(
    workers_min=1, workers_max=2, items_a_worker=10, grow_after_s=0.0, shrink_after_s=0.5, rest_s=0.5
)


async def metrics_of(system: LocalSystem, session: aiohttp.ClientSession) -> str:
    """Read the metrics of the first worker."""
    url = system.supervisor.ready_url("worker-1").replace("/readyz", "/metrics")
    async with session.get(url) as answer:
        return await answer.text()


@pytest.mark.timeout(240)
@pytest.mark.requirement("C30")
async def test_a_backlog_brings_a_worker_and_its_end_takes_one_away(
    tmp_path: Path, database_url: str, valkey_socket: Path
) -> None:
    said: list[str] = []
    plan = Plan(
        home=tmp_path / "home", workers=1, database_url=database_url, valkey_url=f"unix://{valkey_socket}"
    )
    async with local_system(plan) as system, connected(system) as (site, credit, session):
        partner = Partner(
            session=session,
            urls=system.api_urls,
            token=await new_token(site, client_id="crowd"),
            body_of=application,
            run="scaling",
            habits=Habits(doubled_share=0, repeated_share=0),
        )
        async with scaled(system, EAGER, say=said.append):
            submitted: Submitted = await partner.submit(range(APPLICATIONS), on_progress=lambda _: None)
            assert _niceness(system, "worker-1") == _niceness(system, "api-1") + WORKER_NICENESS
            assert _niceness_of_session(system, "worker-1") in (None, _niceness(system, "worker-1"))
            assert "faregate_backlog_items" in await metrics_of(system, session)
            assert await workers_are(system, [1, 2])
            assert await wait_drained(credit, on_progress=lambda *_: None, timeout_s=PATIENCE_S)
            assert await workers_are(system, [1])
        decided = await credit.outcomes_of(list(submitted.application_ids.values()))
    assert [row["decisions"] for row in decided] == [1] * APPLICATIONS
    assert [line.partition(": ")[2] for line in said] == ["1 → 2 workers", "2 → 1 workers"]


async def workers_are(system: LocalSystem, numbers: list[int]) -> bool:
    """Wait for exactly these workers; starting a process takes seconds on a busy machine."""

    async def are() -> bool:
        return system.worker_numbers == numbers

    return await poll_until(are, timeout_s=PATIENCE_S)


def _niceness(system: LocalSystem, name: str) -> int:
    return int(psutil.Process(system.supervisor.pid(name)).nice())


def _niceness_of_session(system: LocalSystem, name: str) -> int | None:
    """What the kernel shares the processor out by, where it does so between sessions."""
    group = Path(f"/proc/{system.supervisor.pid(name)}/autogroup")
    return int(group.read_text().split()[-1]) if group.exists() else None
