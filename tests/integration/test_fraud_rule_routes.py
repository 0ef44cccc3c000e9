"""Lists, labels, and rules that are tried, over real HTTP and by command: payments are decided, and looked at again."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from faregate.entrypoints.cli import app
from faregate.fraud.domain.rule_check import FRAUD
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.failures import line_of
from faregate.infra.settings import Settings
from faregate.rules import api as rules
from tests.conftest import OpenDatabase
from tests.credit_world import Reply, new_key
from tests.fraud_rules import act, activate, declining_large, publish, released
from tests.fraud_world import PATIENT, FraudWorld, open_fraud_world

LISTS, LABELS, RULES = "/api/fraud/lists", "/api/fraud/labels", "/internal/fraud/rulesets"
MERCHANT = {"kind": "merchant", "value": "mer_bad"}
CARD = {"kind": "card", "value": "crd_stolen"}
LABEL = {"payment_id": "pay_1", "is_fraud": True, "source": "chargeback", "known_at": "2026-11-26T12:00:00Z"}
BY = ("--reason", "a test", "--by", "ada")


@pytest.fixture(name="fraud")
async def fraud_with_operator(settings: Settings, cache: Cache) -> AsyncIterator[FraudWorld]:
    async with open_fraud_world(settings.model_copy(update=PATIENT), cache=cache) as running:
        await running.world.add_key(
            "operator", client="operator", scopes=["fraud:read", "fraud:manage", "rules:read"]
        )
        await running.world.add_key("reader", client="reader", scopes=["fraud:read"])
        yield running


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("fraud")


async def post(
    fraud: FraudWorld, path: str, body: Any, *, client: str = "operator", key: str | None = None
) -> Reply:
    headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
    return await fraud.world.request("POST", path, client=client, headers=headers, data=orjson.dumps(body))


async def got(fraud: FraudWorld, path: str, *, client: str = "operator") -> Any:
    reply = await fraud.world.request("GET", path, client=client)
    assert reply.status == 200, reply.body
    return reply.json


async def run(fraud: FraudWorld, *arguments: str) -> Result:
    """Run a command against the world's servers, in a thread: it brings a loop of its own."""
    settings = fraud.world.settings
    assert settings.database_url is not None
    assert settings.valkey_url is not None
    environment = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    return await asyncio.to_thread(
        CliRunner(env=environment).invoke, app, list(arguments), catch_exceptions=True
    )


async def answered(fraud: FraudWorld, *arguments: str) -> Any:
    result = await run(fraud, *arguments, "--json")
    assert result.exit_code == 0, (result.output, result.exception)
    return json.loads(result.stdout)


async def until_decided(fraud: FraudWorld, action: str, **payment: Any) -> dict[str, Any]:
    """Have payments decided until one is decided so: what operators do is followed within a second."""
    while (found := await fraud.decided(**payment))["action"] != action:  # noqa: ASYNC110 - of another task
        await asyncio.sleep(0.05)
    return found


@pytest.mark.requirement("F7")
async def test_a_merchant_on_the_block_list_is_declined_until_it_is_taken_off(fraud: FraudWorld) -> None:
    reply = await post(fraud, f"{LISTS}/block/entries", {"entries": [MERCHANT], "reason": "a shell"})
    assert reply.status == 200, reply.body
    found = await until_decided(fraud, "decline", merchant="mer_bad", ip=None)
    assert [(reason["code"], reason["source"]) for reason in found["reasons"]] == [
        ("BLOCKED_MERCHANT", "rule")
    ]
    shown = await got(fraud, f"{LISTS}?list=block&kind=merchant")
    assert [(one["value"], one["added_by"], one["reason"]) for one in shown["entries"]] == [
        ("mer_bad", "client:operator", "a shell")
    ]
    reply = await post(fraud, f"{LISTS}/block/removals", {"entries": [MERCHANT], "reason": "a mistake"})
    assert reply.json == {"removed": 1}
    await until_decided(fraud, "approve", merchant="mer_bad", ip=None)
    acts = (await got(fraud, f"{LISTS}/history"))["changes"]
    assert [one["act"] for one in acts] == ["removed", "added"]


