"""`faregate bench scale`: what more workers bring, and what an application costs when many are stored already.

The cost of an application is processor time, of the API, the worker and PostgreSQL together: unlike a rate it says the
same on a busy machine. The store is filled between two measurements, while no worker runs.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faregate.bench.burst import latencies_s
from faregate.bench.cpu import used_between
from faregate.bench.credit import Drain
from faregate.bench.loadgen import LoadReport
from faregate.bench.report import BenchResult
from faregate.bench.verdict import percentile
from faregate.kernel.errors import InvalidError

FLAT_MAX = 1.3
QUIET_SHARE = 0.5
"""Below this share of one processor a system does only what it does when nothing is asked of it."""
QUIET_S = 3
CpuNow = Callable[[], Mapping[str, float]]


class ScalePlanInvalid(InvalidError):
    """The sizes or numbers of a run make no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePlan:
    """Stored applications at which the cost is measured, in rising order, and how much is done at each.

    `originals` are decided for real and then copied; `probe` are submitted and decided at each size. `backlog`
    applications are decided by 1, 2, … `workers_max` workers.
    """

    sizes: Sequence[int] = (1_000, 10_000, 100_000)
    originals: int = 200
    probe: int = 400
    backlog: int = 1_500
    workers_max: int = 2
    settle_s_max: float = 900.0

    def __post_init__(self) -> None:
        if not self.sizes or list(self.sizes) != sorted(set(self.sizes)):
            raise ScalePlanInvalid("sizes must rise")
        if min(self.originals, self.probe, self.backlog, self.workers_max) < 1:
            raise ScalePlanInvalid("originals, probe, backlog and workers must be at least 1")
        if self.sizes[0] < self.originals:
            raise ScalePlanInvalid("the smallest size must hold the originals")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What an application costs with so many stored; `decided` of the probe's, each once if `is_sound`."""

    stored: int
    cpu_ms: Mapping[str, float]
    submit: LoadReport
    decided_per_s: float
    decision_s_p95: float
    is_sound: bool

    @property
    def cpu_ms_total(self) -> float:
        """Milliseconds of processor time, all processes together."""
        return sum(self.cpu_ms.values())


async def settled(cpu_now: CpuNow, *, timeout_s: float, second: Callable[[float], Awaitable[None]]) -> bool:
    """Wait until the processes have nothing to catch up with; False after the time-out. `second` waits one second."""
    quiet, before = 0, cpu_now()
    for _ in range(int(timeout_s)):
        await second(1.0)
        after = cpu_now()
        is_quiet = sum(used_between(before, after).values()) < QUIET_SHARE
        quiet, before = quiet + 1 if is_quiet else 0, after
        if quiet >= QUIET_S:
            return True
    return False


def cost_of(
    *, stored: int, used_s: Mapping[str, float], submit: LoadReport, rows: Sequence[Mapping[str, Any]]
) -> Cost:
    """Return what the probe cost. `rows` are the outcomes of its applications."""
    decided = [row for row in rows if row["decided_at"]]
    begun = min((row["submitted_at"] for row in rows), default=None)
    seconds = (
        max((row["decided_at"] - begun).total_seconds() for row in decided) if decided and begun else 0.0
    )
    parts = {"api-1": "api", "worker-1": "worker", "postgres": "postgres"}
    by_part = dict.fromkeys(parts.values(), 0.0)
    for name, used in used_s.items():
        part = "worker" if name.startswith("worker-") else parts.get(name)
        if part:
            by_part[part] += used * 1000 / max(len(rows), 1)
    return Cost(
        stored=stored,
        cpu_ms=by_part,
        submit=submit,
        decided_per_s=len(decided) / seconds if seconds else 0.0,
        decision_s_p95=percentile(latencies_s(rows), 95),
        is_sound=len(decided) == submit.accepted == submit.due and all(r["decisions"] == 1 for r in rows),
    )


def result_of(drains: Sequence[Drain], costs: Sequence[Cost]) -> BenchResult:
    """Return decided/s with the most workers beside one, and whether the cost stays flat."""
    totals = [cost.cpu_ms_total for cost in costs]
    cheapest = min(totals, default=0.0)
    factor = max(totals) / cheapest if cheapest else 0.0
    return BenchResult(
        name="scale",
        ours=drains[-1].per_s,
        peer=drains[0].per_s if len(drains) > 1 else None,
        peer_name="1 worker",
        unit=f"decided/s with {drains[-1].workers} worker(s)",
        checks={
            f"an application costs the same within {FLAT_MAX:g} times at every size": 0 < factor <= FLAT_MAX,
            "every application of every probe decided exactly once": all(cost.is_sound for cost in costs),
        },
        details={
            **{f"decided/s with {d.workers} worker(s)": round(d.per_s, 1) for d in drains},
            **{f"with {cost.stored:,} stored": _in_words(cost) for cost in costs},
            "dearest_to_cheapest": round(factor, 2),
            "costs": [_document(cost) for cost in costs],
            "drains": [{"workers": d.workers, "decided_per_s": round(d.per_s, 1)} for d in drains],
        },
    )


def _in_words(cost: Cost) -> str:
    parts = ", ".join(f"{name} {ms:.1f}" for name, ms in cost.cpu_ms.items())
    return (
        f"{cost.cpu_ms_total:.1f} ms of CPU ({parts}); submit {cost.submit.accepted_per_s:,.0f}/s, "
        f"p99 {cost.submit.latency_ms_p99:,.0f} ms; {cost.decided_per_s:.0f} decided/s"
    )


def _document(cost: Cost) -> dict[str, Any]:
    return {
        "stored": cost.stored,
        "cpu_ms": {name: round(ms, 2) for name, ms in cost.cpu_ms.items()},
        "cpu_ms_total": round(cost.cpu_ms_total, 2),
        "submits_per_s": round(cost.submit.accepted_per_s, 1),
        "submit_ms_p50": round(cost.submit.latency_ms_p50, 2),
        "submit_ms_p99": round(cost.submit.latency_ms_p99, 2),
        "decided_per_s": round(cost.decided_per_s, 1),
        "decision_s_p95": round(cost.decision_s_p95, 2),
    }
