"""The demo as a newcomer runs it, with fewer applicants."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import orjson
import pytest

from faregate.infra.settings import ENV_PREFIX


@pytest.mark.timeout(180)
@pytest.mark.requirement("P1")
@pytest.mark.requirement("P6")
@pytest.mark.requirement("C3")
@pytest.mark.requirement("L4")
def test_the_demo_decides_its_applicants_and_every_check_holds(tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
    target = tmp_path / "demo.json"
    ended = subprocess.run(
        [sys.executable, "-m", "faregate", "demo", "--exit", "--applicants", "60", "--json", str(target)],
        env={**environment, "FAREGATE_HOME": str(tmp_path / "home")},
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    summary = orjson.loads(target.read_bytes())
    assert all(summary["checks"].values())
    assert sum(summary["states"].values()) == 60
    assert "processing" not in summary["states"]
    travel = summary["travel"]
    assert travel["redemptions"] == travel["members"] == 20
    assert travel["booked"] + travel["failed"] + travel["cancelled"] == 20
