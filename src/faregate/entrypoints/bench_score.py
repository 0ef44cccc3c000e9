"""Starts fraud as a process of its own for `bench score`, with a model trained for it, and counts what it kept."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from uuid import uuid4

from faregate.bench.cpu import cpu_seconds
from faregate.bench.loadgen import Progress
from faregate.bench.report import BenchResult
from faregate.bench.score import Kept, ScorePlan, measure_score, result_of
from faregate.bench.score_stages import measure_stages
from faregate.entrypoints.bootstrap.fraud import fraud_api, fraud_registry
from faregate.entrypoints.bootstrap.fraud_training import train_on_benchmark
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.local_client import new_token, site_of_system
from faregate.fraud.api import Doing
from faregate.fraud.handlers.training import Aims
from faregate.fraud.store.decisions import tally
from faregate.infra.admission import LoopLag
from faregate.infra.clock import SystemClock
from faregate.infra.local_system import Plan, local_system

Say = Callable[[str], None]
CUSTOMERS = 1_000
ARRIVES_S = 30.0
"""So long it is waited for decisions that the service had in its spool."""


async def bench_score(plan: ScorePlan, *, home: Path, say: Say) -> BenchResult:
    """Measure scoring on a fresh system."""
    trained = train_on_benchmark(customers=CUSTOMERS, aims=Aims(), say=say)
    system_plan = Plan(
        home=home,
        temporary=True,
        workers=0,
        apis=0,
        contexts=("fraud",),
        roles=("sequencer", "features"),
        sandbox=False,
    )
    async with local_system(system_plan) as system, AsyncExitStack() as stack:
        site = site_of_system(system)
        registry = await fraud_registry(stack, site)
        doing = Doing(by="bench", at=SystemClock().now())
        version = await registry.register(trained, name="bench", doing=doing)
        await registry.activate(version.label, doing=doing)
        token = await new_token(site, client_id="bench", scopes=["fraud:score"])

        def progress(at: Progress) -> None:
            say(f"{at.answered:,} of {at.count:,} answered")

        found = await measure_score(
            plan,
            url=system.api_url,
            token=token,
            run=uuid4().hex[:8],
            cpu_now=lambda: cpu_seconds(system.pids()),
            on_progress=progress,
        )
        counted = await kept(stack, site, until=found.answered)
        say("each stage alone")
        fraud = await fraud_api(Process(stack, site), loop_lag=LoopLag())
        return result_of(found, counted, stages=await measure_stages(fraud, run=uuid4().hex[:8]))


async def kept(stack: AsyncExitStack, site: Site, *, until: int) -> Kept:
    """Count the decisions in the database, once those of the spool have arrived."""
    database = await site.database(stack, "fraud", connections_max=1)
    deadline = time.monotonic() + ARRIVES_S
    while True:
        async with database.connection() as conn:
            counted = Kept(**await tally(conn))
        if counted.decisions >= until or time.monotonic() > deadline:
            return counted
        await asyncio.sleep(0.2)
