"""One fault run on a running system: clients go on, the injector breaks things, and at the end it is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import count, takewhile
from time import perf_counter
from typing import Any

import aiohttp

from faregate.bench.chaos.clients import Availability, Readers, availability, in_whole_seconds
from faregate.bench.chaos.injector import Injector, OnEvent
from faregate.bench.chaos.plan import ChaosPlan, Kind
from faregate.bench.chaos.topics import TopicsFound
from faregate.bench.chaos.world import WorldUnderFaults
from faregate.bench.partner import Operation, Partner, Submitted, wait_until
from faregate.bench.verdict import Verdict, judge
from faregate.credit.api import CreditApi
from faregate.credit.contracts.record import ChainReport
from faregate.infra.supervisor import Supervisor
from faregate.infra.witness import Outage, PostgresWitness
from faregate.kernel.errors import UnavailableError
from faregate.sandbox.faults import FaultPlan

READ_HEADROOM = 1.1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosRun:
    """What came of a run. `stranded`: applications undecided when the time to settle was over, and why."""

    plan: ChaosPlan
    verdict: Verdict
    submitted: Submitted
    faults: Mapping[Kind, int]
    world: Mapping[str, int]
    operations: Sequence[Operation]
    outages: Sequence[Outage]
    stranded: Sequence[Mapping[str, Any]]
    chain: ChainReport
    begin: float
    fault_s: float
    settle_s: float
    topics: TopicsFound | None = None

    def availability(self, kind: str | None = None, *, to_the_instant: bool = False) -> Availability:
        """Return the availability of one kind of operation, or of all.

        Outside is outside of the seconds in which PostgreSQL was down; `to_the_instant` takes its outages as they
        were.
        """
        chosen = [op for op in self.operations if kind in (None, op.kind)]
        outages = self.outages if to_the_instant else in_whole_seconds(self.outages, begin=self.begin)
        return availability(chosen, outages)


class Chaos:
    """Runs once. `calm` is how the world behaves when the faults have stopped; `read_stranded` tells what each
    undecided application waits for, `read_topics` reads those of Kafka.
    """

    def __init__(
        self,
        plan: ChaosPlan,
        *,
        injector: Injector,
        world: WorldUnderFaults,
        supervisor: Supervisor,
        credit: CreditApi,
        session: aiohttp.ClientSession,
        witness: PostgresWitness,
        operations: Sequence[Operation],
        calm: FaultPlan,
        on_event: OnEvent,
        on_progress: Callable[[str], None],
        read_stranded: Callable[[], Awaitable[Sequence[Mapping[str, Any]]]],
        read_topics: Callable[[], Awaitable[TopicsFound]] | None = None,
    ) -> None:
        self._plan = plan
        self._injector = injector
        self._world = world
        self._supervisor = supervisor
        self._credit = credit
        self._session = session
        self._witness = witness
        self._calm = calm
        self._on_event = on_event
        self._on_progress = on_progress
        self._operations = operations
        self._read_stranded = read_stranded
        self._read_topics = read_topics

    async def run(self, partner: Partner, readers: Readers, *, sandbox_url: str) -> ChaosRun:
        """Break things while the clients go on, let all settle, and judge."""
        begin = perf_counter()
        self._on_event(f"the faults begin, for {self._plan.seconds:g} s or more")
        background = [
            asyncio.create_task(self._world.watch()),
            asyncio.create_task(readers.run(rate_per_s=self._reads_per_s())),
        ]
        faults = asyncio.create_task(self._break_things(begin, partner))
        submitting = asyncio.create_task(
            partner.submit(self._numbers(until=faults), on_progress=self._progress)
        )
        await faults
        await self._world.set_plan(self._calm)
        stopped = perf_counter()
        self._on_event(f"the faults have stopped after {stopped - begin:.0f} s")
        submitted = await submitting
        stranded = await self._settle(by=stopped + self._plan.settle_s_max)
        settled = perf_counter()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        self._on_event(
            f"settled after {settled - stopped:.0f} s, {len(stranded)} stranded; now all is judged"
        )
        for one in stranded:
            self._on_event(f"stranded: {dict(one)}")
        verdict = await judge(
            credit=self._credit, session=self._session, sandbox_url=sandbox_url, submitted=submitted
        )
        return ChaosRun(
            plan=self._plan,
            verdict=verdict,
            submitted=submitted,
            faults=dict(self._injector.counts),
            world=dict(self._world.counts),
            operations=self._operations,
            outages=self._witness.outages,
            stranded=stranded,
            chain=await self._credit.audit.verify(),
            topics=None if self._read_topics is None else await self._read_topics(),
            begin=begin,
            fault_s=stopped - begin,
            settle_s=settled - stopped,
        )

    async def _break_things(self, begin: float, partner: Partner) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._plan.seconds_max):
                await self._injector.run(is_enough=lambda: self._is_enough(begin, partner))

    def _numbers(self, *, until: asyncio.Task[None]) -> Iterator[int]:
        """Number the applications: as many as planned, and more until the faults stop, so that each meets some."""
        return takewhile(lambda number: number < self._plan.applications or not until.done(), count())

    def _reads_per_s(self) -> float:
        reads = self._plan.operations_min * READ_HEADROOM - self._plan.applications
        return max(reads, 1) / self._plan.seconds

    def _is_enough(self, begin: float, partner: Partner) -> bool:
        is_time = perf_counter() - begin >= self._plan.seconds
        is_submitted = len(partner.submitted.application_ids) >= self._plan.applications
        return is_time and is_submitted and len(self._operations) >= self._plan.operations_min

    def _progress(self, accepted: int) -> None:
        self._on_progress(
            f"{accepted:,} of {self._plan.applications:,} applications accepted, "
            f"{len(self._operations):,} operations, {self._injector.counts.total()} faults"
        )

    async def _settle(self, *, by: float) -> Sequence[Mapping[str, Any]]:
        """Wait until nothing is being processed; return what still is when the time is up."""
        await wait_until(self._is_settled, timeout_s=max(0.0, by - perf_counter()))
        stranded = await self._read_stranded()
        for name in self._supervisor.pids():
            await self._supervisor.wait_ready(name)
        return stranded

    async def _is_settled(self) -> bool:
        """Whether every application is decided and every audit entry sealed."""
        try:
            counts = dict(await self._credit.counts_by_status())
            return not counts.get("processing", 0) and not (await self._credit.audit.status()).unsealed
        except UnavailableError:
            return False
