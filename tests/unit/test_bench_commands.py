"""`faregate bench …` as typed: wrong input ends in one line, a failed check in the exit status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from faregate.bench.report import BenchResult
from faregate.entrypoints import bench_commands, cli

NAMES = ("submit", "credit", "scale", "isolation", "gateway")


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_explains_itself_with_an_example(name: str) -> None:
    shown = CliRunner().invoke(cli.app, ["bench", name, "--help"], env={"COLUMNS": "200"}).output
    assert f"faregate bench {name}" in shown
    assert "--json" in shown


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["credit", "--burst", "0"], "above 0"),
        (["credit", "--burst", "50", "--above", "20"], "higher rate"),
        (["scale", "--size", "5000", "--size", "1000"], "sizes must rise"),
        (["scale", "--size", "100"], "smallest size"),
        (["isolation", "--per-s", "-1"], "above 0"),
    ],
)
def test_input_that_makes_no_sense_ends_in_one_clear_line(
    arguments: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["faregate", "bench", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr().err.strip().splitlines()
    assert (ended.value.code, len([one for one in said if one.startswith("faregate: ")])) == (1, 1)
    assert line in said[-1]


@pytest.mark.parametrize(("held", "status"), [(True, 0), (False, 1)])
def test_a_check_that_fails_is_the_exit_status(
    held: bool, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    async def measure(home: Path, say: Callable[[str], None]) -> BenchResult:
        say("measuring")
        return BenchResult(name="try", ours=1.0, unit="things", checks={"it holds": held})

    with pytest.raises(typer.Exit) as ended:
        bench_commands._bench(measure, json_to="-")
    assert ended.value.exit_code == status
    assert json.loads(capsys.readouterr().out)["checks"] == {"it holds": held}


def test_without_a_terminal_progress_is_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = iter([0.0, 0.0, 5.0, 11.0, 11.0])
    monkeypatch.setattr("faregate.entrypoints.bench_commands.time.monotonic", lambda: next(seconds))
    console = Console(record=True, width=80)
    with console.capture() as shown:
        say = bench_commands._now_and_then(console)
        for line in ("first", "too soon", "later"):
            say(line)
    assert shown.get().split() == ["first", "later"]
