"""What a fault run makes of its observations: availability beside outages, and checks that can fail."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from faregate.bench.chaos.clients import availability, in_whole_seconds
from faregate.bench.chaos.plan import (
    HAPPENED_TO_CALLBACKS,
    NEVER_TO_CALLBACKS,
    ChaosPlan,
    Kind,
    strikes_of,
    with_incident,
)
from faregate.bench.chaos.report import checks_of, document_of, table_of
from faregate.bench.chaos.run import ChaosRun
from faregate.bench.partner import Operation, Sent, Submitted
from faregate.bench.verdict import Verdict
from faregate.credit.contracts.record import ChainReport, Verification
from faregate.infra.witness import Outage
from faregate.sandbox.faults import Fault, Stage
from faregate.sandbox.plans import PLANS


def operation(begin: float, end: float, *, is_available: bool = True, kind: str = "read") -> Operation:
    return Operation(kind=kind, begin=begin, end=end, is_available=is_available)


def good_run() -> ChaosRun:
    """A run in which everything happened and everything held."""
    verdict = Verdict(
        checks={"every application decided exactly once": True},
        outcomes={"app_1": "approved"},
        states={"approved": 1},
        decision_latencies_s=[1.0],
        world={"executed": 4, "duplicates": 0},
        replayed=1,
        share_with_all_checks=1.0,
        scorecards=frozenset({"german-1"}),
        pulled_again=(),
    )
    chain = Verification(at=datetime(2026, 1, 1, tzinfo=UTC), links=9, broken=None)
    return ChaosRun(
        plan=ChaosPlan(seconds=10, seconds_max=30, applications=1, operations_min=3),
        verdict=verdict,
        submitted=Submitted(application_ids={0: "app_1"}),
        faults=dict.fromkeys(Kind, 1),
        world={**dict.fromkeys(HAPPENED_TO_CALLBACKS, 1), "kyc:hang_after": 2, "kyc:calls": 7},
        operations=[operation(1, 2, kind="submit"), operation(2, 3), operation(4.5, 4.6, is_available=False)],
        outages=[Outage(4.0, 5.0)],
        stranded=(),
        chain=ChainReport(verification=chain, anchors=0, unsealed=0, unsealed_s=0.0),
        begin=0.0,
        fault_s=10.0,
        settle_s=1.0,
    )


BROKEN = Verification(at=datetime(2026, 1, 1, tzinfo=UTC), links=9, broken={"table": "decision"})


@pytest.mark.parametrize(
    ("begin", "end", "is_outside"),
    [
        (1.0, 3.9, True),
        (1.0, 4.0, False),
        (4.2, 4.3, False),
        (5.0, 6.0, False),
        (5.1, 6.0, True),
        (1.0, 9.0, False),
    ],
)
def test_an_operation_with_an_instant_in_an_outage_is_no_failure_of_ours(
    begin: float, end: float, is_outside: bool
) -> None:
    found = availability([operation(begin, end, is_available=False)], [Outage(4.0, 5.0)])
    assert (found.all_failed, found.outside_failed) == (1, int(is_outside))


def test_an_outage_takes_up_whole_seconds_of_the_run() -> None:
    assert in_whole_seconds([Outage(14.3, 15.1)], begin=10.2) == [Outage(14.2, 15.2)]
    run = replace(
        good_run(), operations=[operation(4.7, 4.8, is_available=False)], outages=[Outage(4.2, 4.6)]
    )
    assert run.availability().outside_failed == 0
    assert run.availability(to_the_instant=True).outside_failed == 1


def test_both_availabilities_are_shares_of_what_they_speak_of() -> None:
    operations = [operation(n, n + 0.5, is_available=n != 7) for n in range(10)]
    found = availability([*operations, operation(4.2, 4.3, is_available=False)], [Outage(4.1, 4.9)])
    assert (found.all, found.outside) == (11, 9)
    assert (round(found.percent, 2), round(found.outside_percent, 2)) == (81.82, 88.89)


@pytest.mark.parametrize(
    ("status", "answered"), [(202, True), (404, True), (409, True), (429, False), (503, False), (None, False)]
)
def test_a_refusal_for_load_and_a_broken_connection_are_no_answers(
    status: int | None, answered: bool
) -> None:
    assert Sent(status).is_answered == answered


def test_every_check_of_a_good_run_holds() -> None:
    assert all(checks_of(good_run()).values())


@pytest.mark.requirement("C34")
@pytest.mark.parametrize(
    "change",
    [
        {"stranded": ({"application_id": "app_1"},)},
        {"outages": []},
        {"faults": {kind: 1 for kind in Kind if kind is not Kind.FREEZE_VALKEY}},
        {"world": {name: 1 for name in HAPPENED_TO_CALLBACKS if name != "stale_refused"}},
        {"world": {**dict.fromkeys(HAPPENED_TO_CALLBACKS, 1), NEVER_TO_CALLBACKS[1]: 1}},
        {"submitted": Submitted()},
        {"operations": [operation(1, 2)]},
        {"operations": [operation(1, 2), operation(2, 3), operation(6, 7, is_available=False)]},
        {"chain": ChainReport(verification=BROKEN, anchors=0, unsealed=0, unsealed_s=0.0)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_whatever_does_not_hold_fails_a_check(change: dict[str, Any]) -> None:
    assert not all(checks_of(replace(good_run(), **change)).values())


def test_the_document_has_the_figures_and_the_failures_outside_of_outages() -> None:
    failed = operation(6, 7, is_available=False)
    document = document_of(replace(good_run(), operations=[failed, *good_run().operations]))
    assert document["struck"] == {"hang_after": 2}
    assert document["postgres_down"] == {"outages": 1, "seconds": 1.0}
    assert document["availability"]["all"]["percent_while_postgres_is_up"] == pytest.approx(66.6667)
    [shown] = document["unavailable_while_postgres_is_up"]
    assert (shown["at_s"], shown["after_outage_s"]) == (6, 1.0)


def test_the_table_has_a_line_for_every_fault_and_every_check() -> None:
    shown = set(table_of(good_run()).columns[0].cells)
    run = good_run()
    assert {kind.value for kind in run.plan.kinds} | set(checks_of(run)) <= shown


@pytest.mark.parametrize("kind", [kind for kind in Kind if kind.value.startswith("provider")])
def test_an_incident_meets_every_call_of_its_provider_and_leaves_the_others_alone(kind: Kind) -> None:
    usual = PLANS["rough"]
    incident = with_incident(usual, kind, provider="kyc")
    assert {name: incident.of(name) for name in usual.providers if name != "kyc"} == {
        name: usual.of(name) for name in usual.providers if name != "kyc"
    }
    rates = incident.of("kyc").rates
    assert all(rates[fault] == 1.0 for fault in strikes_of(kind))
    assert sum(rate for fault, rate in rates.items() if fault.stage is Stage.CALLBACK) > 0
    assert Fault.REFUSED not in rates