async def test_an_act_is_done_once_a_key(fraud: FraudWorld) -> None:
    body, key = {"entries": [CARD], "reason": "stolen"}, new_key()
    first = await post(fraud, f"{LISTS}/block/entries", body, key=key)
    again = await post(fraud, f"{LISTS}/block/entries", body, key=key)
    assert (first.body, again.headers["Idempotent-Replayed"]) == (again.body, "true")
    assert len((await got(fraud, f"{LISTS}/history"))["changes"]) == 1


BAD_ENTRIES: list[tuple[str, Any, tuple[int, str]]] = [
    ("/grey/entries", {"entries": [CARD], "reason": "x"}, (404, "list-unknown")),
    ("/block/entries", {"entries": [], "reason": "x"}, (422, "validation-failed")),
    ("/block/entries", {"entries": [CARD]}, (422, "validation-failed")),
    (
        "/block/entries",
        {"entries": [{**CARD, "kind": "soul"}], "reason": "x"},
        (422, "validation-failed"),
    ),
    (
        "/block/entries",
        {"entries": [{**CARD, "value": "4111111111111111"}], "reason": "x"},
        (400, "list-value-invalid"),
    ),
    (
        "/block/entries",
        {"entries": [{**CARD, "value": "x" * 10_000}], "reason": "x"},
        (422, "validation-failed"),
    ),
    (
        "/block/entries",
        {"entries": [{**CARD, "expires_at": "2020-01-01T00:00:00Z"}], "reason": "x"},
        (400, "list-entries-invalid"),
    ),
    ("/block/entries", {"entries": [CARD, CARD], "reason": "x"}, (400, "list-entries-invalid")),
    ("/block/removals", {"entries": [CARD], "reason": "x"}, (404, "list-entry-not-found")),
]


async def test_what_cannot_be_done_to_a_list_is_refused_by_name(fraud: FraudWorld) -> None:
    for path, body, problem in BAD_ENTRIES:
        assert (await post(fraud, LISTS + path, body)).problem == problem
    assert await fraud.world.sql("select * from fraud.list_change") == []


async def test_who_may_only_read_changes_nothing(fraud: FraudWorld) -> None:
    reply = await post(fraud, f"{LISTS}/block/entries", {"entries": [CARD], "reason": "x"}, client="reader")
    assert reply.status == 403
    assert (await fraud.world.request("GET", f"{RULES}/shadow", client="reader")).status == 403


@pytest.mark.requirement("F11")
async def test_labels_are_taken_once_and_the_newest_counts(fraud: FraudWorld) -> None:
    later = {**LABEL, "is_fraud": False, "source": "review", "known_at": "2026-11-26T13:00:00Z"}
    assert (await post(fraud, LABELS, {"labels": [LABEL, later]})).json == {"new": 2, "known": 0}
    assert (await post(fraud, LABELS, {"labels": [LABEL]})).json == {"new": 0, "known": 1}
    found = (await got(fraud, f"{LABELS}/pay_1"))["labels"]
    assert [(one["source"], one["is_fraud"]) for one in found] == [("review", False), ("chargeback", True)]


BAD_LABELS: list[tuple[list[Any], tuple[int, str]]] = [
    ([{**LABEL, "known_at": "2099-01-01T00:00:00Z"}], (400, "labels-invalid")),
    ([{**LABEL, "source": "Ann!"}], (422, "validation-failed")),
    ([{**LABEL, "is_fraud": "yes"}], (422, "validation-failed")),
    ([LABEL, {**LABEL, "is_fraud": False}], (409, "label-contradicts")),
    ([], (422, "validation-failed")),
]


async def test_labels_that_cannot_be_are_refused_by_name(fraud: FraudWorld) -> None:
    for labels, problem in BAD_LABELS:
        assert (await post(fraud, LABELS, {"labels": labels})).problem == problem
    assert await fraud.world.sql("select * from fraud.label") == []


