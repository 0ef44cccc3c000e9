"""`make clean` ends what runs on this folder's servers, and nothing else."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from tools.stop_servers import stop, users_of

from faregate.infra.embedded import servers_of
from faregate.infra.embedded.kafka import kafka_of
from tests.servers import require_kafka

OWNER = """
import pathlib, sys
from faregate.infra.embedded import embedded_servers
with embedded_servers(pathlib.Path(sys.argv[1])):
    print("up", flush=True)
    sys.stdin.read()
"""
KAFKA_OWNER = """
import pathlib, sys, time
from faregate.infra.embedded.kafka import embedded_kafka
with embedded_kafka(pathlib.Path(sys.argv[1])):
    print("up", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def owner(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A command that uses the servers of `tmp_path`, as `faregate up` does."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen((sys.executable, "-c", OWNER, tmp_path), text=True, **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        yield process
        process.kill()


def running(home: Path) -> list[int]:
    return [pid for server in servers_of(home) if (pid := server.pid()) is not None]


def test_the_command_that_uses_the_servers_is_asked_to_end(
    tmp_path: Path, owner: subprocess.Popen[str]
) -> None:
    assert [p.pid for p in users_of(tmp_path)] == [owner.pid]
    assert stop(tmp_path, say=lambda _: None)
    assert owner.wait(10) is not None
    assert running(tmp_path) == []


def test_servers_that_outlived_their_owner_are_stopped(tmp_path: Path, owner: subprocess.Popen[str]) -> None:
    orphans = running(tmp_path)
    owner.kill()
    owner.wait()
    assert all(psutil.pid_exists(pid) for pid in orphans)
    assert stop(tmp_path, say=lambda _: None)
    assert running(tmp_path) == []


def test_a_broker_that_outlived_its_owner_is_stopped(tmp_path: Path) -> None:
    require_kafka()
    with subprocess.Popen((sys.executable, "-c", KAFKA_OWNER, tmp_path), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        assert [p.pid for p in users_of(tmp_path)] == [process.pid]
        process.kill()
    assert kafka_of(tmp_path).pid() is not None
    assert stop(tmp_path, say=lambda _: None)
    assert kafka_of(tmp_path).pid() is None


def test_a_folder_in_which_nothing_runs_is_stopped_already(tmp_path: Path) -> None:
    assert stop(tmp_path, say=lambda _: None)
