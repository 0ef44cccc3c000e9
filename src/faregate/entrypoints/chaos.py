"""Starts a system of its own and runs the fault run of `bench.chaos` on it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

from faregate.bench.chaos import Chaos, ChaosPlan, ChaosReport
from faregate.bench.partner import Habits, Partner
from faregate.entrypoints.local_client import connected, new_token
from faregate.infra.local_system import Plan, local_system
from faregate.sandbox.faults import FaultPlan
from faregate.sandbox.people import application

VICTIMS = ("api-1", "worker-1", "sandbox")
DEADLINE_S = "240"
"""Long enough that it is the recovery which decides the applications, not their deadline."""


async def run_chaos(
    plan: ChaosPlan,
    *,
    home: Path,
    faults: FaultPlan,
    on_event: Callable[[str], None],
    concurrency: int = 8,
) -> ChaosReport:
    """Run everything in `home`, kill parts of it as planned, and return what held."""
    local = Plan(
        home=home,
        faults_file=_written(faults, home),
        environment={"FAREGATE_APPLICATION_DEADLINE_S": DEADLINE_S},
    )
    async with local_system(local) as system, connected(system) as (site, credit, session):
        partner = Partner(
            session=session,
            urls=system.api_urls,
            token=await new_token(site, client_id="chaos-partner"),
            body_of=application,
            run=uuid4().hex[:8],
            habits=Habits(concurrency=concurrency, seed=plan.seed),
        )
        chaos = Chaos(
            plan,
            supervisor=system.supervisor,
            credit=credit,
            session=session,
            sandbox_url=system.sandbox_url,
            on_event=on_event,
        )
        return await chaos.run(partner)


def _written(faults: FaultPlan, home: Path) -> Path:
    """Write the plan to a file, which a sandbox that was killed reads again."""
    home.mkdir(parents=True, exist_ok=True)
    file = home / "faults.json"
    file.write_text(faults.model_dump_json(), encoding="utf-8")
    return file