async def test_a_label_that_contradicts_a_known_one_is_refused(fraud: FraudWorld) -> None:
    await post(fraud, LABELS, {"labels": [LABEL]})
    contradicting = {"labels": [{**LABEL, "payment_id": "pay_2"}, {**LABEL, "is_fraud": False}]}
    assert (await post(fraud, LABELS, contradicting)).problem == (409, "label-contradicts")
    assert len(await fraud.world.sql("select * from fraud.label")) == 1


@pytest.mark.requirement("F11")
async def test_a_shadow_a_share_and_a_backtest_are_reported_from_what_was_decided(
    fraud: FraudWorld, database: Database
) -> None:
    now = SystemClock().now
    await publish(database, 2, declining_large, at=now())
    async with database.transaction() as conn:
        await rules.set_shadow(conn, name=FRAUD, version=2, act=act(now()))
    while (await fraud.world.sql(_WATCHED)) == []:
        await fraud.decided(amount_minor=1_000_001, ip=None)
        await asyncio.sleep(0.05)
    large = await fraud.decided(amount_minor=1_000_001, ip=None)
    await fraud.decided(amount_minor=100, ip=None)
    await post(fraud, LABELS, {"labels": [{**LABEL, "payment_id": large["payment_id"]}]})
    report = (await got(fraud, f"{RULES}/shadow"))["report"]
    cells = {(cell["decided"], cell["shadow"]): cell["payments"] for cell in report["matrix"]}
    assert cells.keys() == {("review", "decline"), ("model", "model")}
    assert report["differing"][0]["decided"] == "review"
    assert await answered(fraud, "fraud", "rules", "shadow-report") == report

    found = (await got(fraud, f"{RULES}/{FRAUD}-2/backtest?limit=10000&only_labelled=true"))["report"]
    assert found["declined"]["by_number"]["recall"] == 1.0
    assert (found["payments"], found["labelled"]) == (1, 1)
    assert found == await answered(fraud, "fraud", "rules", "backtest", f"{FRAUD}-2", "--only-labelled")

    await activate(database, 2, at=now())
    await until_decided(fraud, "decline", amount_minor=1_000_001, ip=None)
    by_version = (await got(fraud, f"{RULES}/decided"))["report"]["decided"]
    assert {(row["ruleset"], row["action"]) for row in by_version} >= {
        (f"{FRAUD}-1", "review"),
        (f"{FRAUD}-2", "decline"),
    }
    assert sum(row["payments"] for row in by_version if row["is_fraud"]) == 1


_WATCHED = "select 1 from fraud.decision where record->'shadow'->'ruleset' is not null limit 1"


BAD_REPORTS: list[tuple[str, tuple[int, str]]] = [
    ("/shadow", (409, "nothing-watched")),
    ("/shadow?version=card-eligibility-1", (400, "not-of-fraud")),
    ("/shadow?since=yesterday", (422, "validation-failed")),
    (f"/{FRAUD}-99/backtest", (404, "ruleset-version-not-found")),
    ("/nothing/backtest", (400, "ruleset-label-invalid")),
    (f"/{FRAUD}-1/backtest?limit=0", (422, "validation-failed")),
    ("/decided?until=2026", (422, "validation-failed")),
]


async def test_what_cannot_be_reported_is_refused_by_name(fraud: FraudWorld) -> None:
    for path, problem in BAD_REPORTS:
        reply = await fraud.world.request("GET", RULES + path, client="operator")
        assert reply.problem == problem


