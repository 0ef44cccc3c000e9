"""The workflow port on DBOS: it queues, claims and dispatches runs and records how they ended, nothing else.

Steps, waits, signals, leases and fences are ours (`steps`, `waiting`, `leases`), so this module holds all that the
rest of the system knows of DBOS. One engine a process: DBOS keeps its state in module globals.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any, cast

import psycopg
import structlog
from dbos import DBOS, DBOSConfig, DBOSPortableJSONSerializer

from faregate.infra.database import Database, DatabaseUnavailable, url_with_role
from faregate.infra.queries import load_queries
from faregate.infra.workflow.leases import Lease
from faregate.infra.workflow.loops import keep_doing, stop
from faregate.infra.workflow.port import RunFailed, Workflow
from faregate.infra.workflow.prepare import ROLE, SCHEMA, prepare
from faregate.infra.workflow.steps import DeclaredDead, Slots, TableRun
from faregate.infra.workflow.waiting import WaitingRoom
from faregate.kernel.clock import Clock

_QUERIES = load_queries(__package__)
_log = structlog.get_logger(__name__)

__all__ = ["DbosEngine", "prepare"]

APPLICATION = "faregate"
VERSION = "1"  # changed on purpose only: runs of another version are not taken over
THREADS_MAX = 8
CONNECTIONS_MAX = 8
BEATS_A_LEASE = 4
LOST_AFTER_LEASES = 10
DRAIN_S = 5.0


class DbosEngine:
    """Runs the registered workflows in this process, on the event loop that opened it."""

    def __init__(
        self,
        *,
        database_url: str,
        clock: Clock,
        lease_s: float = 3.0,
        recoveries_max: int = 20,
        poll_s: float = 0.05,
    ) -> None:
        """A worker that stops for `lease_s` loses its runs; a run that killed `recoveries_max` workers fails."""
        self._url = database_url
        self._clock = clock
        self._lease_s = lease_s
        self._recoveries_max = recoveries_max
        self._poll_s = poll_s
        self._workflows: dict[str, Workflow] = {}
        self._executing: dict[str, asyncio.Task[Any]] = {}
        self._begun_at = time.monotonic()  # when the last of them began
        self._tasks: list[asyncio.Task[None]] = []
        self._is_closing = False
        self._is_launched = False

    @property
    def is_launched(self) -> bool:
        """Whether this process executes runs: false before `open`, and while a lost stay cannot be begun anew."""
        return self._is_launched

    def register(self, workflow: Workflow) -> None:
        """See `WorkflowEngine.register`."""
        self._workflows[workflow.name] = workflow

    async def open(self) -> None:
        """See `WorkflowEngine.open`. The database must be migrated and `prepare`d."""
        self._database = await Database.open(self._url, role=ROLE, connections_max=4)
        self._waiting = WaitingRoom(database=self._database, clock=self._clock)
        self._slots = {name: _slots(workflow) for name, workflow in self._workflows.items()}
        self._waiting.open()
        await self._begin_stay()
        beat_s = self._lease_s / BEATS_A_LEASE
        lost_s = self._lease_s * LOST_AFTER_LEASES
        self._tasks = [
            asyncio.create_task(keep_doing("renewing the lease", self._beat, every_s=beat_s)),
            asyncio.create_task(keep_doing("looking for lost runs", self._give_back_lost, every_s=lost_s)),
        ]

    async def close(self) -> None:
        """See `WorkflowEngine.close`."""
        if not self._tasks or self._is_closing:
            return
        self._is_closing = True
        for slots in self._slots.values():
            slots.is_closing = True
        await self._working_steps_end(within_s=DRAIN_S)
        await stop(self._tasks)
        await self._end_stay()
        await self._leave()
        await self._waiting.close()
        await self._database.close()

    async def _begin_stay(self) -> None:
        """Enter and launch, or neither: a lease without DBOS would be renewed for ever and execute nothing."""
        self._lease = await Lease.enter(self._database, length_s=self._lease_s)
        try:
            await self._launch()
        except Exception:
            await self._end_stay()
            await self._leave()
            raise
        self._is_launched = True

    async def _launch(self) -> None:
        DBOS(config=self._config())
        for workflow in self._workflows.values():
            self._register_with_dbos(workflow)
        async with self._database.connection() as conn:
            for name, workflow in self._workflows.items():
                given = {
                    "workflow": name,
                    "poll_s": self._poll_s,
                    "in_flight_max": workflow.in_flight_max,
                }
                await conn.execute(_QUERIES["ensure_queue"], given)
        DBOS.listen_queues(list(self._workflows))
        DBOS.launch()

    async def _end_stay(self) -> None:
        """Forget every run of this stay and stop DBOS, whose thread pool must not stay behind on our loop."""
        self._is_launched = False
        for task in self._executing.values():
            task.cancel()
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        await asyncio.to_thread(DBOS.destroy, destroy_registry=True)

    async def _leave(self) -> None:
        try:
            await self._lease.leave()
        except (psycopg.OperationalError, DatabaseUnavailable):
            _log.warning("workflow.left_without_notice", worker=self._lease.number)

    def _config(self) -> DBOSConfig:
        return DBOSConfig(
            name=APPLICATION,
            system_database_url=url_with_role(self._url, role=ROLE),
            dbos_system_schema=SCHEMA,
            application_version=VERSION,
            executor_id=str(self._lease.number),
            serializer=DBOSPortableJSONSerializer(),
            run_migrations=False,
            log_level="CRITICAL",
            max_executor_threads=THREADS_MAX,
            sys_db_pool_size=CONNECTIONS_MAX,
            sys_db_idle_transaction_timeout_sec=self._lease_s,
            notification_listener_polling_interval_sec=1.0,
        )

    def _register_with_dbos(self, workflow: Workflow) -> None:
        async def execute(given: dict[str, Any]) -> None:
            await self._execute(workflow, given)

        execute.__qualname__ = workflow.name
        DBOS.workflow(
            name=workflow.name,
            max_recovery_attempts=self._recoveries_max,
            validate_args=lambda args, kwargs: (args, kwargs),
        )(execute)

    async def _execute(self, workflow: Workflow, given: Mapping[str, Any]) -> None:
        run_id = DBOS.workflow_id
        if self._is_closing or run_id is None:
            raise asyncio.CancelledError
        self._hold(run_id)
        try:
            await workflow.body(self._run(run_id, workflow, given))
        except DeclaredDead as error:
            raise asyncio.CancelledError from error
        except RunFailed as error:
            _log.error("workflow.run_failed", run=run_id, workflow=workflow.name, reason=str(error))
            raise
        except Exception as error:
            kind = type(error).__name__
            _log.error("workflow.run_failed", run=run_id, workflow=workflow.name, reason=kind)
            raise RunFailed(f"the body raised {kind}") from error

    def _hold(self, run_id: str) -> None:
        """Count the run as ours until its task ends, which is after DBOS has recorded the outcome."""
        task = cast("asyncio.Task[Any]", asyncio.current_task())
        self._executing[run_id] = task
        self._begun_at = time.monotonic()
        task.add_done_callback(lambda _: self._let_go(run_id, task))

    def _let_go(self, run_id: str, task: asyncio.Task[Any]) -> None:
        if self._executing.get(run_id) is task:
            del self._executing[run_id]

    def _run(self, run_id: str, workflow: Workflow, given: Mapping[str, Any]) -> TableRun:
        return TableRun(
            id=run_id,
            input=given,
            workflow=workflow,
            slots=self._slots[workflow.name],
            waiting=self._waiting,
            worker=self._lease.number,
            idle_ms=int(self._lease_s * 1000),
        )

    async def _beat(self) -> None:
        if not self._is_launched:
            await self._begin_stay()
        elif not await self._lease.renew():
            _log.warning("workflow.declared_dead", worker=self._lease.number)
            await self._end_stay()
            await self._begin_stay()
        async with self._database.connection() as conn:
            await conn.execute(_QUERIES["requeue_orphans"])

    async def _give_back_lost(self) -> None:
        """A claim whose commit was answered by a broken connection left a run with us that DBOS never executes."""
        lost_s = self._lease_s * LOST_AFTER_LEASES
        parameters = {
            "worker": self._lease.number,
            "held": list(self._executing),
            "lost_after": timedelta(seconds=lost_s),
            "is_quiet": time.monotonic() - self._begun_at > lost_s,
        }
        async with self._database.connection() as conn:
            await conn.execute(_QUERIES["requeue_lost"], parameters)

    async def _working_steps_end(self, *, within_s: float) -> None:
        deadline = asyncio.get_running_loop().time() + within_s
        while any(slots.working for slots in self._slots.values()):
            if asyncio.get_running_loop().time() >= deadline:
                return
            await asyncio.sleep(0.01)


def _slots(workflow: Workflow) -> Slots:
    connections_max = workflow.database.statistics["pool_max"]
    return Slots(workflow=workflow.name, working_max=workflow.working_max, connections_max=connections_max)
