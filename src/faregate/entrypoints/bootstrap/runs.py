"""The role that executes the runs of applications and redemptions: the workflow engine, registered and open."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING

from faregate.credit.workflows import application_workflow
from faregate.entrypoints.bootstrap.backlog import count_runs
from faregate.entrypoints.bootstrap.decisions import decision_service, policy_book
from faregate.entrypoints.bootstrap.process import Loop, Opened, Process
from faregate.entrypoints.bootstrap.travel import redemptions
from faregate.gateway.book import PolicyBook
from faregate.gateway.control import POLICIES_S
from faregate.gateway.store.changes import newest_changes
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.periodic import run_periodically
from faregate.infra.readiness import NotReady
from faregate.infra.workflow.prepare import prepare

if TYPE_CHECKING:
    from faregate.infra.workflow import WorkflowEngine
    from faregate.infra.workflow.dbos_engine import DbosEngine


class EngineNotLaunched(NotReady):
    """The workflow engine lost its stay and could not begin a new one yet: it executes no run."""


async def runs(process: Process) -> Opened:
    """Open the workflow engine, which claims runs from now on until its loop is told to stop."""
    from faregate.infra.workflow.dbos_engine import DbosEngine  # takes two seconds to import

    site, database = process.site, await process.database("credit")
    service, book = await process.once(decision_service), await process.once(policy_book)
    count_runs(process.metrics, await process.database("workflow", connections_max=1))
    await asyncio.to_thread(prepare, site.database_url)
    engine = DbosEngine(database_url=site.database_url, clock=SystemClock())
    engine.register(
        application_workflow(
            service=service,
            database=database,
            working_max=site.settings.working_steps_max,
            in_flight_max=site.settings.applications_in_flight_max,
        )
    )
    engine.register(await redemptions(process))
    await engine.open()
    process.stack.push_async_callback(engine.close)
    return Opened(
        loops={"runs": partial(_until_stopped, engine), "runs.policies": _following(book, database)},
        checks={"engine": partial(require_launched, engine)},
    )


async def require_launched(engine: DbosEngine) -> None:
    """Raise EngineNotLaunched while the engine executes no run."""
    if not engine.is_launched:
        raise EngineNotLaunched("the workflow engine is not launched")


async def _until_stopped(engine: WorkflowEngine, stop: asyncio.Event) -> None:
    """Let the engine work until `stop` is set; then its working steps end and it gives its runs back."""
    await stop.wait()
    await engine.close()


def _following(book: PolicyBook, database: Database) -> Loop:
    """Return the loop that follows what operators change of the providers' policies."""

    async def follow() -> None:
        async with database.connection() as conn:
            book.take(await newest_changes(conn))

    return lambda stop: run_periodically(stop, name="runs.policies", every_s=POLICIES_S, work=follow)
