"""What is concluded from a run of `bench scale`: costs by part, and whether they stay flat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faregate.bench.credit import Drain
from faregate.bench.scale import Cost, ScalePlan, ScalePlanInvalid, cost_of, result_of, settled
from tests.unit.test_bench_burst import REPORT

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
DRAINS = [Drain(decided=100, seconds=1.0, workers=1), Drain(decided=150, seconds=1.0, workers=2)]


def row(decided_s: float | None, *, decisions: int = 1) -> Mapping[str, Any]:
    decided = None if decided_s is None else START + timedelta(seconds=decided_s)
    return {"submitted_at": START, "decided_at": decided, "decisions": decisions}


def cost(total_ms: float, *, stored: int = 1_000, is_sound: bool = True) -> Cost:
    return Cost(
        stored=stored,
        cpu_ms={"worker": total_ms / 2, "postgres": total_ms / 2},
        submit=REPORT,
        decided_per_s=90.0,
        decision_s_p95=1.0,
        is_sound=is_sound,
    )


def test_the_cost_is_the_processor_time_of_api_workers_and_postgres_an_application() -> None:
    used = {"api-1": 0.1, "worker-1": 0.5, "worker-2": 0.3, "postgres": 0.4, "sandbox": 9.0, "valkey": 9.0}
    found = cost_of(
        stored=10, used_s=used, submit=replace(REPORT, due=2, accepted=2), rows=[row(1.0), row(4.0)]
    )
    assert found.cpu_ms == pytest.approx({"api": 50.0, "worker": 400.0, "postgres": 200.0})
    assert (found.cpu_ms_total, found.decided_per_s, found.is_sound) == (pytest.approx(650.0), 0.5, True)


@pytest.mark.parametrize(
    "rows",
    [[row(1.0), row(None)], [row(1.0)], [row(1.0), row(2.0, decisions=2)], []],
)
def test_a_probe_with_a_lost_or_doubled_application_is_not_sound(rows: list[Mapping[str, Any]]) -> None:
    submit = replace(REPORT, due=2, accepted=2)
    assert not cost_of(stored=10, used_s={}, submit=submit, rows=rows).is_sound


@pytest.mark.parametrize(("dearest", "status"), [(12.9, 0), (13.0, 0), (13.1, 1)])
def test_a_cost_that_grows_with_the_store_fails(dearest: float, status: int) -> None:
    costs = [cost(10.0), cost(dearest, stored=10_000), cost(11.0, stored=100_000)]
    assert result_of(DRAINS, costs).exit_status == status


def test_an_unsound_probe_fails_and_nothing_measured_is_not_flat() -> None:
    assert result_of(DRAINS, [cost(10.0), cost(10.0, is_sound=False)]).exit_status == 1
    assert result_of(DRAINS, [cost(0.0)]).exit_status == 1


def test_the_result_sets_many_workers_beside_one() -> None:
    result = result_of(DRAINS, [cost(10.0)])
    assert (result.ours, result.peer, result.ratio) == (150.0, 100.0, 1.5)
    assert result.as_json()["costs"][0]["cpu_ms_total"] == 10.0
    assert result_of(DRAINS[:1], [cost(10.0)]).peer is None


@pytest.mark.parametrize(
    ("used_a_second", "quiet", "seconds"),
    [([0.9, 0.9, 0.1, 0.1, 0.1], True, 5), ([0.1, 0.9, 0.1, 0.1, 0.1], True, 5), ([0.9] * 20, False, 8)],
)
async def test_a_system_has_settled_after_three_quiet_seconds_in_a_row(
    used_a_second: list[float], quiet: bool, seconds: int
) -> None:
    passed = 0

    async def second(_: float) -> None:
        nonlocal passed
        passed += 1

    found = await settled(lambda: {"postgres": sum(used_a_second[:passed])}, timeout_s=8, second=second)
    assert (found, passed) == (quiet, seconds)


@pytest.mark.parametrize(
    "wrong",
    [{"sizes": ()}, {"sizes": (10_000, 1_000)}, {"sizes": (100,)}, {"probe": 0}, {"workers_max": 0}],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ScalePlanInvalid):
        ScalePlan(**wrong)
