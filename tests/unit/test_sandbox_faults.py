"""Faults come at their rate, by script, from one seed, and in any order of the calls."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from faregate.sandbox.faults import Fault, FaultPlan, Faults, Latency, Script, Stage


def _faults(**plan: object) -> Faults:
    return Faults(FaultPlan.model_validate(plan))


def _drawn(faults: Faults, references: list[str]) -> dict[str, Fault | None]:
    return {
        reference: faults.draw(Stage.SUBMIT, provider="bureau", reference=reference)
        for reference in references
    }


@given(st.permutations([f"app_{number}:bureau:1" for number in range(40)]))
def test_a_call_meets_the_same_fault_in_whatever_order_calls_arrive(order: list[str]) -> None:
    plan = {"default": {"rates": {"drop_after": 0.3, "error_before": 0.3}}}
    assert _drawn(_faults(**plan), order) == _drawn(_faults(**plan), sorted(order))


def test_another_seed_draws_other_faults() -> None:
    references = [f"app_{number}" for number in range(100)]
    plan = {"default": {"rates": {"drop_after": 0.5}}}
    assert _drawn(_faults(seed=1, **plan), references) != _drawn(_faults(seed=2, **plan), references)


def test_a_rate_is_met_in_the_long_run() -> None:
    faults = _faults(default={"rates": {"drop_after": 0.1, "callback_lost": 1.0}})
    drawn = _drawn(faults, [f"app_{number}" for number in range(5000)])
    assert 400 < sum(fault is Fault.DROP_AFTER for fault in drawn.values()) < 600
    assert set(drawn.values()) == {None, Fault.DROP_AFTER}


def test_the_same_reference_draws_anew_each_time() -> None:
    faults = _faults(default={"rates": {"unavailable": 0.5}})
    drawn = [faults.draw(Stage.SUBMIT, provider="bureau", reference="app_1") for _ in range(50)]
    assert set(drawn) == {None, Fault.UNAVAILABLE}


def test_a_script_strikes_its_times_and_only_its_provider_stage_and_reference() -> None:
    faults = _faults()
    faults.script(Script(provider="bureau", fault=Fault.DROP_AFTER, times=2, reference="app_1"))
    assert faults.draw(Stage.SUBMIT, provider="bureau", reference="app_2") is None
    assert faults.draw(Stage.SUBMIT, provider="kyc", reference="app_1") is None
    assert faults.draw(Stage.LOOK_UP, provider="bureau", reference="app_1") is None
    drawn = [faults.draw(Stage.SUBMIT, provider="bureau", reference="app_1") for _ in range(3)]
    assert drawn == [Fault.DROP_AFTER, Fault.DROP_AFTER, None]
    assert faults.scripts_left() == []


def test_a_script_goes_before_a_rate_and_a_persona_before_both() -> None:
    faults = _faults(default={"rates": {"drop_after": 1.0}})
    faults.script(Script(provider="bureau", fault=Fault.LIMITED))
    persona = frozenset({Fault.UNAVAILABLE})
    drawn = [
        faults.draw(Stage.SUBMIT, provider="bureau", reference="app_1", always=always)
        for always in (persona, frozenset(), frozenset())
    ]
    assert drawn == [Fault.UNAVAILABLE, Fault.LIMITED, Fault.DROP_AFTER]


@given(st.floats(min_value=0, max_value=1, exclude_max=True), st.sampled_from(["lognormal", "exponential"]))
def test_a_latency_is_never_negative_and_never_above_its_bound(unit: float, kind: str) -> None:
    latency = Latency.model_validate({"kind": kind, "median_ms": 20, "max_ms": 90})
    assert 0 <= latency.seconds(unit) <= 0.09


@pytest.mark.parametrize("kind", ["fixed", "lognormal", "exponential"])
def test_half_of_all_latencies_stay_below_the_median(kind: str) -> None:
    latency = Latency.model_validate({"kind": kind, "median_ms": 20})
    assert latency.seconds(0.5) == pytest.approx(0.02)


def test_rates_of_one_stage_that_add_up_to_more_than_one_are_refused() -> None:
    with pytest.raises(ValidationError, match="more than 1"):
        _faults(default={"rates": {"drop_after": 0.6, "error_before": 0.6}})


def test_every_fault_belongs_to_the_stage_that_its_name_says() -> None:
    stages = {fault.stage for fault in Fault}
    assert stages == set(Stage)
    assert Fault.CALLBACK_LATE.stage is Stage.CALLBACK
    assert Fault.LOOK_UP_HANG.stage is Stage.LOOK_UP
