"""The command line against real servers: the event log's commands, and errors that name what to do."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

import aiohttp
import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.database import Connection
from faregate.infra.embedded import servers_of
from faregate.infra.eventlog import append
from faregate.infra.failures import line_of
from faregate.infra.settings import Settings
from faregate.infra.supervisor import free_port
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.eventlog import event, recorder, running, running_log
from tests.sandbox import until
from tests.servers import Breakable, copy_of_used_home
from tests.unit.test_cli import faregate

Environment = dict[str, str]


@pytest.fixture
def environment(settings: Settings) -> Environment:
    """Variables that point the command at this test's servers."""
    assert settings.database_url
    assert settings.valkey_url
    return {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }


@pytest.fixture
async def three_handled(open_database: OpenDatabase) -> None:
    """Three events that the group `readers` has handled."""
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log(credit=credit, admin=admin) as log, running(log.member()):
        await log.append(*(event(n=n) for n in range(3)))
        await log.until_effects(3)


async def test_lag_and_replay_work_on_a_log_with_events(
    three_handled: None, environment: Environment, tmp_path: Path
) -> None:
    async def lag() -> list[tuple[str, int]]:
        shown = await asyncio.to_thread(faregate, "events", "lag", "--json", home=tmp_path, **environment)
        return [(row["group"], row["events"]) for row in json.loads(shown.stdout)]

    assert await lag() == [("(sequencer)", 0), ("readers", 0)]
    command = ("events", "replay", "readers", "--from-seq", "2", "--again")
    ended = await asyncio.to_thread(faregate, *command, home=tmp_path, **environment)
    assert (ended.returncode, ended.stdout) == (0, "readers reads again from event 2\n")
    assert await lag() == [("(sequencer)", 0), ("readers", 2)]


@pytest.mark.requirement("C24")
def test_a_clients_limit_is_set_shown_and_dropped(environment: Environment, tmp_path: Path) -> None:
    def limits(*options: str) -> list[tuple[float, int, str]]:
        shown = faregate(
            "keys", "limit", "partner-1", *options, "--json", home=tmp_path, **environment
        ).stdout
        return [(row["rate_per_s"], row["burst"], row["from"]) for row in json.loads(shown)]

    usual = [(200.0, 1000, "settings"), (1000.0, 5000, "settings")]
    assert limits("--rate", "2.5") == [(2.5, 3, "client"), usual[1]]
    assert limits("--policy", "read", "--rate", "9", "--burst", "90")[1] == (9.0, 90, "client")
    assert limits("--default") == [usual[0], (9.0, 90, "client")]


async def test_lag_shows_what_waits_for_a_sequencer(
    open_database: OpenDatabase, environment: Environment, tmp_path: Path
) -> None:
    credit = await open_database("credit")
    async with credit.transaction() as conn:
        await append(conn, [event(n=n) for n in range(3)])
    shown = await asyncio.to_thread(faregate, "events", "lag", "--json", home=tmp_path, **environment)
    [row] = json.loads(shown.stdout)
    assert (row["group"], row["events"]) == ("(sequencer)", 3)
    assert row["seconds"] > 0


async def test_an_event_that_a_group_cannot_handle_is_skipped_by_command(
    open_database: OpenDatabase, environment: Environment, tmp_path: Path
) -> None:
    async def refuse_the_second(conn: Connection, events: Sequence[Event]) -> None:
        if any(e.data["n"] == 1 for e in events):
            raise ValueError("this one cannot be handled")
        await recorder("readers")(conn, events)

    credit, admin = await open_database("credit"), await open_database("eventlog")
    sent = [event(n=n) for n in range(3)]
    async with (
        running_log(credit=credit, admin=admin) as log,
        running(log.member(handler=refuse_the_second)),
    ):
        await log.append(*sent)
        await log.until_effects(1)
        command = ("events", "skip", "readers", str(sent[1].id))
        ended = await asyncio.to_thread(faregate, *command, home=tmp_path, **environment)
        assert (ended.returncode, ended.stdout) == (0, f"readers passes over event {sent[1].id}\n")
        assert [row["n"] for row in await log.until_effects(2)] == [0, 2]


