"""The command line without servers: what help says, and how errors of settings and files read."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import typer
from typer.core import TyperGroup
from typer.testing import CliRunner

from faregate.entrypoints.bootstrap.api import describe
from faregate.entrypoints.cli import app
from faregate.entrypoints.servers import refuse_bad_keys
from faregate.infra.cache import InvalidCacheUrl, configuration_of
from faregate.infra.failures import line_of
from faregate.infra.http.api_keys import KNOWN_SCOPES
from faregate.infra.security.keys import KeySetInvalid
from faregate.infra.settings import Settings

Command = list[str]
Variables = dict[str, str]


def faregate(*arguments: str, home: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder of its own, blind to the settings of whoever runs the tests."""
    base = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    command = [sys.executable, "-c", "from faregate.entrypoints.cli import main; main()", *arguments]
    return subprocess.run(
        command, cwd=home, env=base | environment, capture_output=True, text=True, timeout=60, check=False
    )


def paths(command: object, path: Command) -> Iterator[Command]:
    yield path
    if isinstance(command, TyperGroup):
        context = typer.Context(command)
        for name in command.list_commands(context):
            yield from paths(command.get_command(context, name), [*path, name])


@pytest.mark.parametrize("path", [p for p in paths(typer.main.get_command(app), []) if p], ids=" ".join)
def test_the_help_of_every_command_has_an_example(path: Command) -> None:
    answer = CliRunner().invoke(app, [*path, "--help"])
    assert "Example: faregate" in answer.output or "FAREGATE_API_PORT=8080 faregate" in answer.output


WRONG = [
    (["config"], {"FAREGATE_API_PORT": "abc"}, "FAREGATE_API_PORT: input should be a valid integer"),
    (["config"], {"FAREGATE_LOG_LEVEL": "loud"}, "FAREGATE_LOG_LEVEL"),
    (["sandbox", "--faults", "nowhere.json"], {}, "nowhere.json: No such file or directory"),
    (["sandbox", "--faults", "bad.json"], {}, "bad.json is no plan of faults"),
    (["credit", "train-scorecard", "--csv", "nowhere.csv"], {}, "nowhere.csv: No such file"),
    (["credit", "train-scorecard", "--csv", "bad.json"], {}, "bad.json has no rows"),
    (["keys", "create", "x", "--scope", "rubbish"], {}, "rubbish; there are audit:read, credit:read"),
]


@pytest.mark.parametrize(("command", "environment", "says"), WRONG)
def test_an_expected_error_has_one_line_that_names_its_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: Command, environment: Variables, says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.json").write_text("{")
    error = CliRunner(env=environment).invoke(app, command).exception
    assert isinstance(error, Exception)
    line = line_of(error) or ""
    assert says in line
    assert "\n" not in line


KEYS = [
    ({"FAREGATE_PII_KEYS": "s3cret"}, "FAREGATE_PII_KEYS must be a JSON map"),
    ({"FAREGATE_PII_KEYS": '{"k1": "s3cretss"}'}, "FAREGATE_PII_KEYS: a key has 32 bytes"),
    ({"FAREGATE_BLIND_INDEX_KEYS": '{"k2": "s3cretss"}'}, "FAREGATE_BLIND_INDEX_KEYS: the current key"),
]


@pytest.mark.parametrize(("environment", "says"), KEYS)
def test_bad_keys_are_refused_by_the_name_of_their_variable(
    monkeypatch: pytest.MonkeyPatch, environment: Variables, says: str
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(KeySetInvalid) as refused:
        refuse_bad_keys(Settings())
    assert refused.value.detail.startswith(says)
    assert "s3cret" not in refused.value.detail


def test_a_bad_cache_url_is_not_repeated() -> None:
    with pytest.raises(InvalidCacheUrl) as refused:
        configuration_of("redis://u:s3cret@h:x")
    assert refused.value.detail.startswith("FAREGATE_VALKEY_URL is no URL of a Valkey")


def test_wrong_usage_ends_with_status_two() -> None:
    assert CliRunner().invoke(app, ["keys", "revoke"]).exit_code == 2


def test_an_error_that_nobody_expects_keeps_its_traceback() -> None:
    assert line_of(KeyError("x")) is None
    assert line_of(TimeoutError()) is None


def test_a_refused_statement_never_shows_its_row() -> None:
    line = line_of(psycopg.errors.CheckViolation("DETAIL: Failing row contains (s3cret)"))
    assert line == "PostgreSQL refused a statement: CheckViolation (23514); its log says more"


def test_the_known_scopes_are_those_of_the_routes() -> None:
    routes = [route for path in describe()["paths"].values() for route in path.values()]
    asked = {route["x-scope"] for route in routes if "x-scope" in route}
    assert asked == KNOWN_SCOPES
