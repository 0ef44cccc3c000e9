"""`faregate bench credit`: decided applications a second, against the same flow on the Temporal dev server.

Ours: a backlog is accepted while no worker runs, then the workers start and the time to drain it is measured from
the first dispatch to the last decision. Everything is on: encryption, journal, events, audit, signatures. The peer
runs the same provider calls against the same sandbox, and leaves all of that out, which favours it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from faregate.bench.report import BenchResult, target
from faregate.bench.temporal_peer import PeerReport
from faregate.bench.verdict import Verdict, percentile
from faregate.credit.api import CreditApi

TARGET_PER_S = 60.0
TARGET_RATIO = 4.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drain:
    """How a backlog was decided."""

    decided: int
    seconds: float
    workers: int

    @property
    def per_s(self) -> float:
        """Decided applications a second, all workers together."""
        return self.decided / self.seconds if self.seconds else 0.0


async def wait_drained(
    credit: CreditApi, *, on_progress: Callable[[int, int], None], timeout_s: float
) -> bool:
    """Wait until nothing is being processed; False after the time-out. Reports decided and all."""
    loop = asyncio.get_running_loop()
    end = loop.time() + timeout_s
    while loop.time() < end:
        counts = dict(await credit.counts_by_status())
        total = sum(counts.values())
        processing = counts.get("processing", 0)
        on_progress(total - processing, total)
        if not processing:
            return True
        await asyncio.sleep(0.5)
    return False


def drain_of(*, dispatched_at: Sequence[datetime], decided_at: Sequence[datetime], workers: int) -> Drain:
    """Return the rate from the first dispatch to the last decision."""
    if not decided_at:
        return Drain(decided=0, seconds=0.0, workers=workers)
    seconds = (max(decided_at) - min(dispatched_at)).total_seconds()
    return Drain(decided=len(decided_at), seconds=seconds, workers=workers)


def result_of(
    drain: Drain, verdict: Verdict, peers: Sequence[PeerReport], *, cpu_s: Mapping[str, float]
) -> BenchResult:
    """Return ours against the best figure of the peer's plain file store (`--db-filename`); its others beside it.

    The write-ahead log with synchronous=normal may lose commits with the power, and memory loses all.
    """
    plain = [peer for peer in peers if peer.label.endswith("file store")]
    best = max(plain, key=lambda peer: peer.workflows_per_s, default=None)
    details: dict[str, Any] = {
        "workers": drain.workers,
        "decided_per_s_a_worker": round(drain.per_s / max(drain.workers, 1), 1),
        "decided": drain.decided,
        "backlog_decision_s_p95": round(percentile(verdict.decision_latencies_s, 95), 2),
        "cpu_ms_an_application": {
            name: round(seconds * 1000 / max(drain.decided, 1), 2) for name, seconds in cpu_s.items()
        },
        "peers": [asdict(peer) for peer in peers],
    }
    for peer in sorted(peers, key=lambda peer: peer.workflows_per_s):  # of each store its best
        if peer not in plain and peer.workflows_per_s:
            details[f"ratio to {peer.label.removeprefix('Temporal ')}"] = round(
                drain.per_s / peer.workflows_per_s, 2
            )
    details["target_60_decided_per_s_a_worker"] = target(drain.per_s / max(drain.workers, 1) >= TARGET_PER_S)
    if best and best.workflows_per_s:
        details["target_4_times_the_peer"] = target(drain.per_s / best.workflows_per_s >= TARGET_RATIO)
    return BenchResult(
        name="credit",
        ours=drain.per_s,
        peer=best.workflows_per_s if best else None,
        peer_name=best.label if best else "Temporal development server: not measured",
        unit="decided/s",
        checks=dict(verdict.checks),
        details=details,
    )
