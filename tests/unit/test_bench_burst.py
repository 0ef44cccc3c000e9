"""The result of a burst: its figures from the database's instants, and a check for each thing that may go wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from faregate.bench.burst import (
    BurstPlan,
    BurstPlanInvalid,
    Drain,
    Measured,
    Phase,
    accepted_ids,
    drain_of,
    latencies_s,
    result_of,
)
from faregate.bench.loadgen import LoadReport
from faregate.bench.verdict import Verdict

START = datetime(2026, 11, 25, 12, tzinfo=UTC)
REPORT = LoadReport(
    due=100,
    sent=100,
    accepted=100,
    refused=0,
    failed=0,
    dropped=0,
    late=0,
    seconds=1.0,
    accepted_per_s=100.0,
    latency_ms_p50=5.0,
    latency_ms_p95=10.0,
    latency_ms_p99=20.0,
    latency_ms_p999=20.0,
    latency_ms_p9999=20.0,
    latency_ms_max=30.0,
    statuses={"202": 100},
    refusal_faults={},
    generator_cpu_s=0.1,
)
PHASE = Phase(report=REPORT, application_ids=tuple(f"app_{n}" for n in range(100)))
VERDICT = Verdict(
    checks={"audit replay identical": True},
    outcomes=dict.fromkeys(PHASE.application_ids, "approved"),
    states={"approved": 100},
    decision_latencies_s=[1.0],
    world={},
    replayed=100,
    share_with_all_checks=1.0,
    scorecards=frozenset({"german-1"}),
    pulled_again=(),
)
ABOVE = Phase(
    report=replace(REPORT, accepted=40, refused=60, statuses={"202": 40, "429": 60}),
    application_ids=PHASE.application_ids,
)
MEASURED = Measured(
    burst=PHASE,
    above=ABOVE,
    steady=PHASE,
    drain=Drain(seconds=300.0, decided_per_s=100.0, decision_s_p95=290.0),
    steady_decision_s_p95=1.5,
    is_drained=True,
    stored=100,
    accepted=100,
    verdict=VERDICT,
)


def row(submitted_s: float, decided_s: float | None) -> Mapping[str, Any]:
    decided = None if decided_s is None else START + timedelta(seconds=decided_s)
    return {"submitted_at": START + timedelta(seconds=submitted_s), "decided_at": decided}


def worse(**changed: object) -> Phase:
    return Phase(report=replace(REPORT, **changed), application_ids=PHASE.application_ids)  # type: ignore[arg-type]


def failed(measured: Measured) -> list[str]:
    result = result_of(measured, BurstPlan(), workers=1, cpu_s={})
    return [sentence for sentence, held in result.checks.items() if not held]


def test_a_drain_counts_from_the_last_submission_to_the_last_decision() -> None:
    drain = drain_of([row(0, 5), row(9, 9.5), row(10, 30), row(10, 20)])
    assert (drain.seconds, drain.decided_per_s) == (20.0, 2 / 20.0)


def test_what_was_never_decided_has_no_latency_and_drains_nothing() -> None:
    assert latencies_s([row(0, None), row(0, 3), row(0, 1)]) == [1.0, 3.0]
    assert drain_of([row(0, None)]).decided_per_s == 0.0


def test_accepted_answers_name_their_applications() -> None:
    answers = b'{"application_id":"app_1","status":"processing"}\n{"application_id":"app_2"}\n'
    assert accepted_ids(answers) == ("app_1", "app_2")
    assert accepted_ids(b"") == ()


def test_a_burst_without_a_fault_passes_every_check() -> None:
    result = result_of(MEASURED, BurstPlan(), workers=2, cpu_s={"postgres": 0.5})
    assert result.exit_status == 0
    assert result.as_json()["cpu_ms_an_application"] == {"postgres": 5.0}
    assert (result.ours, result.as_json()["submit_ms_p99"]) == (100.0, 20.0)


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"burst": worse(accepted=99, refused=1)}, "a burst of 500/s is accepted whole"),
        ({"burst": worse(accepted=99, dropped=1)}, "a burst of 500/s is accepted whole"),
        ({"burst": worse(latency_ms_p99=100.0)}, "p99 of a submission in the burst under 100 ms"),
        ({"stored": 99}, "accepted, stored and decided are the same number"),
        (
            {"verdict": replace(VERDICT, outcomes={"app_1": "denied"})},
            "accepted, stored and decided are the same number",
        ),
        ({"is_drained": False}, "the backlog drains"),
        ({"above": PHASE}, "above the burst some are refused, and nothing fails otherwise"),
        (
            {"above": worse(refused=10, failed=1)},
            "above the burst some are refused, and nothing fails otherwise",
        ),
        (
            {"above": worse(refused=1, refusal_faults={"429: no valid Retry-After": 1})},
            "a refusal says when to come back, and by which limit",
        ),
        ({"steady": worse(accepted=99)}, "at a steady 50/s everything is accepted"),
        ({"steady_decision_s_p95": 10.0}, "at a steady 50/s p95 of a decision under 10 s"),
        (
            {"verdict": replace(VERDICT, checks={"audit replay identical": False})},
            "audit replay identical",
        ),
    ],
)
def test_each_fault_of_a_run_fails_its_own_check(changed: dict[str, Any], sentence: str) -> None:
    assert failed(replace(MEASURED, **changed)) == [sentence]


@pytest.mark.parametrize(
    "wrong",
    [
        {"burst_per_s": 0.0},
        {"burst_s": 0.0},
        {"above_per_s": 400.0},
        {"steady_per_s": -1.0},
        {"steady_s": 0.0},
    ],
)
def test_rates_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BurstPlanInvalid):
        BurstPlan(**wrong)  # type: ignore[arg-type]


def test_the_client_may_submit_the_burst_and_little_more() -> None:
    limit = BurstPlan(burst_per_s=500.0).client_limit
    assert (round(limit.per_s), limit.burst) == (550, 1000)


def test_phases_may_be_left_out() -> None:
    plan = BurstPlan(above_per_s=0.0, steady_per_s=0.0)
    result = result_of(replace(MEASURED, above=None, steady=None), plan, workers=1, cpu_s={})
    assert result.exit_status == 0
    assert {"above", "steady"}.isdisjoint(result.as_json())
