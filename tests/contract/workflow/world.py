"""One database and its workers, as the workflow contract sees them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any

import psycopg

from faregate.infra.database import Database, DatabaseUnavailable
from faregate.infra.workflow import NewRun, Signal, failed_runs, send_signals, start_runs, unfinished
from tests.contract.workflow.bodies import is_there
from tests.contract.workflow.worker import WorkerPlan, start_worker


class World:
    """Starts workers, runs and signals, and tells what became of them."""

    def __init__(self, *, database: Database, plan: WorkerPlan, folder: Path) -> None:
        self.database = database
        self.plan = plan
        self.folder = folder
        self.workers: list[ForkServerProcess] = []

    @classmethod
    @asynccontextmanager
    async def on(cls, url: str, *, engine: str, folder: Path) -> AsyncIterator[World]:
        database = await Database.open(url, role="faregate_credit", connections_max=8)
        world = cls(database=database, plan=WorkerPlan(url=url, engine=engine), folder=folder)
        yield world
        for worker in world.workers:
            worker.kill()
            worker.join()
        await database.close()

    def work(self, **changes: Any) -> ForkServerProcess:
        """Start a worker process; it needs a moment before it claims runs."""
        self.workers.append(start_worker(replace(self.plan, **changes)))
        return self.workers[-1]

    async def working(self, **changes: Any) -> ForkServerProcess:
        """Start a worker process and wait until it has its lease."""
        worker = self.work(**changes)
        await eventually(lambda: self.has_lease(worker))
        return worker

    async def has_lease(self, worker: ForkServerProcess) -> bool:
        return bool(await self.rows("select id from workflow.workers() where pid = %s", worker.pid))

    async def lost_lease(self, worker: ForkServerProcess) -> None:
        """Wait until a worker was declared dead."""

        async def has_none() -> bool:
            return not await self.has_lease(worker)

        await eventually(has_none)

    async def start(self, *ids: str, workflow: str = "two-steps", **given: Any) -> None:
        deadline = given.pop("deadline", datetime.now(UTC) + timedelta(minutes=5))
        what = {"folder": str(self.folder), "deadline": deadline.isoformat(), **given}
        async with self.database.transaction() as conn:
            await start_runs(conn, workflow=workflow, runs=[NewRun(id=i, input=what) for i in ids])

    async def send(self, *ids: str, signal_id: str = "1", payload: Any = "told") -> None:
        signals = [Signal(run_id=i, name="go", signal_id=signal_id, payload=payload) for i in ids]
        async with self.database.transaction() as conn:
            await send_signals(conn, signals)

    async def halted(self, run: str) -> None:
        """Wait until a run stands at its `halt_at`."""

        async def stands() -> bool:
            return is_there(self.folder / f"halt {run}")

        await eventually(stands)

    def go_on(self, run: str) -> None:
        (self.folder / f"go on {run}").touch()

    async def rows(self, query: str, *values: Any) -> list[Any]:
        async with self.database.connection() as conn:
            return await (await conn.execute(query, values)).fetchall()

    async def steps(self, run: str) -> list[str]:
        """What a run did, in the order in which it did it."""
        query = "select step from credit.effect where run = %s order by began_at"
        return [row["step"] for row in await self.rows(query, run)]

    async def detail(self, run: str, step: str) -> Any:
        query = "select detail from credit.effect where run = %s and step = %s"
        [row] = await self.rows(query, run, step)
        return row["detail"]

    async def count(self, step: str) -> int:
        rows = await self.rows("select count(*) from credit.effect where step = %s", step)
        return int(rows[0]["count"])

    async def open_runs(self) -> list[str]:
        async with self.database.connection() as conn:
            return [run.id for run in await unfinished(conn, rows_max=10_000)]

    async def failed(self) -> Mapping[str, str | None]:
        async with self.database.connection() as conn:
            return {run.id: run.error for run in await failed_runs(conn)}

    async def ended(self) -> None:
        """Wait until no run is queued, working or waiting."""

        async def none_open() -> bool:
            return not await self.open_runs()

        await eventually(none_open)

    async def reached(self, step: str, count: int) -> None:
        """Wait until so many runs have done a step."""

        async def enough() -> bool:
            return await self.count(step) >= count

        await eventually(enough)


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    """Ask until the answer is yes; a database that restarts may fail to answer meanwhile."""
    async with asyncio.timeout(60):
        while not await _holds(condition):  # noqa: ASYNC110 - another process makes it true
            await asyncio.sleep(0.02)


async def _holds(condition: Callable[[], Awaitable[bool]]) -> bool:
    try:
        return await condition()
    except (psycopg.OperationalError, DatabaseUnavailable):
        return False
