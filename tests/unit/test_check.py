"""The runner of the quality gates: it runs all of them, and its summary names what failed."""

from __future__ import annotations

import sys

import pytest
from tools import check


def test_a_failed_gate_does_not_keep_the_next_from_running(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    fails, says = (sys.executable, "-c", "raise SystemExit(3)"), (sys.executable, "-c", "print('ran')")
    monkeypatch.setattr(check, "GATES", {"lint": (fails,), "tests": (says,)})
    assert check.main([]) == 1
    assert "ran" in capfd.readouterr().out


def test_the_summary_names_the_failed_gates_and_the_time_of_each() -> None:
    text = check.summary([check.Result("lint", True, 1.25), check.Result("types", False, 20.0)])
    assert text.splitlines() == [
        "  ok      lint        1.2 s",
        "  FAILED  types      20.0 s",
        "failed: types, 21.2 s in all",
    ]


def test_an_unknown_gate_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert check.main(["spelling"]) == 2
    assert "no such gate: spelling" in capsys.readouterr().err
