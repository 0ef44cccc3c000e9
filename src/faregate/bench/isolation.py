"""`faregate bench isolation`: what a provider that fails gets to feel, and what one that hangs lets the others feel.

Ours is the running system: pools, journal and policies, over real HTTP to the sandbox. Beside it stand, with the same
adapters and the same sandbox, what one would write first: a retry of three, and one pool of calls for everybody.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from faregate.bench.report import BenchResult
from faregate.bench.verdict import percentile
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.infra.database import Database
from faregate.infra.queries import load_queries
from faregate.kernel.errors import InvalidError
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome

_QUERIES = load_queries(__package__)

AMPLIFICATION_MAX = 1.1
P99_FACTOR_MAX = 1.2
ANSWERED_SHARE_MIN = 0.999
NAIVE_RETRIES = 3
NAIVE_BACKOFF_S = 0.05


class IsolationPlanInvalid(InvalidError):
    """The rates or lengths of a run make no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IsolationPlan:
    """Load in applications a second; lengths in seconds. `slots` is the size of the pool that the baseline shares.

    Rounds with and without the hanging provider take turns.
    """

    per_s: float = 25.0
    storm_s: float = 20.0
    round_s: float = 15.0
    rounds: int = 2
    slots: int = 64

    def __post_init__(self) -> None:
        if min(self.per_s, self.storm_s, self.round_s) <= 0 or self.rounds < 1 or self.slots < 1:
            raise IsolationPlanInvalid("rates, lengths, rounds and slots must be above 0")

    def applications(self, seconds: float) -> int:
        """How many applications such a time brings."""
        return max(1, round(self.per_s * seconds))


@dataclass(frozen=True, slots=True, kw_only=True)
class Storm:
    """Calls that reached a provider which refused all of them, and how many were wanted."""

    wanted: int
    calls: int

    @property
    def amplification(self) -> float:
        """Calls for each that was wanted."""
        return self.calls / self.wanted if self.wanted else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settling:
    """How long the checks took, and how many of them were answered."""

    seconds: Mapping[str, Sequence[float]]
    answered_share: float

    def p99_s(self, check: str) -> float:
        """The 99th percentile of one check."""
        return percentile(sorted(self.seconds[check]), 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Hanging:
    """The other checks without the hanging provider and with it."""

    without: Settling
    hanging: Settling

    @property
    def factors(self) -> dict[str, float]:
        """How many times longer each check's 99th percentile is while the other provider hangs."""
        return {
            check: self.hanging.p99_s(check) / p99_s if (p99_s := self.without.p99_s(check)) else 0.0
            for check in sorted(self.without.seconds)
        }

    @property
    def worst_factor(self) -> float:
        """The factor of the check that feels it most."""
        return max(self.factors.values(), default=0.0)


async def settling_times(journal: Database, application_ids: Sequence[str]) -> list[dict[str, Any]]:
    """Return a row for each check of these applications: check_name, seconds, is_done.

    `journal` acts as the gateway.
    """
    async with journal.connection() as conn:
        return await (
            await conn.execute(_QUERIES["settling_times"], {"ids": list(application_ids)})
        ).fetchall()


def settling_of(rows: Sequence[Mapping[str, Any]], *, without: str) -> Settling:
    """Return how the checks settled, leaving out the check of the hanging provider. Rows: check, seconds, is_done."""
    others = [row for row in rows if row["check_name"] != without]
    seconds: dict[str, list[float]] = {}
    for row in others:
        if row["seconds"] is not None:
            seconds.setdefault(row["check_name"], []).append(row["seconds"])
    answered = sum(bool(row["is_done"]) for row in others)
    return Settling(seconds=seconds, answered_share=answered / max(len(others), 1))


async def naive_retry(adapter: Adapter, request: ProviderRequest, *, timeout_s: float) -> Outcome:
    """Ask, and ask again up to three times whatever is wrong: how one would write it first."""
    for _ in range(NAIVE_RETRIES):
        outcome = await adapter.submit(request, timeout_s=timeout_s)
        if not isinstance(outcome, NotDone) or not outcome.retryable:
            return outcome
        await asyncio.sleep(NAIVE_BACKOFF_S)
    return await adapter.submit(request, timeout_s=timeout_s)


class SharedPool:
    """One pool of calls for all providers: the baseline. It has `slots` places, and no policy."""

    def __init__(self, adapters: Mapping[str, Adapter], *, slots: int, timeout_s: float) -> None:
        self._adapters = adapters
        self._slots = asyncio.Semaphore(slots)
        self._timeout_s = timeout_s

    async def ask(self, check: str, request: ProviderRequest) -> dict[str, Any]:
        """Call as soon as there is a place; the row says how long it took from now on."""
        begun = time.perf_counter()
        async with self._slots:
            outcome = await self._adapters[check].submit(request, timeout_s=self._timeout_s)
        is_done = isinstance(outcome, Done | Accepted)
        return {"check_name": check, "seconds": time.perf_counter() - begun, "is_done": is_done}


async def at_rate(
    count: int, *, per_s: float, begin: Callable[[int], Awaitable[Sequence[dict[str, Any]]]]
) -> list[dict[str, Any]]:
    """Begin `count` pieces of work at a fixed rate, whatever becomes of them, and return all their rows."""
    loop = asyncio.get_running_loop()
    started, tasks = loop.time(), []
    for number in range(count):
        await asyncio.sleep(max(0.0, started + number / per_s - loop.time()))
        tasks.append(asyncio.ensure_future(begin(number)))
    return [row for rows in await asyncio.gather(*tasks) for row in rows]


def result_of(
    *, storm: Storm, naive: Storm, ours: Hanging, shared: Hanging, undecided: int, plan: IsolationPlan
) -> BenchResult:
    """Return both comparisons and what must hold of them."""
    share = ours.hanging.answered_share
    return BenchResult(
        name="isolation",
        ours=storm.amplification,
        peer=naive.amplification,
        peer_name=f"a naive retry of {NAIVE_RETRIES}",
        unit="calls at a provider that fails, for each that is wanted",
        lower_is_better=True,
        checks={
            f"a failing provider gets at most {AMPLIFICATION_MAX:g} calls for each that is wanted": (
                0 < storm.amplification <= AMPLIFICATION_MAX
            ),
            f"a hanging provider leaves every other check's p99 within {P99_FACTOR_MAX:g} times": (
                0 < ours.worst_factor <= P99_FACTOR_MAX
            ),
            f"the others answer at least {ANSWERED_SHARE_MIN:.1%} meanwhile": share >= ANSWERED_SHARE_MIN,
            "afterwards everything is decided": undecided == 0,
        },
        details={
            "applications_per_s": plan.per_s,
            "calls_of_the_failing_provider": storm.calls,
            "calls_wanted": storm.wanted,
            "calls_of_the_naive_retry": naive.calls,
            **{f"p99 of {check}, times": round(factor, 2) for check, factor in ours.factors.items()},
            "p99 with one shared pool, times": round(shared.worst_factor, 2),
            "answered_meanwhile_share": round(share, 5),
            "answered_in_the_shared_pool_share": round(shared.hanging.answered_share, 5),
            "p99_s": {name: _p99s(found) for name, found in (("ours", ours), ("shared pool", shared))},
        },
    )


def _p99s(found: Hanging) -> dict[str, dict[str, float]]:
    return {
        check: {
            "without": round(found.without.p99_s(check), 4),
            "hanging": round(found.hanging.p99_s(check), 4),
        }
        for check in sorted(found.without.seconds)
    }
