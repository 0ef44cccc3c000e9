"""The result of a benchmark: its ratio, its JSON, its table, its exit status."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from faregate.bench.report import BenchResult, emit


def result(**changed: object) -> BenchResult:
    fields: dict[str, object] = {"name": "credit", "ours": 90.0, "unit": "decided/s", "peer": 12.0}
    return BenchResult(**(fields | changed))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("changed", "ratio"),
    [
        ({}, 7.5),
        ({"lower_is_better": True, "ours": 2.0, "peer": 5.0}, 2.5),
        ({"peer": None}, None),
        ({"peer": 0.0}, None),
    ],
)
def test_a_ratio_above_one_means_that_ours_is_better(changed: dict[str, object], ratio: float | None) -> None:
    assert result(**changed).ratio == ratio


def test_the_json_object_has_the_documented_fields(tmp_path: Path) -> None:
    path = tmp_path / "new" / "credit.json"
    emit(
        result(checks={"one decision each": True}, details={"runs": 3}),
        json_to=str(path),
        console=Console(file=StringIO()),
    )
    assert json.loads(path.read_text()) == {
        "name": "credit",
        "ours": 90.0,
        "peer": 12.0,
        "peer_name": "peer",
        "ratio": 7.5,
        "unit": "decided/s",
        "checks": {"one decision each": True},
        "runs": 3,
    }


def test_a_failed_check_is_shown_and_makes_the_exit_status_one() -> None:
    shown = StringIO()
    checks = {"one decision each": True, "nothing pulled twice": False}
    assert emit(result(checks=checks), console=Console(file=shown, width=100)) == 1
    assert "nothing pulled twice" in shown.getvalue()
    assert "FAILED" in shown.getvalue()


def test_json_on_standard_output_stands_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert emit(result(), json_to="-") == 0
    assert json.loads(capsys.readouterr().out)["name"] == "credit"