@pytest.mark.requirement("F11")
async def test_rules_of_fraud_live_by_the_commands_of_all_rules(fraud: FraudWorld, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.json", tmp_path / "bad.json"
    good.write_bytes(orjson.dumps(released(2, declining_large)))
    broken = released(3)
    broken["cases"]["given"][0]["action"] = "decline"
    bad.write_bytes(orjson.dumps(broken))
    assert (await run(fraud, "fraud", "rules", "test", str(bad))).exit_code == 1
    refused = await run(fraud, "rules", "publish", str(bad), *BY)
    assert refused.exception is not None
    assert "does not hold" in line_of(refused.exception)
    assert all(case["holds"] for case in await answered(fraud, "fraud", "rules", "test", str(good)))
    assert (await answered(fraud, "rules", "publish", str(good), *BY))["ruleset"] == f"{FRAUD}-2"
    [traffic] = await answered(fraud, "rules", "shadow", "start", f"{FRAUD}-2", *BY)
    assert traffic["shadow_version"] == 2
    [traffic] = await answered(fraud, "rules", "split", "set", f"{FRAUD}-2", "--percent", "5", *BY)
    assert traffic["challenger_basis_points"] == 500
    [traffic] = await answered(fraud, "rules", "activate", f"{FRAUD}-2", *BY)
    assert traffic["version"] == 2
    difference = await answered(fraud, "rules", "diff", f"{FRAUD}-1", f"{FRAUD}-2")
    assert ["amounts", "rows", "over_10000", "action"] in [one["place"] for one in difference["differences"]]
    done = await answered(fraud, "rules", "rollback", FRAUD, *BY)
    assert (done["from_version"], done["to_version"]) == (2, 1)
    elsewhere = await run(fraud, "rules", "shadow", "report", FRAUD)
    assert elsewhere.exception is not None
    assert "does not decide applications" in line_of(elsewhere.exception)


async def test_lists_and_labels_are_kept_by_command(fraud: FraudWorld, tmp_path: Path) -> None:
    added = await answered(
        fraud, "fraud", "lists", "add", "block", "device", "dev_1", "dev_2", "--days", "3", *BY
    )
    assert [(one["value"], one["added_by"]) for one in added] == [("dev_1", "ada"), ("dev_2", "ada")]
    assert [one["value"] for one in await answered(fraud, "fraud", "lists", "show", "block")] == [
        "dev_1",
        "dev_2",
    ]
    await answered(fraud, "fraud", "lists", "remove", "block", "device", "dev_1", *BY)
    acts = await answered(fraud, "fraud", "lists", "history", "--kind", "device", "--value", "dev_1")
    assert [one["act"] for one in acts] == ["removed", "added"]
    file = tmp_path / "labels.csv"
    file.write_text("payment_id,is_fraud,source,known_at\npay_1,true,chargeback,2026-11-26T12:00:00Z\n")
    assert await answered(fraud, "fraud", "labels", "import", str(file)) == [{"new": 1, "known": 0}]
    assert (await answered(fraud, "fraud", "labels", "show", "pay_1"))[0]["is_fraud"] is True


BAD_COMMANDS: list[tuple[tuple[str, ...], str]] = [
    (("lists", "add", "block", "card", "4111111111111111", *BY), "only by its token"),
    (("lists", "add", "block", "country", "usa", *BY), "two capital letters"),
    (("lists", "remove", "block", "card", "crd_none", *BY), "do not stand on the list"),
    (("labels", "import", "{folder}/crooked.csv"), "crooked.csv, line 2"),
    (("labels", "import", "{folder}/none.csv"), "cannot be read"),
    (
        ("rules", "backtest", "card-eligibility-1", "--file", "{folder}/none.csv"),
        "has not been published",
    ),
    (("rules", "backtest", f"{FRAUD}-1", "--file", "{folder}/none.csv"), "is not there"),
]


async def test_a_command_that_cannot_be_done_says_why_in_a_line(fraud: FraudWorld, tmp_path: Path) -> None:
    (tmp_path / "crooked.csv").write_text("payment_id,is_fraud\npay_1,perhaps\n")
    for arguments, said in BAD_COMMANDS:
        result = await run(fraud, "fraud", *(part.replace("{folder}", str(tmp_path)) for part in arguments))
        assert result.exit_code != 0
        assert result.exception is not None
        assert said in line_of(result.exception)
