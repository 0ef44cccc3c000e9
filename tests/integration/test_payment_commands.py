"""`faregate payments`: what an operator sees and does, on a real database."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import psycopg
import pytest
from typer.testing import CliRunner

from faregate.entrypoints import servers
from faregate.entrypoints.cli import app
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.settings import Settings
from faregate.payments.api import publish_first_policy
from faregate.payments.handlers.policies import first_policy

pytestmark = [pytest.mark.requirement("F9"), pytest.mark.requirement("F16")]

MEMBER = "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """`run("cards", "--json")` runs a command on this test's servers and returns what it printed."""
    monkeypatch.setattr(servers, "configure_logging", lambda **_: None)  # this process keeps its own
    assert settings.database_url
    assert settings.valkey_url
    monkeypatch.setenv("FAREGATE_HOME", str(settings.home))
    monkeypatch.setenv("FAREGATE_DATABASE_URL", settings.database_url.get_secret_value())
    monkeypatch.setenv("FAREGATE_VALKEY_URL", settings.valkey_url.get_secret_value())
    settings.home.mkdir(mode=0o700)
    asyncio.run(set_first(settings.database_url.get_secret_value()))

    def command(*arguments: str, typed: str = "") -> Any:
        ended = CliRunner().invoke(app, ["payments", *arguments], input=typed, catch_exceptions=False)
        assert ended.exit_code == 0, ended.output
        return json.loads(ended.stdout) if "--json" in arguments else ended.stdout

    return command


async def set_first(database_url: str) -> None:
    """Set the first policy, as the first process that decides payments does."""
    database = await Database.open(database_url, role="faregate_payments", connections_max=1)
    await publish_first_policy(database, clock=SystemClock())
    await database.close()


def test_a_card_is_issued_limited_blocked_and_closed_with_a_record_of_all(run: Any) -> None:
    [issued] = run("issue", MEMBER, "--product", "travel_card", "--json")
    token = issued["card"]
    assert issued["limits"]["USD"] == "3000000/6000000"
    [limited] = run("limits", token, "EUR:100:200", "--json")
    assert limited["limits"] == {"EUR": "100/200"}
    assert run("block", token, "--reason", "stolen", "--json")[0]["status"] == "blocked"
    assert run("unblock", token, "--reason", "found", "--json")[0]["status"] == "active"
    assert run("close", token, "--reason", "returned", "--json")[0]["status"] == "closed"
    record = run("card", token, "--json")["record"]
    assert [entry["act"] for entry in record] == ["issued", "limits", "block", "unblock", "close"]
    assert record[2]["details"] == {"reason": "stolen"}
    assert [card["card"] for card in run("cards", "--member", MEMBER, "--json")] == [token]
    assert token in run("card", token)


@pytest.mark.requirement("F14")
def test_a_number_is_typed_or_made_and_shown_once(run: Any, database_url: str) -> None:
    [issued] = run("issue", MEMBER, "--product", "gold", "--json")
    [typed] = run("number", issued["card"], "--json", typed="4111111111111111\n")
    assert (typed["last4"], "number" in typed) == ("1111", False)
    [made] = run("number", issued["card"], "--generate", "--json")
    assert made["number"].startswith("999999")
    assert made["last4"] == made["number"][-4:]
    with psycopg.connect(database_url) as conn:
        [row] = conn.execute("select c::text from payments.card c").fetchall()
    assert made["number"] not in row[0]
    assert made["number"] not in json.dumps(run("card", issued["card"], "--json"))


def test_the_policy_is_shown_changed_set_looked_back_at_and_taken_back(run: Any, tmp_path: Path) -> None:
    policy = json.loads(run("policy", "show"))
    assert policy == first_policy()
    policy["tables"][0]["bands"][0]["cells"]["unavailable"] = {"action": "decline", "message": "No"}
    file = tmp_path / "policy.json"
    file.write_text(json.dumps(policy))
    trial = ["policy", "try", "--amount", "1", "--state", "unavailable", "--json"]
    assert [row["action"] for row in run(*trial)] == ["approve"]
    assert [row["action"] for row in run(*trial, "--file", str(file))] == ["decline"]
    said = run("policy", "set", str(file), "--reason", "an attack", "--by", "ann", "--json")
    assert (said["version"], said["by"], said["reason"]) == (2, "ann", "an attack")
    assert run(*trial) == [
        {"state": "unavailable", "action": "decline", "cell": "everything.low.unavailable", "message": "No"}
    ]
    run("policy", "roll-back", "1", "--reason", "it is over")
    versions = run("policy", "history", "--json")
    assert [(one["version"], one["back_to"]) for one in versions] == [(3, 1), (2, None), (1, None)]
    assert versions[0]["sha256"] == versions[2]["sha256"]
    assert json.loads(run("policy", "show")) == first_policy()
    assert json.loads(run("policy", "show", "--version", "2")) == policy


def test_the_whole_table_can_be_tried(run: Any) -> None:
    rows = run("policy", "try", "--amount", "100001", "--json")
    assert [(row["state"], row["action"]) for row in rows] == [
        ("unavailable", "decline"),
        ("stale", "decline"),
        ("model_missing", "approve_and_flag"),
    ]


def test_lists_of_nothing_are_empty(run: Any) -> None:
    assert run("list", "--json") == []
    assert run("degraded", "--since", "2026-01-01", "--json") == []
    assert run("degraded", "--since", "2026-01-01", "--counts", "--json") == []
