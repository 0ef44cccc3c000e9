"""Runs `bench.scale` on systems of its own: one a number of workers, and one whose store is filled step by step."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import aiohttp

from faregate.bench.burst import accepted_ids
from faregate.bench.cpu import cpu_seconds, used_between
from faregate.bench.credit import Drain, wait_drained
from faregate.bench.load_process import generate_apart
from faregate.bench.loadgen import Load, LoadReport
from faregate.bench.report import BenchResult
from faregate.bench.scale import Cost, ScalePlan, cost_of, result_of, settled
from faregate.bench.seeding import fill
from faregate.credit.api import CreditApi
from faregate.entrypoints.benches import BACKLOG_DEADLINE_S, drained
from faregate.entrypoints.local_client import connected, new_token, set_faults
from faregate.infra.database import Database
from faregate.infra.embedded.postgres import SUPERUSER
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.sandbox.plans import PLANS

Say = Callable[[str], None]
CONNECTIONS = 16
DRAIN_S_MAX = 900.0


async def bench_scale(plan: ScalePlan, *, home: Path, say: Say) -> BenchResult:
    """Measure decided/s by the number of workers, then the cost of an application by the size of the store."""
    drains = [
        await _drain(home / f"workers-{workers}", workers=workers, plan=plan, say=say)
        for workers in range(1, plan.workers_max + 1)
    ]
    return result_of(drains, await _costs(plan, home=home / "sizes", say=say))


async def _drain(home: Path, *, workers: int, plan: ScalePlan, say: Say) -> Drain:
    drain, _, _ = await drained(
        applications=plan.backlog,
        workers=workers,
        home=home,
        say=lambda line: say(f"{workers} worker(s): {line}"),
    )
    return drain


async def _costs(plan: ScalePlan, *, home: Path, say: Say) -> list[Cost]:
    local = Plan(
        home=home,
        temporary=True,
        workers=0,
        environment={"FAREGATE_APPLICATION_DEADLINE_S": BACKLOG_DEADLINE_S},
    )
    async with local_system(local) as system, connected(system) as (site, credit, session):
        await set_faults(session, system, PLANS["instant"])
        probe = _Probe(
            plan=plan,
            system=system,
            session=session,
            credit=credit,
            token=await new_token(site, client_id="bench"),
            folder=home,
            say=say,
        )
        return await probe.at_every_size()


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """Fills the store and asks what an application costs, again and again."""

    plan: ScalePlan
    system: LocalSystem
    session: aiohttp.ClientSession
    credit: CreditApi
    token: str
    folder: Path
    say: Say

    async def at_every_size(self) -> list[Cost]:
        superuser = await Database.open(self.system.database_url, role=SUPERUSER, connections_max=1)
        try:
            await self.system.set_workers(1)
            originals, _ = await self._decided(self.plan.originals)
            await self.system.set_workers(0)
            return [await self._at(size, superuser, originals) for size in self.plan.sizes]
        finally:
            await superuser.close()

    async def _at(self, size: int, superuser: Database, originals: Sequence[str]) -> Cost:
        def show(stored: int) -> None:
            self.say(f"filling the store: {stored:,} of {size:,} applications")

        stored = await fill(superuser, originals=originals, size=size, on_progress=show)
        await self.system.set_workers(1)
        await self._decided(
            max(1, self.plan.probe // 2)
        )  # warm again, with the tables as large as they are now
        self.say(f"{stored:,} stored: waiting until the system has caught up")
        await settled(self._cpu, timeout_s=self.plan.settle_s_max, second=asyncio.sleep)
        before = self._cpu()
        ids, report = await self._decided(self.plan.probe)
        used = used_between(before, self._cpu())
        await self.system.set_workers(0)
        return cost_of(stored=stored, used_s=used, submit=report, rows=await self.credit.outcomes_of(ids))

    async def _decided(self, count: int) -> tuple[tuple[str, ...], LoadReport]:
        """Submit new applications as fast as they are answered and wait until all are decided."""

        def show(done: int, total: int) -> None:
            self.say(f"probe of {count:,}: {total - done:,} of {total:,} stored applications undecided")

        file = self.folder / "answers.jsonl"
        load = Load(
            urls=self.system.api_urls,
            count=count,
            connections=CONNECTIONS,
            headers={"Authorization": f"Bearer {self.token}"},
            answers_file=str(file),
        )
        report = await generate_apart(load, run=uuid4().hex[:8])
        await wait_drained(self.credit, on_progress=show, timeout_s=DRAIN_S_MAX)
        return accepted_ids(await asyncio.to_thread(file.read_bytes)), report

    def _cpu(self) -> dict[str, float]:
        return cpu_seconds(self.system.pids())
