"""What a layer around a call costs: contenders take turns, and the median of each is set against the bare call.

Contenders of one row have the same features. They run interleaved in one thread, in another order each round, with the
garbage collector off, and what counts is the thread's own processor time: a busy machine disturbs all of them alike,
and little. Which contenders there are does not belong here.
"""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from faregate.bench.report import BenchResult
from faregate.kernel.errors import InvalidError

OURS, BARE = "faregate", "bare call"
NOISE = 1.05
"""Medians of the same code differ by about this factor."""
POLICIES_US_MAX = 20.0
CallMany = Callable[[int], Awaitable[None]]
Say = Callable[[str], None]


class OverheadPlanInvalid(InvalidError):
    """Too few rounds or calls to say anything."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Contender:
    """Somebody who calls through some layer. `has_all` is False for one that lacks features of the row."""

    row: str
    name: str
    call_many: CallMany
    has_all: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class OverheadPlan:
    """How often each contender has its turn, and how many calls it makes in one."""

    rounds: int = 25
    calls: int = 2_000
    seed: int = 1

    def __post_init__(self) -> None:
        if self.rounds < 1 or self.calls < 1:
            raise OverheadPlanInvalid("at least one round of one call")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """Nanoseconds of processor time that a call takes more than a bare one: ours, and each peer's.

    The `unequal` ones lack features of the row.
    """

    name: str
    bare_ns: float
    ours_ns: float
    peers_ns: Mapping[str, float]
    unequal: frozenset[str] = field(default_factory=frozenset)

    @property
    def best_peer(self) -> tuple[str, float] | None:
        """The cheapest peer with the same features; None where there is none."""
        equal = {name: ns for name, ns in self.peers_ns.items() if name not in self.unequal}
        return min(equal.items(), key=lambda peer: peer[1], default=None)

    @property
    def is_no_worse(self) -> bool:
        """Whether ours costs no more than the best peer, within the noise of medians."""
        return self.best_peer is None or self.ours_ns <= NOISE * self.best_peer[1]


async def measure_rows(plan: OverheadPlan, contenders: Sequence[Contender], *, say: Say) -> list[Row]:
    """Let all contenders take their turns and return the rows in their order of appearance.

    Each row needs one contender called BARE and one called OURS.
    """
    times_ns: dict[int, list[float]] = {n: [] for n in range(len(contenders))}
    order, chance = list(times_ns), random.Random(plan.seed)  # noqa: S311 - a repeatable order, no secret
    for contender in contenders:
        await contender.call_many(min(plan.calls, 200))  # whatever is made at the first call is made now
    with _no_garbage_collection():
        for turn in range(plan.rounds):
            say(f"round {turn + 1} of {plan.rounds}")
            chance.shuffle(order)
            for n in order:
                times_ns[n].append(await _ns_a_call(contenders[n], plan.calls))
            gc.collect()
    medians = [median(times_ns[n]) for n in range(len(contenders))]
    rows = list(dict.fromkeys(contender.row for contender in contenders))
    return [_row(name, contenders, medians) for name in rows]


def result_of(
    rows: Sequence[Row], *, everything: str, plan: OverheadPlan, apart: Mapping[str, Any]
) -> BenchResult:
    """Return the result; `everything` names the row with all policies, `apart` is what was measured besides."""
    whole = next(row for row in rows if row.name == everything)
    peer = whole.best_peer
    return BenchResult(
        name="gateway",
        ours=whole.ours_ns,
        peer=peer[1] if peer else None,
        peer_name=peer[0] if peer else "peer",
        unit=f"ns a call: {everything}",
        lower_is_better=True,
        checks={
            **{f"no worse than the best peer: {row.name}": row.is_no_worse for row in rows},
            f"all in-process policies within {POLICIES_US_MAX:g} µs": whole.ours_ns <= POLICIES_US_MAX * 1000,
        },
        details={
            **{row.name: _in_words(row) for row in rows},
            **apart,
            "rounds": plan.rounds,
            "calls_a_round": plan.calls,
            "rows": [
                {
                    "features": row.name,
                    "bare_ns": round(row.bare_ns),
                    "ours_ns": round(row.ours_ns),
                    "peers_ns": {name: round(ns) for name, ns in row.peers_ns.items()},
                    "peers_with_fewer_features": sorted(row.unequal),
                }
                for row in rows
            ],
        },
    )


def _row(name: str, contenders: Sequence[Contender], medians_ns: Sequence[float]) -> Row:
    members = [(c, ns) for c, ns in zip(contenders, medians_ns, strict=True) if c.row == name]
    bare_ns = next(ns for contender, ns in members if contender.name == BARE)
    over = {contender.name: ns - bare_ns for contender, ns in members if contender.name != BARE}
    return Row(
        name=name,
        bare_ns=bare_ns,
        ours_ns=over.pop(OURS),
        peers_ns=over,
        unequal=frozenset(contender.name for contender, _ in members if not contender.has_all),
    )


async def _ns_a_call(contender: Contender, calls: int) -> float:
    begun = time.thread_time_ns()
    await contender.call_many(calls)
    return (time.thread_time_ns() - begun) / calls


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _in_words(row: Row) -> str:
    less = dict.fromkeys(row.unequal, " (fewer features)")
    peers = [f"{name} {ns:,.0f}{less.get(name, '')}" for name, ns in sorted(row.peers_ns.items())]
    return ", ".join([f"{row.ours_ns:,.0f} ns", *peers])
