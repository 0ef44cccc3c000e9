"""The harness that sets calls through a layer against bare ones, and the contenders that it is used on."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter

import pytest

from faregate.bench.overhead import (
    BARE,
    OURS,
    CallMany,
    Contender,
    OverheadPlan,
    OverheadPlanInvalid,
    Row,
    measure_rows,
    result_of,
)
from faregate.bench.policy_contenders import EVERYTHING, PLAIN, contenders

SHORT = OverheadPlan(rounds=3, calls=50)


def row(ours_ns: float, *, name: str = "all", unequal: frozenset[str] = frozenset(), **peers: float) -> Row:
    return Row(name=name, bare_ns=50.0, ours_ns=ours_ns, peers_ns=peers, unequal=unequal)


@pytest.mark.parametrize(
    ("measured", "best", "is_no_worse"),
    [
        (row(100, a=200.0, b=150.0), ("b", 150.0), True),
        (row(157, a=200.0, b=150.0), ("b", 150.0), True),  # within the noise
        (row(158, a=200.0, b=150.0), ("b", 150.0), False),
        (row(158, a=200.0, b=150.0, unequal=frozenset({"b"})), ("a", 200.0), True),
        (row(158), None, True),
    ],
)
def test_ours_is_compared_with_the_best_peer_of_the_same_features(
    measured: Row, best: tuple[str, float] | None, is_no_worse: bool
) -> None:
    assert (measured.best_peer, measured.is_no_worse) == (best, is_no_worse)


@pytest.mark.parametrize(("ours_ns", "fails"), [(20_000, False), (20_001, True)])
def test_all_policies_together_have_a_limit_of_their_own(ours_ns: float, fails: bool) -> None:
    result = result_of([row(ours_ns, a=99_000.0)], everything="all", plan=SHORT, apart={"apart_us": 3})
    assert (result.exit_status == 1) is fails
    assert result.as_json()["rows"][0]["peers_ns"] == {"a": 99_000}


def test_a_row_in_which_a_peer_is_cheaper_fails_its_check() -> None:
    rows = [row(100, a=50.0, name="breaker"), row(100, a=200.0)]
    checks = result_of(rows, everything="all", plan=SHORT, apart={"apart_us": 3}).checks
    assert [name for name, held in checks.items() if not held] == ["no worse than the best peer: breaker"]


def test_every_contender_has_every_turn_with_the_collector_off() -> None:
    turns: Counter[str] = Counter()
    collecting: set[bool] = set()

    def counting(name: str) -> CallMany:
        async def call_many(calls: int) -> None:
            turns[name] += calls
            collecting.add(gc.isenabled())

        return call_many

    names = (BARE, OURS, "peer")
    rows = asyncio.run(
        measure_rows(
            SHORT, [Contender(row="r", name=n, call_many=counting(n)) for n in names], say=lambda _: None
        )
    )
    assert turns == dict.fromkeys(names, 4 * SHORT.calls)  # one turn to warm up
    assert [r.peers_ns.keys() for r in rows] == [{"peer"}]
    assert False in collecting
    assert gc.isenabled()


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"calls": 0}])
def test_a_plan_without_calls_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(OverheadPlanInvalid):
        OverheadPlan(**wrong)


def test_every_peer_and_every_policy_of_ours_really_runs() -> None:
    for peer in ("interlock", "pybreaker", "pyresilience"):
        pytest.importorskip(peer, reason="the extra [bench] is not installed")
    rows = {r.name: r for r in asyncio.run(measure_rows(SHORT, contenders(), say=lambda _: None))}
    assert len(rows) == 5
    assert rows[PLAIN].peers_ns.keys() == {"interlock-cb", "pybreaker", "pyresilience"}
    assert rows[PLAIN].unequal == {"pybreaker"}
    assert rows[EVERYTHING].best_peer is not None
