"""Starts a system of its own for each benchmark of `bench`, and the peer where there is one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import asdict, replace
from pathlib import Path
from uuid import uuid4

from faregate.bench import burst as bursts
from faregate.bench import overhead
from faregate.bench.apart import measure_apart
from faregate.bench.burst import Burst, BurstPlan
from faregate.bench.cpu import cpu_seconds, used_between
from faregate.bench.credit import Drain, drain_of, result_of, wait_drained
from faregate.bench.loadgen import Progress
from faregate.bench.overhead import OverheadPlan
from faregate.bench.partner import Habits, Partner, Submitted
from faregate.bench.report import BenchResult
from faregate.bench.submit import SubmitPlan, measure_submit
from faregate.bench.temporal_peer import PeerLoad, PeerReport, Store, measure_peer
from faregate.bench.verdict import Verdict, judge
from faregate.entrypoints.local_client import connected, new_token, set_faults, site_of_system
from faregate.infra.cache import Cache
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.settings import Settings
from faregate.infra.token_bucket import TokenBuckets
from faregate.sandbox.people import application
from faregate.sandbox.plans import PLANS

Say = Callable[[str], None]
BACKLOG_DEADLINE_S = "900"
PEER_LOADS = (
    *((Store.FILE, in_flight) for in_flight in (5, 20, 60)),
    *((Store.FILE_WAL, in_flight) for in_flight in (20, 60)),
    *((Store.MEMORY, in_flight) for in_flight in (20, 60)),
)


async def bench_submit(plan: SubmitPlan, *, home: Path, say: Say, workers: int, apis: int) -> BenchResult:
    """Measure submission on a fresh system."""

    def progress(at: Progress) -> None:
        say(f"{at.answered:,} of {at.count:,} answered")

    async with (
        local_system(Plan(home=home, temporary=True, workers=workers, apis=apis)) as system,
        connected(system) as (site, credit, _),
    ):
        return await measure_submit(
            plan,
            cpu_now=lambda: cpu_seconds(system.pids()),
            urls=system.api_urls,
            token=await new_token(site, client_id="bench"),
            credit=credit,
            run=uuid4().hex[:8],
            on_progress=progress,
        )


async def bench_credit(
    *, applications: int, workers: int, home: Path, say: Say, peer_seconds: float
) -> BenchResult:
    """Measure decisions on a fresh system, then the peer on the same sandbox."""
    drain, verdict, used = await drained(applications=applications, workers=workers, home=home, say=say)
    peers = await _peers(home, say=say, seconds=peer_seconds) if peer_seconds else []
    return result_of(drain, verdict, peers, cpu_s=used)


async def drained(
    *, applications: int, workers: int, home: Path, say: Say
) -> tuple[Drain, Verdict, dict[str, float]]:
    """Let a backlog be decided on a fresh system; return its rate, what held, and the processor seconds by process."""
    backlog = Plan(
        home=home,
        temporary=True,
        workers=0,
        environment={"FAREGATE_APPLICATION_DEADLINE_S": BACKLOG_DEADLINE_S},
    )
    async with local_system(backlog) as system:
        submitted = await _submit(system, applications)
    say(f"{applications:,} applications accepted; the workers start")
    async with (
        local_system(replace(backlog, workers=workers)) as system,
        connected(system) as (_, credit, session),
    ):
        pids = system.pids()
        before = cpu_seconds(pids)
        await wait_drained(
            credit, on_progress=lambda done, total: say(f"{done:,} of {total:,} decided"), timeout_s=600
        )
        used = used_between(before, cpu_seconds(pids))
        verdict = await judge(
            credit=credit, session=session, sandbox_url=system.sandbox_url, submitted=submitted
        )
        rows = await credit.outcomes_of(list(submitted.application_ids.values()))
        drain = drain_of(
            dispatched_at=[row["started_at"] for row in rows if row["started_at"]],
            decided_at=[row["decided_at"] for row in rows if row["decided_at"]],
            workers=workers,
        )
        return drain, verdict, used


async def bench_burst(plan: BurstPlan, *, workers: int, home: Path, say: Say) -> BenchResult:
    """Measure a burst, its drain and a steady rate on a fresh system."""
    local = Plan(
        home=home,
        temporary=True,
        workers=workers,
        environment={"FAREGATE_APPLICATION_DEADLINE_S": BACKLOG_DEADLINE_S},
    )
    async with local_system(local) as system, connected(system) as (site, credit, session):
        await set_faults(session, system, PLANS["instant"])
        pids, before = system.pids(), cpu_seconds(system.pids())
        burst = Burst(
            plan,
            urls=system.api_urls,
            token=await new_token(site, client_id="bench", submits=plan.client_limit),
            run=uuid4().hex[:8],
            folder=home,
            credit=credit,
            judge=lambda submitted: judge(
                credit=credit, session=session, sandbox_url=system.sandbox_url, submitted=submitted
            ),
            say=say,
        )
        measured = await burst.measure()
        used = used_between(before, cpu_seconds(pids))
    return bursts.result_of(measured, plan, workers=workers, cpu_s=used)


async def bench_gateway(plan: OverheadPlan, *, home: Path, say: Say) -> BenchResult:
    """Measure the gateway's policies beside their peers in this process, then journal and shared bucket apart."""
    from faregate.bench.policy_contenders import EVERYTHING, contenders

    rows = await overhead.measure_rows(plan, contenders(), say=say)
    say("the journal and the shared bucket apart")
    async with (
        local_system(Plan(home=home, temporary=True, workers=0, apis=0, sandbox=False)) as system,
        AsyncExitStack() as stack,
    ):
        site = site_of_system(system)
        cache = await Cache.open(site.valkey_url)
        stack.push_async_callback(cache.close)
        apart = await measure_apart(
            database=await site.database(stack, "credit", connections_max=1),
            buckets=TokenBuckets(cache=cache, name="bench"),
        )
    return overhead.result_of(
        rows, everything=EVERYTHING, plan=plan, apart={**apart.in_words(), "apart_us": asdict(apart)}
    )


async def _submit(system: LocalSystem, applications: int) -> Submitted:
    async with connected(system) as (site, _, session):
        await set_faults(session, system, PLANS["instant"])
        partner = Partner(
            session=session,
            urls=system.api_urls,
            token=await new_token(site, client_id="bench"),
            body_of=application,
            run=uuid4().hex[:8],
            habits=Habits(concurrency=64, doubled_share=0, repeated_share=0),
        )
        return await partner.submit(range(applications), on_progress=lambda _: None)


async def _peers(home: Path, *, say: Say, seconds: float) -> list[PeerReport]:
    """Measure the peer with each store; the sandbox runs alone beside it."""
    from faregate.bench.temporal_flow import Artefacts, Providers  # the peer's library is an extra

    peers = []
    async with local_system(Plan(home=home, temporary=True, workers=0, apis=0)) as system:
        providers = Providers.of(Settings(), sandbox_url=system.sandbox_url)
        for store, in_flight in PEER_LOADS:
            say(f"Temporal development server, {store.value}, {in_flight} in flight")
            load = PeerLoad(
                folder=home / "temporal",
                store=store,
                in_flight=in_flight,
                seconds=seconds,
                run=uuid4().hex[:8],
            )
            artefacts = Artefacts(scorecard="german-1", ruleset="card-eligibility-1")
            peers.append(await measure_peer(load, providers=providers, artefacts=artefacts))
            say(f"{peers[-1].label}: {peers[-1].workflows_per_s:.1f} workflows/s")
    return peers
