"""Online, offline and the definition agree on a slice of the benchmark; all of it: `faregate features verify`."""

from __future__ import annotations

import json

import pytest
from typer.testing import CliRunner

from faregate.bench.feature_equality import verify_equality
from faregate.bench.feature_events import batches_of_events, benchmark_events
from faregate.entrypoints.feature_commands import app
from faregate.features.benchmark import BENCHMARK
from faregate.features.facts import FeatureEvent, Reversal
from faregate.features.offline import backfill
from faregate.features.online import OnlineFeatures
from faregate.infra.cache import Cache
from faregate.sandbox.traffic.benchmark import benchmark_payments
from tests.features_oracle import oracle


@pytest.mark.requirement("F13")
async def test_three_engines_say_the_same_of_a_slice_of_the_benchmark(cache: Cache) -> None:
    payments, _ = benchmark_payments(customers=3)
    table = benchmark_events(payments).slice(0, 700)
    [facts] = batches_of_events(table, size=700)
    by_definition = [asked.values for asked in oracle(facts, BENCHMARK)]
    names = list(BENCHMARK.feature_named)
    offline = backfill(table, BENCHMARK).select(names).to_pylist()
    online = await OnlineFeatures(cache, BENCHMARK, remembered_s=0).apply(facts)
    assert offline == by_definition
    assert [one.values for one in online if one.values is not None] == by_definition
    assert any(row["terminal_risk_30d"] for row in offline), (
        "no fraud is seen in the slice: it proves nothing"
    )


@pytest.mark.requirement("F13")
async def test_online_and_offline_have_no_skew_over_some_customers(cache: Cache) -> None:
    said: list[str] = []
    found = await verify_equality(cache, customers=20, say=said.append)
    assert found.skew.is_none, found.skew.examples
    assert found.skew.rows > 5_000
    assert found.skew.values == found.skew.rows * 18
    assert said


async def test_what_online_cannot_know_shows_as_skew(cache: Cache) -> None:
    """A store that is not empty, or lost something, does not pass for equal."""
    payments, _ = benchmark_payments(customers=3)
    [facts] = batches_of_events(benchmark_events(payments).slice(0, 50), size=50)
    await OnlineFeatures(cache, BENCHMARK, remembered_s=0).reverse(_reversal(facts[0]))
    found = await verify_equality(cache, customers=3, say=lambda _: None)
    assert not found.skew.is_none
    assert found.skew.rows_missing == 1


def _reversal(event: FeatureEvent) -> Reversal:
    return Reversal(event=event, observed_ms=event.observed_ms)


def test_the_command_prints_the_report_and_succeeds() -> None:
    result = CliRunner().invoke(app, ["verify", "--customers", "3", "--json"])
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert report["match"] == report["values"] > 0
    assert (report["mismatch"], report["missing"], report["extra"]) == (0, 0, 0)
    assert set(report["features"]) == set(BENCHMARK.feature_named)


def test_the_list_names_every_feature_with_the_version() -> None:
    result = CliRunner().invoke(app, ["list", "fraud_benchmark", "--json"])
    listed = json.loads(result.stdout)
    assert listed["version"] == BENCHMARK.version
    assert [feature["name"] for feature in listed["features"]] == list(BENCHMARK.feature_named)
    assert f"version {BENCHMARK.version}" in CliRunner().invoke(app, ["list", "fraud_benchmark"]).stdout