def test_rotation_on_a_home_without_keys_makes_them_first(environment: Environment, tmp_path: Path) -> None:
    home = tmp_path / "fresh"
    ended = faregate("pii", "rotate", home=tmp_path, **environment | {"FAREGATE_HOME": str(home)})
    assert (ended.returncode, "new key k2" in ended.stdout) == (0, True), ended.stderr
    assert (home / "keys.json").stat().st_mode & 0o077 == 0


@pytest.mark.requirement("P1")
async def test_the_api_alone_starts_its_embedded_servers_again_when_they_are_killed(tmp_path: Path) -> None:
    copy_of_used_home(home := tmp_path / "home", migrated=True)
    port = free_port(host="127.0.0.1")
    variables = {"FAREGATE_HOME": str(home), "FAREGATE_API_PORT": str(port), "PATH": os.environ["PATH"]}
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "faregate", "serve", env=variables, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        async with aiohttp.ClientSession() as session:

            async def readiness() -> int:
                try:
                    async with session.get(f"http://127.0.0.1:{port}/readyz") as answer:
                        return answer.status
                except aiohttp.ClientConnectionError:
                    return 0

            async def running_servers() -> int:
                return sum(server.pid() is not None for server in servers_of(home))

            await until(readiness, lambda status: status == 200)
            for server in servers_of(home):
                Breakable(server).kill9()
            await until(readiness, lambda status: status == 503)
            await until(readiness, lambda status: status == 200)
            await until(running_servers, lambda running: running == len(servers_of(home)))
    finally:
        process.terminate()
        await process.wait()
    assert not any(server.pid() for server in servers_of(home))


NOBODY = "postgresql://me:s3cret@127.0.0.1:1/faregate"
WRONG = [
    (["events", "replay", "nobody", "--from-seq", "1"], {}, "there is no consumer group 'nobody'"),
    (["credit", "show", "app_nowhere"], {}, "there is no application app_nowhere"),
    (["keys", "revoke", "0a1b2c3d"], {}, "there is no API key 0a1b2c3d"),
    (["keys", "limit", "x", "--rate", "0"], {}, "a rate is 0.001 to 1,000,000 a second"),
    (["keys", "limit", "x", "--policy", "rubbish", "--rate", "1"], {}, "there are submit, read"),
    (["keys", "create", "é"], {}, "a client id is 1 to 64 letters"),
    (["keys", "list"], {"FAREGATE_DATABASE_URL": "s3cret"}, "FAREGATE_DATABASE_URL is no URL"),
    (["keys", "list"], {"FAREGATE_DATABASE_URL": NOBODY}, "Check FAREGATE_DATABASE_URL"),
]


@pytest.mark.parametrize(("command", "changed", "says"), WRONG)
def test_an_expected_error_has_one_line_that_names_its_cause(
    environment: Environment,
    monkeypatch: pytest.MonkeyPatch,
    command: list[str],
    changed: Environment,
    says: str,
) -> None:
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    error = CliRunner(env=environment | changed).invoke(app, command).exception
    assert isinstance(error, Exception)
    line = line_of(error) or ""
    assert says in line
    assert "\n" not in line
    assert "s3cret" not in line


def test_the_line_stands_alone_on_standard_error_with_status_one(
    environment: Environment, tmp_path: Path
) -> None:
    ended = faregate("serve", home=tmp_path, **environment | {"FAREGATE_VALKEY_URL": "s3cret"})
    assert (ended.returncode, ended.stdout) == (1, "")
    assert ended.stderr.startswith("faregate: FAREGATE_VALKEY_URL is no URL of a Valkey")
    assert ended.stderr.count("\n") == 1
    assert "s3cret" not in ended.stderr


def test_a_port_in_use_is_one_line(environment: Environment, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        ended = faregate("serve", home=tmp_path, **environment, FAREGATE_API_PORT=port)
    assert ended.returncode == 1
    assert ended.stderr.count("\n") == 1
    assert "FAREGATE_API_PORT" in ended.stderr
    assert port in ended.stderr
