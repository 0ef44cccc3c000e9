"""A worker process for the workflow contract: real, so that it can be killed, stopped and continued."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerProcess
from typing import Any

from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.workflow import Workflow, WorkflowEngine
from faregate.infra.workflow.dbos_engine import DbosEngine
from faregate.kernel.clock import Clock
from tests.contract.workflow.bodies import BODIES, RETRY

ENGINES: Mapping[str, Callable[..., WorkflowEngine]] = {"dbos": DbosEngine}
"""Every engine behind the port; the suite runs on each."""

LEASE_S = 0.8


@dataclass(frozen=True, kw_only=True)
class WorkerPlan:
    """What a worker process is told."""

    url: str
    engine: str = "dbos"
    lease_s: float = LEASE_S
    working_max: int = 8
    in_flight_max: int | None = None
    options: Mapping[str, Any] | None = None


def workflows(database: Database, *, working_max: int, in_flight_max: int | None = None) -> list[Workflow]:
    return [
        Workflow(
            name=name,
            body=body,
            database=database,
            working_max=working_max,
            in_flight_max=in_flight_max,
            retry=RETRY,
        )
        for name, body in BODIES.items()
    ]


def engine_for(plan: WorkerPlan, *, clock: Clock | None = None) -> WorkflowEngine:
    return ENGINES[plan.engine](
        database_url=plan.url, clock=clock or SystemClock(), lease_s=plan.lease_s, **(plan.options or {})
    )


async def serve(plan: WorkerPlan) -> None:
    """Work until SIGTERM, then close in good order."""
    told_to_end = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_end.set)
    database = await Database.open(plan.url, role="faregate_credit")
    engine = engine_for(plan)
    for workflow in workflows(database, working_max=plan.working_max, in_flight_max=plan.in_flight_max):
        engine.register(workflow)
    await engine.open()
    await told_to_end.wait()
    await engine.close()
    await database.close()


def main(plan: WorkerPlan) -> None:
    asyncio.run(serve(plan))


def start_worker(plan: WorkerPlan) -> ForkServerProcess:
    """A process of its own; the fork server has imported the engine once for all."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    worker = context.Process(target=main, args=(plan,), daemon=True)
    worker.start()
    return worker
