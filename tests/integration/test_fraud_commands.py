"""`faregate fraud models` and `replay`: from the simulator to a model in force, on a real database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.settings import Settings


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run("models", "list", "--json")` runs a command on this test's servers and returns what it printed."""
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    monkeypatch.setenv("FAREGATE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_VALKEY_URL", settings.valkey_url.get_secret_value())
    settings.home.mkdir(mode=0o700)

    def command(*arguments: str) -> Any:
        ended = CliRunner().invoke(app, ["fraud", *arguments, "--json"], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout)

    return command


@pytest.mark.requirement("F11")
def test_a_model_is_trained_twice_alike_listed_activated_watched_and_noted(run: Any) -> None:
    small = ("models", "train", "--customers", "40")
    [first] = run(*small, "--activate")
    assert (first["model"], first["in_force"]) == ("payments-1", "active")
    [again] = run(*small)
    assert (again["model"], again["sha256"]) == ("payments-1", first["sha256"])
    [second] = run(*small, "--review-share", "0.05")
    assert second["model"] == "payments-2"
    assert run("models", "activate", "payments-2", "--reason", "finds more")[0]["active"] == "payments-2"
    assert run("models", "shadow", "payments-1", "--reason", "beside")[0]["shadow"] == "payments-1"
    assert [row["in_force"] for row in run("models", "list")] == ["active", "shadow"]
    assert run("models", "roll-back", "--reason", "declines too much")[0]["active"] == "payments-1"
    assert run("models", "shadow", "--reason", "enough")[0]["shadow"] is None
    assert [act["kind"] for act in run("models", "acts")] == [
        "shadowed", "rolled_back", "shadowed", "activated", "activated",
    ]  # fmt: skip


def test_a_model_of_the_benchmarks_own_features_is_measured_and_not_registered(run: Any) -> None:
    [measured] = run("models", "train", "--customers", "40", "--features", "fraud_benchmark")
    assert measured["features"] == "fraud_benchmark"
    assert 0 <= measured["average_precision"] <= 1
    assert run("models", "list") == []


def test_with_no_decision_there_is_nothing_that_differs(run: Any) -> None:
    assert run("replay", "--last", "10")["decisions"] == 0
