"""Everything fails, in turn and at once, while applications are on their way: kill -9, SIGSTOP, restarts, incidents."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest

from faregate.bench.chaos.plan import ChaosPlan
from faregate.bench.chaos.report import checks_of, document_of
from faregate.entrypoints.chaos import run_chaos
from faregate.infra.settings import ENV_PREFIX
from tests.servers import require_kafka


@pytest.fixture
def blind_to_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """The children inherit the environment: settings of whoever runs the tests stay out."""
    for name in [name for name in os.environ if name.startswith(ENV_PREFIX)]:
        monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("kafka", "processes"),
    [
        pytest.param(False, False, id="log"),
        pytest.param(False, True, id="log-processes", marks=pytest.mark.soak),
        pytest.param(True, False, id="kafka", marks=pytest.mark.soak),
        pytest.param(True, True, id="kafka-processes", marks=pytest.mark.soak),
    ],
)
@pytest.mark.timeout(500)
@pytest.mark.requirement("C5")
@pytest.mark.requirement("C19")
@pytest.mark.requirement("C22")
@pytest.mark.requirement("C23")
@pytest.mark.requirement("C28")
@pytest.mark.requirement("C29")
@pytest.mark.usefixtures("blind_to_the_environment")
async def test_nothing_is_lost_pulled_twice_or_stranded_while_everything_fails(
    tmp_path: Path, kafka: bool, processes: bool
) -> None:
    if kafka:
        require_kafka()
    plan = ChaosPlan.of_minutes(0.25, applications=120, seed=11, kafka=kafka, processes=processes)
    # How soon all is settled is measured by the same command; on a busy machine retries alone take a minute.
    short = replace(plan, fault_s_max=2.0, pause_s_max=1.0, settle_s_max=180.0)
    run = await run_chaos(short, home=tmp_path / "home", on_event=print)
    assert all(run.faults.get(kind) for kind in short.kinds), run.faults
    # How available it was is measured by `faregate chaos credit` on a machine of its own, not beside other tests.
    held = {name: held for name, held in checks_of(run).items() if "available" not in name}
    by_chance = {"every kind of fault happened"}  # of the callbacks' faults, which come by rate
    assert all(held for name, held in held.items() if name not in by_chance), document_of(run)
