"""What must hold after any run of applications, whatever went wrong during it. Asked of the database and the world.

The sandbox keeps its own durable count of executed calls, so that it testifies independently of us.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import quantiles
from typing import Any

import aiohttp

from faregate.bench.partner import Submitted
from faregate.credit.api import CreditApi
from faregate.credit.domain.checks import CHECKS

ANSWERED_SHARE_MIN = 0.9


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The checks by their sentence, and the figures behind them.

    `pulled_again` holds what the sandbox executed for each application and check that was pulled more than once.
    """

    checks: Mapping[str, bool]
    outcomes: Mapping[str, str]
    states: Mapping[str, int]
    decision_latencies_s: Sequence[float]
    world: Mapping[str, Any]
    replayed: int
    share_with_all_checks: float
    scorecards: frozenset[str]
    pulled_again: Sequence[Mapping[str, Any]]


async def judge(
    *, credit: CreditApi, session: aiohttp.ClientSession, sandbox_url: str, submitted: Submitted
) -> Verdict:
    """Check what must hold of the submitted applications."""
    ids = list(submitted.application_ids.values())
    rows = await credit.outcomes_of(ids)
    decided = [row for row in rows if row["decided_at"] is not None]
    pulls = await _get(session, f"{sandbox_url}/admin/pulls?min=2")
    replay = await credit.replay()
    return Verdict(
        checks={
            "every submission answered with one application per key": not submitted.contradictions
            and len(set(ids)) == len(submitted.application_ids),
            "every application decided exactly once": len(decided) == len(ids)
            and all(row["decisions"] == 1 for row in rows),
            "at most one executed pull per application and check": not pulls["pulls"],
            "nearly all decided with every check answered": _share(rows) >= ANSWERED_SHARE_MIN,
            "audit replay identical": not replay.different and replay.replayed >= len(ids),
        },
        outcomes={row["application_id"]: row["outcome"] for row in decided},
        states=Counter(str(row["status"]) for row in rows),
        decision_latencies_s=sorted((r["decided_at"] - r["submitted_at"]).total_seconds() for r in decided),
        world=await _get(session, f"{sandbox_url}/admin/summary"),
        replayed=replay.replayed,
        share_with_all_checks=_share(rows),
        scorecards=frozenset(row["scorecard_version"] for row in decided),
        pulled_again=[await _executions(session, sandbox_url, pull) for pull in pulls["pulls"]],
    )


def _share(rows: Sequence[Mapping[str, Any]]) -> float:
    """The share of applications whose required checks were all answered: review must not be the easy way out."""
    answered = [row for row in rows if row["checks_done"] == len(CHECKS)]
    return len(answered) / max(len(rows), 1)


def percentile(values_sorted: Sequence[float], percent: int) -> float:
    """Return a percentile of sorted values, 0 of none."""
    if len(values_sorted) < 2:
        return values_sorted[0] if values_sorted else 0.0
    return quantiles(values_sorted, n=100, method="inclusive")[percent - 1]


async def _executions(
    session: aiohttp.ClientSession, sandbox_url: str, pull: Mapping[str, Any]
) -> Mapping[str, Any]:
    query = f"application={pull['application']}&check={pull['check']}"
    return {**pull, **await _get(session, f"{sandbox_url}/admin/executions?{query}")}


async def _get(session: aiohttp.ClientSession, url: str) -> Any:
    async with session.get(url) as answer:
        answer.raise_for_status()
        return await answer.json()
