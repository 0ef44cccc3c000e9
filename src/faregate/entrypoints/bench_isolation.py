"""Runs `bench.isolation` on a system of its own: a provider that refuses everything, then one that never answers."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from faregate.bench.burst import accepted_ids
from faregate.bench.credit import wait_drained
from faregate.bench.isolation import (
    Hanging,
    IsolationPlan,
    SharedPool,
    Storm,
    at_rate,
    naive_retry,
    result_of,
    settling_of,
    settling_times,
)
from faregate.bench.load_process import generate_apart
from faregate.bench.loadgen import Load
from faregate.bench.report import BenchResult
from faregate.credit.api import CreditApi
from faregate.credit.domain.checks import PROVIDERS_OF_CHECK
from faregate.entrypoints.bootstrap.providers import adapters, provider_session
from faregate.entrypoints.local_client import connected, new_token, set_faults
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.infra.database import Database
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.settings import Settings
from faregate.sandbox.faults import FaultPlan
from faregate.sandbox.people import application

Say = Callable[[str], None]
VICTIM = "fraud"
"""The provider that fails and hangs: its check has no other provider."""
DEADLINE_S = "15"
DRAIN_S_MAX = 180.0
WARM_UP = 100
_STEADY: Mapping[str, Any] = {"latency": {"median_ms": 30}, "processing": {"median_ms": 60}}


async def bench_isolation(plan: IsolationPlan, *, home: Path, say: Say) -> BenchResult:
    """Measure a retry storm and a hanging provider, each beside its baseline."""
    local = Plan(home=home, temporary=True, environment={"FAREGATE_APPLICATION_DEADLINE_S": DEADLINE_S})
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(local_system(local))
        site, credit, session = await stack.enter_async_context(connected(system))
        journal = await site.database(stack, "gateway", connections_max=1)
        settings = Settings(sandbox_host="127.0.0.1", sandbox_port=int(system.sandbox_url.rpartition(":")[2]))
        run = _Run(
            plan=plan,
            system=system,
            session=session,
            credit=credit,
            journal=journal,
            token=await new_token(site, client_id="bench"),
            adapters=adapters(settings, await provider_session(stack)),
            folder=home,
            say=say,
        )
        return await run.measure()


@dataclass(frozen=True, kw_only=True)
class _Run:
    """All phases on one running system."""

    plan: IsolationPlan
    system: LocalSystem
    session: aiohttp.ClientSession
    credit: CreditApi
    journal: Database
    token: str
    adapters: Mapping[str, Adapter]
    folder: Path
    say: Say

    async def measure(self) -> BenchResult:
        await self._faults()
        await self._submitted(WARM_UP)
        await self._drained()
        storm = await self._storm()
        naive = await self._naive()
        ours = await self._hanging()
        shared = await self._shared_pool()
        counts = dict(await self.credit.counts_by_status())
        return result_of(
            storm=storm,
            naive=naive,
            ours=ours,
            shared=shared,
            undecided=counts.get("processing", 0),
            plan=self.plan,
        )

    async def _storm(self) -> Storm:
        """Let the victim refuse everything under load, and count what reaches it until all is decided."""
        before = await self._calls()
        await self._faults(rates={"unavailable": 1.0}, retry_after_s=0)
        wanted = len(await self._submitted(self.plan.applications(self.plan.storm_s)))
        await self._drained()
        calls = await self._calls() - before
        await self._faults()
        return Storm(wanted=wanted, calls=calls)

    async def _naive(self) -> Storm:
        """Ask the same provider, which refuses everything, with the retry that one would write first."""
        self.say("the same with a naive retry")
        before, wanted = await self._calls(), self.plan.applications(self.plan.storm_s)
        await self._faults(rates={"unavailable": 1.0}, retry_after_s=0)
        adapter = self.adapters[VICTIM]

        async def ask(number: int) -> list[dict[str, Any]]:
            request = _request(number, provider=VICTIM, run="naive")
            await naive_retry(adapter, request, timeout_s=adapter.capabilities.timeout_s)
            return []

        await at_rate(wanted, per_s=self.plan.per_s, begin=ask)
        await self._faults()
        return Storm(wanted=wanted, calls=await self._calls() - before)

    async def _hanging(self) -> Hanging:
        rows: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
        for _ in range(self.plan.rounds):
            for hangs in (False, True):
                rows[hangs] += await self._round(hangs=hangs)
        return Hanging(
            without=settling_of(rows[False], without=VICTIM), hanging=settling_of(rows[True], without=VICTIM)
        )

    async def _round(self, *, hangs: bool) -> list[dict[str, Any]]:
        await self._faults(**_hang(hangs))
        ids = await self._submitted(self.plan.applications(self.plan.round_s))
        await self._drained()
        return await settling_times(self.journal, ids)

    async def _shared_pool(self) -> Hanging:
        self.say("the same checks through one shared pool")
        primary = {check: self.adapters[providers[0]] for check, providers in PROVIDERS_OF_CHECK.items()}
        found = []
        for hangs in (False, True):
            await self._faults(**_hang(hangs))
            pool = SharedPool(
                primary, slots=self.plan.slots, timeout_s=self.adapters[VICTIM].capabilities.timeout_s
            )
            run = uuid4().hex[:8]

            async def ask(number: int, pool: SharedPool = pool, run: str = run) -> Sequence[dict[str, Any]]:
                asked = [
                    pool.ask(check, _request(number, provider=providers[0], run=run))
                    for check, providers in PROVIDERS_OF_CHECK.items()
                ]
                return await asyncio.gather(*asked)

            count = self.plan.applications(self.plan.round_s)
            found.append(settling_of(await at_rate(count, per_s=self.plan.per_s, begin=ask), without=VICTIM))
        await self._faults()
        return Hanging(without=found[0], hanging=found[1])

    async def _submitted(self, count: int) -> tuple[str, ...]:
        file = self.folder / "answers.jsonl"
        load = Load(
            urls=self.system.api_urls,
            count=count,
            rate_per_s=self.plan.per_s,
            headers={"Authorization": f"Bearer {self.token}"},
            answers_file=str(file),
        )
        self.say(f"{count:,} applications at {self.plan.per_s:g}/s")
        await generate_apart(load, run=uuid4().hex[:8])
        return accepted_ids(await asyncio.to_thread(file.read_bytes))

    async def _drained(self) -> None:
        def show(done: int, total: int) -> None:
            self.say(f"{total - done:,} of {total:,} applications undecided")

        await wait_drained(self.credit, on_progress=show, timeout_s=DRAIN_S_MAX)

    async def _calls(self) -> int:
        async with self.session.get(f"{self.system.sandbox_url}/admin/summary") as answer:
            return int((await answer.json())["calls_by_endpoint"].get(VICTIM, 0))

    async def _faults(self, **of_the_victim: Any) -> None:
        """All providers take the same short time; the victim behaves as told besides."""
        plan = FaultPlan.model_validate(
            {"default": _STEADY, "providers": {VICTIM: {**_STEADY, **of_the_victim}}}
        )
        await set_faults(self.session, self.system, plan)


def _hang(hangs: bool) -> dict[str, Any]:
    return {"rates": {"hang_before": 1.0}, "hold_s": 60.0} if hangs else {}


def _request(number: int, *, provider: str, run: str) -> ProviderRequest:
    form = application(number)
    return ProviderRequest(
        provider_request_id=f"app_{run}{number}:{provider}:1",
        subject={**form["applicant"], "amount": form["amount"], "purpose": form["purpose"]},
    )
