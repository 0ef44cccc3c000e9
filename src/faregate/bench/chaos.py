"""A fault run: parts are killed at random moments while applications arrive; afterwards the invariants are checked.

It kills with SIGKILL, so that nothing gets a chance to tidy up; the supervisor starts each part again.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp

from faregate.bench.partner import Partner, wait_until
from faregate.bench.verdict import Verdict, judge, percentile
from faregate.credit.api import CreditApi
from faregate.infra.supervisor import Supervisor

OnEvent = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosPlan:
    """How many applications, which parts are killed how often, and how long between two kills. Times in seconds.

    A part is killed again only once it is ready, and all parts about equally often. The faults stop after
    `kills_max`, or earlier when half of the applications have been decided and every part was killed.
    """

    applications: int
    victims: Sequence[str]
    kills_max: int = 30
    pause_s_min: float = 1.0
    pause_s_max: float = 5.0
    settle_s_max: float = 120.0
    seed: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosReport:
    """The verdict, how often each part was killed, and how many applications were left undecided."""

    verdict: Verdict
    kills: Mapping[str, int]
    stranded: int
    requests_broken: int
    victims: Sequence[str]

    @property
    def checks(self) -> Mapping[str, bool]:
        """What must hold: the verdict, and that nothing is stranded once the faults have stopped."""
        return {
            **self.verdict.checks,
            "no application stranded after the faults stopped": self.stranded == 0,
            "every part was killed": all(self.kills.get(victim) for victim in self.victims),
        }


class Chaos:
    """One fault run on a running system."""

    def __init__(
        self,
        plan: ChaosPlan,
        *,
        supervisor: Supervisor,
        credit: CreditApi,
        session: aiohttp.ClientSession,
        sandbox_url: str,
        on_event: OnEvent,
    ) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._credit = credit
        self._session = session
        self._sandbox_url = sandbox_url
        self._on_event = on_event
        self._random = random.Random(plan.seed)  # noqa: S311 - a repeatable run, not a secret
        self._kills: Counter[str] = Counter()

    async def run(self, partner: Partner) -> ChaosReport:
        """Submit while parts die, let the system settle, and check what must hold."""
        killer = asyncio.create_task(self._kill())
        submitted = await partner.submit(range(self._plan.applications), on_progress=lambda _: None)
        self._on_event(
            f"{len(submitted.application_ids)} applications accepted, {submitted.broken} requests broken"
        )
        await self._kills_suffice(killer, share=0.5)
        killer.cancel()
        await asyncio.gather(killer, return_exceptions=True)
        self._on_event("the faults stop")
        for victim in self._plan.victims:
            await self._supervisor.wait_ready(victim)
        await wait_until(self._all_decided, timeout_s=self._plan.settle_s_max)
        stranded = dict(await self._credit.counts_by_status()).get("processing", 0)
        verdict = await judge(
            credit=self._credit, session=self._session, sandbox_url=self._sandbox_url, submitted=submitted
        )
        return ChaosReport(
            verdict=verdict,
            kills=self._kills,
            stranded=stranded,
            requests_broken=submitted.broken,
            victims=self._plan.victims,
        )

    async def _kill(self) -> None:
        while self._kills.total() < self._plan.kills_max:
            await asyncio.sleep(self._random.uniform(self._plan.pause_s_min, self._plan.pause_s_max))
            least = min(self._kills[victim] for victim in self._plan.victims)
            victim = self._random.choice([v for v in self._plan.victims if self._kills[v] == least])
            await self._supervisor.wait_ready(victim)  # A part that never comes up would prove nothing.
            self._kills[victim] += 1
            self._on_event(f"kill -9 {victim}")
            self._supervisor.kill(victim)

    async def _kills_suffice(self, killer: asyncio.Task[None], *, share: float) -> None:
        """Return when the kills are through, or that share is decided and every part was killed."""

        async def enough() -> bool:
            counts = dict(await self._credit.counts_by_status())
            decided = counts.pop("processing", 0) <= share * self._plan.applications
            return killer.done() or (decided and all(self._kills[victim] for victim in self._plan.victims))

        await wait_until(enough, timeout_s=3600)

    async def _all_decided(self) -> bool:
        return dict(await self._credit.counts_by_status()).get("processing", 0) == 0


def report_of(report: ChaosReport) -> dict[str, Any]:
    """Return the run as one JSON document."""
    waited = report.verdict.decision_latencies_s
    return {
        "name": "chaos-credit",
        "applications": len(report.verdict.outcomes),
        "kills": dict(report.kills),
        "requests_broken": report.requests_broken,
        "share_with_all_checks": round(report.verdict.share_with_all_checks, 4),
        "states": dict(report.verdict.states),
        "decision_s": {f"p{p}": round(percentile(waited, p), 3) for p in (50, 95, 99)},
        "provider_calls": {name: report.verdict.world[name] for name in ("executed", "duplicates")},
        "checks": dict(report.checks),
    }
