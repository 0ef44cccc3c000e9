"""`faregate webhooks`: what an operator sees and does, on a real database."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.settings import Settings


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run("list", "--json")` runs a command on this test's servers and returns what it printed."""
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    monkeypatch.setenv("FAREGATE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_VALKEY_URL", settings.valkey_url.get_secret_value())
    settings.home.mkdir(mode=0o700)

    def command(*arguments: str) -> Any:
        ended = CliRunner().invoke(app, ["webhooks", *arguments], catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout) if "--json" in arguments else ended.stdout

    return command


def test_an_operator_subscribes_a_client_and_takes_care_of_its_endpoint(run: Any) -> None:
    [made] = run("create", "partner-1", "https://hooks.example.com/x", "--json")
    assert made["secret"].startswith("whsec_")
    endpoint = made["id"]
    [listed] = run("list", "--client", "partner-1", "--json")
    assert (listed["id"], listed["state"]) == (endpoint, "enabled")
    [rotated] = run("rotate", endpoint, "--json")
    assert rotated["secret"] != made["secret"]
    [moved] = run("update", endpoint, "--url", "https://hooks.example.com/y", "--json")
    assert moved["url"] == "https://hooks.example.com/y"
    assert "deleted" in run("delete", endpoint)
    assert run("list", "--json") == []


def test_an_operator_sends_again_what_was_given_up(run: Any) -> None:
    [made] = run("create", "partner-1", "https://hooks.example.com/x", "--json")
    endpoint = made["id"]
    [sent] = run("test", endpoint, "--json")
    run("disable", endpoint)
    [given_up] = run("deliveries", endpoint, "--state", "dead", "--json")
    assert given_up["message_id"] == sent["message_id"]
    run("enable", endpoint)
    assert run("resend", endpoint) == "1 messages are sent again\n"
    assert run("resend", endpoint, sent["message_id"]) == "1 messages are sent again\n"
    [again] = run("deliveries", endpoint, "--json")
    assert again["state"] == "pending"
