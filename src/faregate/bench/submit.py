"""`faregate bench submit`: how many applications a second one API process accepts, and how long each waits.

Every accepted application is in the database with its audit entry, its stored answer and its event when the
answer leaves. Against the 500 a second that the specification asks for at peak.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from faregate.bench.cpu import used_between
from faregate.bench.load_process import generate_apart
from faregate.bench.loadgen import Load, LoadReport, OnProgress
from faregate.bench.report import BenchResult, target
from faregate.credit.api import CreditApi

SPECIFIED_PER_S = 500.0
TARGET_PER_S = 1500.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitPlan:
    """How many requests flat out and at the specified rate, over how many connections."""

    flat_out: int = 15_000
    at_rate: int = 10_000
    connections: int = 64


async def measure_submit(
    plan: SubmitPlan,
    *,
    urls: Sequence[str],
    token: str,
    credit: CreditApi,
    run: str,
    cpu_now: Callable[[], Mapping[str, float]],
    on_progress: OnProgress,
) -> BenchResult:
    """Warm up, submit flat out, then at the specified rate; count what is in the database afterwards.

    `cpu_now` returns the processor seconds that each process has used so far.
    """
    fixed: dict[str, Any] = {
        "urls": tuple(urls),
        "connections": plan.connections,
        "headers": {"Authorization": f"Bearer {token}"},
    }
    warm = await generate_apart(Load(count=1_000, **fixed), run=f"{run}w")
    before = cpu_now()
    flat_out = await generate_apart(
        Load(count=plan.flat_out, **fixed), run=f"{run}f", on_progress=on_progress
    )
    used = used_between(before, cpu_now())
    paced = await generate_apart(
        Load(count=plan.at_rate, rate_per_s=SPECIFIED_PER_S, **fixed), run=f"{run}r", on_progress=on_progress
    )
    stored = sum((await credit.counts_by_status()).values())
    expected = warm.accepted + flat_out.accepted + paced.accepted
    return _result(flat_out, paced, stored=stored, expected=expected, cpu_s=used)


def _result(
    flat_out: LoadReport, paced: LoadReport, *, stored: int, expected: int, cpu_s: Mapping[str, float]
) -> BenchResult:
    return BenchResult(
        name="submit",
        ours=flat_out.accepted_per_s,
        peer=SPECIFIED_PER_S,
        peer_name="specification",
        unit="submits/s",
        checks={
            "every accepted application is stored, and nothing else": stored == expected,
            "at the specified rate nothing is refused, dropped or failed": paced.accepted == paced.due,
            "flat out nothing fails": flat_out.failed == 0,
        },
        details={
            "target_1500_submits_per_s": target(flat_out.accepted_per_s >= TARGET_PER_S),
            "flat_out_p50_ms": flat_out.latency_ms_p50,
            "flat_out_p99_ms": flat_out.latency_ms_p99,
            "at_500_per_s_p50_ms": paced.latency_ms_p50,
            "at_500_per_s_p99_ms": paced.latency_ms_p99,
            "generator_cpu_share": _share(flat_out),
            "cpu_us_a_submit": {
                name: round(seconds * 1e6 / max(flat_out.accepted, 1)) for name, seconds in cpu_s.items()
            },
            "flat_out": _rounded(flat_out),
            "at_500_per_s": _rounded(paced),
        },
    )


def _share(report: LoadReport) -> float:
    return round(report.generator_cpu_s / report.seconds, 2) if report.seconds else 0.0


def _rounded(report: LoadReport) -> Mapping[str, Any]:
    return {k: round(v, 2) if isinstance(v, float) else v for k, v in asdict(report).items()}
