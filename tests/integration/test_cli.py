"""The command line against real servers: the event log's commands, and errors that name what to do."""

from __future__ import annotations

import asyncio
import json
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.failures import line_of
from faregate.infra.settings import Settings
from tests.conftest import OpenDatabase
from tests.eventlog import event, running, running_log
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

    assert await lag() == [("readers", 0)]
    command = ("events", "replay", "readers", "--from-seq", "2", "--again")
    ended = await asyncio.to_thread(faregate, *command, home=tmp_path, **environment)
    assert (ended.returncode, ended.stdout) == (0, "readers reads again from event 2\n")
    assert await lag() == [("readers", 2)]


NOBODY = "postgresql://me:s3cret@127.0.0.1:1/faregate"
WRONG = [
    (["events", "replay", "nobody", "--from-seq", "1"], {}, "there is no consumer group 'nobody'"),
    (["credit", "show", "app_nowhere"], {}, "there is no application app_nowhere"),
    (["keys", "revoke", "0a1b2c3d"], {}, "there is no API key 0a1b2c3d"),
    (["keys", "create", ""], {}, "a client id is 1 to 64 letters"),
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
