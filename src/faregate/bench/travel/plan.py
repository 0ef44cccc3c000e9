"""What is measured of redemptions, how it is counted, and what must hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

from faregate.bench.report import BenchResult, target
from faregate.bench.verdict import percentile
from faregate.kernel.errors import InvalidError

P99_FACTOR_MAX = 1.2
SUCCESS_SHARE_MIN = 0.999
SEARCH_LATE_S = 0.1
"""What a search may take beyond its deadline: one turn of a busy loop, and the way to its caller."""


class TravelPlanInvalid(InvalidError):
    """The rates or lengths of a run make no sense."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TravelPlan:
    """Load in redemptions a second over all partners; lengths in seconds.

    `slots` is the size of the pool that the baseline shares. `redemptions` are those of a round of the race with the
    script, `at_once` of them under way. Rounds with and without the hanging partner take turns.
    """

    partners: int = 30
    per_s: float = 20.0
    round_s: float = 20.0
    rounds: int = 2
    slots: int = 10
    redemptions: int = 400
    at_once: int = 64
    races: int = 3
    members: int = 200
    searches: int = 20
    search_s: float = 1.0

    def __post_init__(self) -> None:
        if min(self.per_s, self.round_s, self.search_s) <= 0 or self.partners < 2:
            raise TravelPlanInvalid(
                "rates and lengths must be above 0, and there must be two partners at least"
            )
        if min(self.rounds, self.slots, self.redemptions, self.at_once, self.races, self.members) < 1:
            raise TravelPlanInvalid("rounds, slots, redemptions, races and members must be above 0")

    @property
    def each_round(self) -> int:
        """How many redemptions a round has."""
        return max(1, round(self.per_s * self.round_s))


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How long a redemption took, and whether it was booked."""

    seconds: float
    is_booked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Beside:
    """Redemptions at the other partners: while one hangs, and while none does."""

    without: Sequence[Ended]
    hanging: Sequence[Ended]

    @property
    def factor(self) -> float:
        """How many times longer the 99th percentile is while one hangs."""
        before = p99_s(self.without)
        return p99_s(self.hanging) / before if before else 0.0

    @property
    def success_share(self) -> float:
        """The share that is booked while one hangs."""
        return sum(one.is_booked for one in self.hanging) / max(len(self.hanging), 1)


def p99_s(ended: Sequence[Ended]) -> float:
    """The 99th percentile of what was booked."""
    return percentile(sorted(one.seconds for one in ended if one.is_booked), 99)


@dataclass(frozen=True, slots=True, kw_only=True)
class Searches:
    """How long searches took while one partner hung, how many partners they heard, and whom they named missing."""

    seconds: Sequence[float]
    partners_heard: Sequence[int]
    named_missing: Sequence[Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Races:
    """Redemptions a second in each race."""

    ours: Sequence[float]
    script: Sequence[float]


def result_of(
    *,
    plan: TravelPlan,
    races: Races,
    ours: Beside,
    shared: Beside,
    searches: Searches,
    left: Mapping[str, int],
) -> BenchResult:
    """Return all comparisons and what must hold of them. `left`: counts of what must be none."""
    victim_only = all(len(missing) == 1 for missing in searches.named_missing)
    heard = min(searches.partners_heard, default=0)
    return BenchResult(
        name="travel",
        ours=median(races.ours),
        peer=median(races.script),
        peer_name="a plain DBOS script",
        unit="redemptions/s",
        checks={
            f"the others book at least {SUCCESS_SHARE_MIN:.1%} while a partner hangs": (
                ours.success_share >= SUCCESS_SHARE_MIN
            ),
            "a search names the partner that hangs, and has the offers of all others": (
                victim_only and heard == plan.partners - 1
            ),
            **{f"afterwards {what}: none": count == 0 for what, count in left.items()},
        },
        details={
            "at least as many redemptions as the script": target(median(races.ours) >= median(races.script)),
            "p99 of the others while one hangs, times": round(ours.factor, 2),
            f"at most {P99_FACTOR_MAX:g} times": target(0 < ours.factor <= P99_FACTOR_MAX),
            "booked meanwhile, share": round(ours.success_share, 5),
            "p99 with one shared pool, times": round(shared.factor, 2),
            "booked in the shared pool, share": round(shared.success_share, 5),
            "search p99, s": round(percentile(sorted(searches.seconds), 99), 3),
            f"by the deadline of {plan.search_s:g} s": target(
                max(searches.seconds, default=0.0) <= plan.search_s + SEARCH_LATE_S
            ),
            "partners": plan.partners,
            "redemptions_per_s": plan.per_s,
            "races": {
                "ours": [round(x, 1) for x in races.ours],
                "script": [round(x, 1) for x in races.script],
            },
            "p99_s": {
                name: {"without": round(p99_s(found.without), 3), "hanging": round(p99_s(found.hanging), 3)}
                for name, found in (("ours", ours), ("shared pool", shared))
            },
        },
    )
