"""kill -9 of the API, the worker and the sandbox at random moments while 200 applications are on their way."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from faregate.bench.chaos import ChaosPlan, ChaosReport
from faregate.entrypoints.chaos import VICTIMS, run_chaos
from faregate.infra.settings import ENV_PREFIX
from faregate.sandbox.plans import PLANS


@pytest.fixture
def blind_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children inherit the environment: settings of whoever runs the tests stay out."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


async def _chaos(home: Path, *, applications: int, seed: int) -> ChaosReport:
    plan = ChaosPlan(applications=applications, victims=VICTIMS, kills_max=9, pause_s_max=3.0, seed=seed)
    return await run_chaos(plan, home=home, faults=PLANS["rough"], on_event=print)


@pytest.mark.timeout(240)
@pytest.mark.requirement("C5")
@pytest.mark.requirement("C22")
@pytest.mark.requirement("C23")
@pytest.mark.requirement("C28")
@pytest.mark.usefixtures("blind_to_the_environment")
async def test_nothing_is_lost_or_pulled_twice_when_every_part_is_killed_at_random(tmp_path: Path) -> None:
    report = await _chaos(tmp_path / "home", applications=200, seed=11)
    assert all(report.kills[victim] > 0 for victim in VICTIMS), dict(report.kills)
    assert all(report.checks.values()), dict(report.checks)
    assert len(report.verdict.outcomes) == 200
