"""The Temporal peer: the same flow decides the same, and nothing that was started for it stays behind."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest

from faregate.bench import temporal_peer
from faregate.bench.children import guarded
from faregate.bench.temporal_peer import PeerLoad, PeerMissing, Store, measure_peer, require_peer
from faregate.entrypoints.bootstrap.providers import sandbox_credentials
from faregate.infra.clock import SystemClock
from faregate.infra.settings import Settings
from faregate.sandbox.server import SandboxSettings, serving

SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")


@pytest.fixture
async def sandbox(tmp_path: Path) -> AsyncIterator[str]:
    credentials = sandbox_credentials(Settings())
    settings = SandboxSettings(data_dir=tmp_path / "sandbox", credentials=credentials)
    async with serving(settings, clock=SystemClock()) as url:
        yield url


@pytest.fixture
def no_strays() -> Iterator[None]:
    """Fails when a child that was not there before is there afterwards.

    What servers that were there before start by themselves, such as a vacuum of PostgreSQL, is none of it.
    """
    before = set(psutil.Process().children(recursive=True))
    yield
    older = {process.pid for process in before}
    strays = set(psutil.Process().children(recursive=True)) - before
    assert not [process for process in strays if _is_of_none(process, older)]


def _is_of_none(process: psutil.Process, parents: set[int]) -> bool:
    try:
        return process.ppid() not in parents
    except psutil.NoSuchProcess:
        return False


@pytest.mark.usefixtures("no_strays")
async def test_workflows_are_decided_and_everything_ends(tmp_path: Path, sandbox: str) -> None:
    pytest.importorskip("temporalio", reason="the extra [bench] is not installed")
    from faregate.bench.temporal_flow import Artefacts, Providers

    providers = Providers.of(Settings(), sandbox_url=sandbox)
    load = PeerLoad(folder=tmp_path, store=Store.MEMORY, in_flight=5, seconds=1.0)
    artefacts = Artefacts(scorecard="german-1", ruleset="card-eligibility-1")
    report = await measure_peer(load, providers=providers, artefacts=artefacts)
    assert report.completed > 0
    assert report.failed == 0
    assert report.outcomes.keys() <= {"approved", "denied", "manual_review"}
    assert report.label == "Temporal development server, in memory"


def test_without_the_extra_the_peer_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(temporal_peer, "find_spec", lambda _: None)
    with pytest.raises(PeerMissing, match="make bench"):
        require_peer()


@pytest.mark.usefixtures("no_strays")
async def test_a_guarded_program_ends_with_the_block(tmp_path: Path) -> None:
    async with guarded(SLEEPER, log=tmp_path / "log") as guard:
        await _until_children(guard.pid)
    assert guard.returncode is not None


async def test_a_guarded_program_does_not_outlive_a_starter_that_was_killed() -> None:
    guard = (sys.executable, "-m", "faregate.bench.guard", *SLEEPER)
    starter = f"import subprocess, sys; subprocess.Popen({guard!r}, stdin=subprocess.PIPE).wait()"
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", starter)
    family = await _until_children(process.pid, count=2)
    process.kill()
    await process.wait()
    assert psutil.wait_procs(family, timeout=20)[1] == []


async def _until_children(pid: int, *, count: int = 1) -> list[psutil.Process]:
    while len(children := psutil.Process(pid).children(recursive=True)) < count:  # noqa: ASYNC110 - another process tells nothing
        await asyncio.sleep(0.02)
    return children
