"""`faregate bench credit --burst 500`: a burst of submissions, what is refused above it, its drain, then a steady rate.

All of it open-loop, from a process of its own, on a system whose workers decide meanwhile. Afterwards the database and
the sandbox are asked: what was accepted is there, once, decided once, and nobody was pulled twice.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from faregate.bench.credit import wait_drained
from faregate.bench.load_process import generate_apart
from faregate.bench.loadgen import Load, LoadReport, Progress
from faregate.bench.partner import Submitted
from faregate.bench.report import BenchResult
from faregate.bench.verdict import Verdict, percentile
from faregate.credit.api import CreditApi
from faregate.infra.rate import Rate
from faregate.kernel.errors import InvalidError

SUBMIT_MS_P99_MAX = 100.0
DECISION_S_P95_MAX = 10.0
WARM_UP, WARM_UP_PER_S = 300, 100.0
Say = Callable[[str], None]
Judge = Callable[[Submitted], Awaitable[Verdict]]


class BurstPlanInvalid(InvalidError):
    """The rates or the lengths of a burst make no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BurstPlan:
    """Rates in submissions a second, lengths in seconds.

    A rate of 0 leaves out the phase above the burst or the steady one. `drain_s_max` is how long the backlog may take.
    """

    burst_per_s: float = 500.0
    burst_s: float = 60.0
    above_per_s: float = 1500.0
    above_s: float = 5.0
    steady_per_s: float = 50.0
    steady_s: float = 60.0
    connections: int = 800
    drain_s_max: float = 1800.0

    def __post_init__(self) -> None:
        if self.burst_per_s <= 0 or min(self.burst_s, self.above_s, self.steady_s) <= 0:
            raise BurstPlanInvalid("the burst's rate and every phase's length must be above 0")
        if self.above_per_s and self.above_per_s <= self.burst_per_s:
            raise BurstPlanInvalid("the phase above the burst needs a higher rate than the burst, or 0")
        if self.steady_per_s < 0:
            raise BurstPlanInvalid("the steady rate must be above 0, or 0 to leave the phase out")

    @property
    def client_limit(self) -> Rate:
        """The limit of the client that submits: a tenth above the burst, so that only what exceeds it is refused."""
        return Rate(per_s=1.1 * self.burst_per_s, burst=math.ceil(2 * self.burst_per_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """What came of one load, and the applications that were accepted in it."""

    report: LoadReport
    application_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How a backlog was decided: seconds from the last submission to the last decision, and the rate meanwhile."""

    seconds: float
    decided_per_s: float
    decision_s_p95: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Everything that the result is made from."""

    burst: Phase
    above: Phase | None
    steady: Phase | None
    drain: Drain
    steady_decision_s_p95: float
    is_drained: bool
    stored: int
    accepted: int
    verdict: Verdict


class Burst:
    """One run on a running system. `folder` gets the accepted answers; `judge` says what must hold of them."""

    def __init__(
        self,
        plan: BurstPlan,
        *,
        urls: Sequence[str],
        token: str,
        run: str,
        folder: Path,
        credit: CreditApi,
        judge: Judge,
        say: Say,
    ) -> None:
        self._plan = plan
        self._fixed: dict[str, Any] = {
            "urls": tuple(urls),
            "connections": plan.connections,
            "headers": {"Authorization": f"Bearer {token}"},
        }
        self._run = run
        self._folder = folder
        self._credit = credit
        self._judge = judge
        self._say = say

    async def measure(self) -> Measured:
        """Run all phases and verify what they left."""
        plan = self._plan
        warm = await self._send("warm-up", per_s=min(WARM_UP_PER_S, plan.burst_per_s), count=WARM_UP)
        await self._drained()
        burst = await self._phase("burst", plan.burst_per_s, plan.burst_s)
        above = await self._phase("above", plan.above_per_s, plan.above_s) if plan.above_per_s else None
        is_drained = await self._drained()
        steady = await self._phase("steady", plan.steady_per_s, plan.steady_s) if plan.steady_per_s else None
        is_drained = await self._drained() and is_drained
        self._say("checking what the database and the sandbox hold …")
        phases = [phase for phase in (warm, burst, above, steady) if phase]
        ids = [application_id for phase in phases for application_id in phase.application_ids]
        return Measured(
            burst=burst,
            above=above,
            steady=steady,
            drain=drain_of(await self._rows(burst, above)),
            steady_decision_s_p95=percentile(latencies_s(await self._rows(steady)), 95),
            is_drained=is_drained,
            stored=sum((await self._credit.counts_by_status()).values()),
            accepted=sum(phase.report.accepted for phase in phases),
            verdict=await self._judge(Submitted(application_ids=dict(enumerate(ids)))),
        )

    async def _phase(self, name: str, per_s: float, seconds: float) -> Phase:
        return await self._send(name, per_s=per_s, count=max(1, round(per_s * seconds)))

    async def _send(self, name: str, *, per_s: float, count: int) -> Phase:
        def show(at: Progress) -> None:
            self._say(f"{name} at {per_s:g}/s: {at.answered:,} of {at.count:,} answered")

        file = self._folder / f"{name}.jsonl"
        load = Load(count=count, rate_per_s=per_s, answers_file=str(file), **self._fixed)
        report = await generate_apart(load, run=f"{self._run}-{name}", on_progress=show)
        self._say(
            f"{name}: {report.accepted:,} of {report.due:,} accepted, {report.refused:,} refused, "
            f"p50 {report.latency_ms_p50:.0f} ms, p99 {report.latency_ms_p99:.0f} ms"
        )
        return Phase(report=report, application_ids=accepted_ids(file.read_bytes()))

    async def _drained(self) -> bool:
        def show(done: int, total: int) -> None:
            self._say(f"draining: {done:,} of {total:,} decided")

        return await wait_drained(self._credit, on_progress=show, timeout_s=self._plan.drain_s_max)

    async def _rows(self, *phases: Phase | None) -> Sequence[Mapping[str, Any]]:
        return await self._credit.outcomes_of([i for phase in phases if phase for i in phase.application_ids])


def accepted_ids(answers: bytes) -> tuple[str, ...]:
    """Return the application of each accepted answer, one JSON document a line."""
    return tuple(orjson.loads(line)["application_id"] for line in answers.splitlines())


def latencies_s(rows: Sequence[Mapping[str, Any]]) -> list[float]:
    """Return the seconds from each submission to its decision, sorted; of undecided ones none."""
    decided = [row for row in rows if row["decided_at"]]
    return sorted((row["decided_at"] - row["submitted_at"]).total_seconds() for row in decided)


def drain_of(rows: Sequence[Mapping[str, Any]]) -> Drain:
    """Return how these applications were decided once the last of them had been submitted."""
    decided = [row["decided_at"] for row in rows if row["decided_at"]]
    if not decided:
        return Drain(seconds=0.0, decided_per_s=0.0, decision_s_p95=0.0)
    ended = max(row["submitted_at"] for row in rows)
    seconds = max((max(decided) - ended).total_seconds(), 0.0)
    after = sum(at > ended for at in decided)
    return Drain(
        seconds=seconds,
        decided_per_s=after / seconds if seconds else 0.0,
        decision_s_p95=percentile(latencies_s(rows), 95),
    )


def result_of(
    measured: Measured, plan: BurstPlan, *, workers: int, cpu_s: Mapping[str, float]
) -> BenchResult:
    """Return the figures and what must hold of them."""
    burst, drain = measured.burst.report, measured.drain
    decided = len(measured.verdict.outcomes)
    return BenchResult(
        name="credit-burst",
        ours=drain.decided_per_s,
        unit="decided/s while the backlog drains",
        checks={**_checks(measured, plan), **measured.verdict.checks},
        details={
            "offered_per_s": plan.burst_per_s,
            "client_limit_per_s": plan.client_limit.per_s,
            "accepted_in_the_burst": burst.accepted,
            "submit_ms_p50": round(burst.latency_ms_p50, 2),
            "submit_ms_p99": round(burst.latency_ms_p99, 2),
            "refused_in_the_burst": burst.refused,
            "dropped_by_the_generator": burst.dropped,
            "sent_late_by_the_generator": burst.late,
            "refused_above_it": measured.above.report.refused if measured.above else 0,
            "drain_s": round(drain.seconds, 1),
            "burst_decision_s_p95": round(drain.decision_s_p95, 1),
            "steady_per_s": plan.steady_per_s,
            "steady_decision_s_p95": round(measured.steady_decision_s_p95, 2),
            "workers": workers,
            "decided": decided,
            "cpu_ms_an_application": {
                name: round(seconds * 1000 / max(decided, 1), 2) for name, seconds in cpu_s.items()
            },
            **{
                name: _rounded(phase.report)
                for name in ("burst", "above", "steady")
                if (phase := getattr(measured, name))
            },
        },
    )


def _checks(measured: Measured, plan: BurstPlan) -> dict[str, bool]:
    burst = measured.burst.report
    checks = {
        f"a burst of {plan.burst_per_s:g}/s is accepted whole": burst.accepted == burst.due,
        f"p99 of a submission in the burst under {SUBMIT_MS_P99_MAX:g} ms": (
            burst.latency_ms_p99 < SUBMIT_MS_P99_MAX
        ),
        "accepted, stored and decided are the same number": (
            measured.accepted == measured.stored == len(measured.verdict.outcomes)
        ),
        "the backlog drains": measured.is_drained,
    }
    if measured.above:
        above = measured.above.report
        checks["above the burst some are refused, and nothing fails otherwise"] = (
            above.refused > 0 and above.failed == 0
        )
        checks["a refusal says when to come back, and by which limit"] = not (
            above.refusal_faults or burst.refusal_faults
        )
    if measured.steady:
        steady = measured.steady.report
        checks[f"at a steady {plan.steady_per_s:g}/s everything is accepted"] = steady.accepted == steady.due
        checks[f"at a steady {plan.steady_per_s:g}/s p95 of a decision under {DECISION_S_P95_MAX:g} s"] = (
            measured.steady_decision_s_p95 < DECISION_S_P95_MAX
        )
    return checks


def _rounded(report: LoadReport) -> Mapping[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(report).items()}
