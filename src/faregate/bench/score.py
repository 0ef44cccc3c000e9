"""`faregate bench score`: how many payments a second one process decides, and how long each takes.

Each has its features read and updated, rules and model evaluated, and its decision committed with fsync when the
answer leaves. The generator shares the machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

from faregate.bench.cpu import used_between
from faregate.bench.load_process import PAYMENTS, generate_apart
from faregate.bench.loadgen import Load, LoadReport, OnProgress
from faregate.bench.report import BenchResult, target

TARGET_PER_S: Final = 1_000.0
TARGET_P99_MS: Final = 10.0
TARGET_P9999_MS: Final = 100.0
LOADED: Final = 0.6


@dataclass(frozen=True, slots=True, kw_only=True)
class ScorePlan:
    """How long it is measured flat out, and at 60 % of the rate that was found, over how many connections."""

    flat_out_s: float = 20.0
    loaded_s: float = 60.0
    connections: int = 16
    warm: int = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is in the database afterwards: decisions, those with a model's score, and what they went without."""

    decisions: int
    scored: int
    by_action: Mapping[str, int]
    degraded: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreLoad:
    """What the service answered flat out and loaded, and what processors that took."""

    flat_out: LoadReport
    loaded: LoadReport
    answered: int
    cpu_s: Mapping[str, float]
    loaded_cpu_s: Mapping[str, float]


async def measure_score(
    plan: ScorePlan,
    *,
    url: str,
    token: str,
    run: str,
    cpu_now: Callable[[], Mapping[str, float]],
    on_progress: OnProgress,
) -> ScoreLoad:
    """Warm up, score flat out, then at 60 % of that rate."""
    fixed: dict[str, Any] = {
        "urls": (url,),
        "connections": plan.connections,
        "headers": {"Authorization": f"Bearer {token}"},
    }
    warm = await generate_apart(Load(count=plan.warm, **fixed), run=f"{run}w", what=PAYMENTS)
    count = round(warm.accepted_per_s * plan.flat_out_s)
    before = cpu_now()
    flat_out = await generate_apart(
        Load(count=count, **fixed), run=f"{run}f", what=PAYMENTS, on_progress=on_progress
    )
    between = cpu_now()
    rate = LOADED * flat_out.accepted_per_s
    loaded = await generate_apart(
        Load(count=round(rate * plan.loaded_s), rate_per_s=rate, **fixed),
        run=f"{run}l",
        what=PAYMENTS,
        on_progress=on_progress,
    )
    return ScoreLoad(
        flat_out=flat_out,
        loaded=loaded,
        answered=warm.accepted + flat_out.accepted + loaded.accepted,
        cpu_s=used_between(before, between),
        loaded_cpu_s=used_between(between, cpu_now()),
    )


def result_of(found: ScoreLoad, kept: Kept, *, stages: Mapping[str, float]) -> BenchResult:
    """Return the result: the rate of one process against the target, the latencies, and where the time goes."""
    flat_out, loaded = found.flat_out, found.loaded
    return BenchResult(
        name="score",
        ours=flat_out.accepted_per_s,
        peer=TARGET_PER_S,
        peer_name="target",
        unit="scored/s, one process",
        checks={
            "every answer is in the database once, and nothing else": kept.decisions == found.answered,
            "nothing was refused, dropped or failed": flat_out.failed
            + flat_out.refused
            + loaded.failed
            + loaded.refused
            + loaded.dropped
            == 0,
            "the model scored what the rules let pass": kept.scored > 0,
        },
        details={
            "flat_out_p50_ms": flat_out.latency_ms_p50,
            "flat_out_p99_ms": flat_out.latency_ms_p99,
            "loaded_rate_per_s": loaded.accepted_per_s,
            "loaded_p50_ms": loaded.latency_ms_p50,
            "loaded_p99_ms": loaded.latency_ms_p99,
            "loaded_p999_ms": loaded.latency_ms_p999,
            "loaded_p9999_ms": loaded.latency_ms_p9999,
            "loaded_max_ms": loaded.latency_ms_max,
            "target_1000_scored_per_s": target(flat_out.accepted_per_s >= TARGET_PER_S),
            "target_p99_10_ms_at_60_percent": target(loaded.latency_ms_p99 <= TARGET_P99_MS),
            "target_p9999_100_ms": target(loaded.latency_ms_p9999 < TARGET_P9999_MS),
            "generator_cpu_share": round(flat_out.generator_cpu_s / max(flat_out.seconds, 1e-9), 2),
            "cpu_us_a_payment": _each(found.cpu_s, flat_out),
            "loaded_cpu_us_a_payment": _each(found.loaded_cpu_s, loaded),
            **{f"alone_{name.replace(' ', '_').replace(',', '')}_us": took for name, took in stages.items()},
            "decisions": asdict(kept),
            "flat_out": _rounded(flat_out),
            "loaded": _rounded(loaded),
        },
    )


def _each(cpu_s: Mapping[str, float], report: LoadReport) -> dict[str, int]:
    return {name: round(seconds * 1e6 / max(report.accepted, 1)) for name, seconds in cpu_s.items()}


def _rounded(report: LoadReport) -> Mapping[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(report).items()}
