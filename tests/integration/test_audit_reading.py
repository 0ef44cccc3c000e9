"""The audit record as its readers get it: by command and by route, with the chain, its anchors and whole traces."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import Result
from typer.testing import CliRunner

from faregate.entrypoints.cli import app
from faregate.infra.failures import line_of
from tests.audit_chain import seal_all
from tests.credit_desk import BAD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_world import Reply

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C32")]


async def audit(desk: Desk, *arguments: str | Path) -> Result:
    """Run `faregate audit …` against the desk's servers."""
    settings = desk.world.settings
    assert settings.database_url
    assert settings.valkey_url
    environment = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    command = ["audit", *map(str, arguments)]
    return await asyncio.to_thread(CliRunner().invoke, app, command, env=environment)


async def get(desk: Desk, path: str, *, scopes: list[str]) -> Reply:
    await desk.world.add_key("auditor", client="auditor", scopes=scopes)
    return await desk.world.request("GET", path, client="auditor")


async def test_verify_tells_what_holds_and_what_is_not_sealed_yet(desk: Desk) -> None:
    await desk.decided()
    before = await audit(desk, "verify", "--json")
    await seal_all(desk.database)
    after = await audit(desk, "verify", "--json")
    assert (before.exit_code, after.exit_code) == (0, 0)
    assert json.loads(before.stdout)["unsealed"] >= 3
    report = json.loads(after.stdout)
    assert (report["unsealed"], report["verification"]["broken"]) == (0, None)
    assert report["verification"]["links"] >= 3


async def test_verify_names_the_broken_row_and_exits_with_1_and_the_status_remembers_it(desk: Desk) -> None:
    application = await desk.decided()
    await seal_all(desk.database)
    change = "update credit.decision set risk_score = risk_score {} 0.0001 where application_id = %(id)s"
    await past_the_triggers(desk, change.format("+"), id=application)
    broken = await audit(desk, "verify")
    assert broken.exit_code == 1
    assert f"broken: decision {application}/1 (risk_score): the row is not as it was sealed" in broken.stdout
    reply = await get(desk, "/api/audit/chain", scopes=["audit:read"])
    assert reply.json["last_verification"]["broken"]["key"] == f"{application}/1"
    await past_the_triggers(desk, change.format("-"), id=application)


async def past_the_triggers(desk: Desk, statement: str, **values: Any) -> None:
    async with desk.world.connection.transaction():
        await desk.sql("set local session_replication_role = replica")
        await desk.sql(statement, **values)


async def test_an_anchor_is_noted_once_and_compared_by_verify(desk: Desk, tmp_path: Path) -> None:
    file = tmp_path / "elsewhere" / "anchors.jsonl"
    await desk.decided()
    await seal_all(desk.database)
    first, again = (
        await audit(desk, "anchor", "--anchors", file),
        await audit(desk, "anchor", "--anchors", file),
    )
    assert first.stdout == again.stdout
    [line] = file.read_bytes().splitlines()
    assert first.stdout.split()[1:3] == [str(orjson.loads(line)["seq"]), orjson.loads(line)["sha256"]]
    assert json.loads((await audit(desk, "verify", "--anchors", file, "--json")).stdout)["anchors"] == 1
    file.write_bytes(line.replace(b'"sha256":"', b'"sha256":"0') + b"\n")
    forged = await audit(desk, "verify", "--anchors", file)
    assert forged.exit_code == 1
    assert "the chain was written anew" in forged.stdout


async def test_a_file_that_holds_no_anchors_is_named(desk: Desk, tmp_path: Path) -> None:
    (file := tmp_path / "anchors.jsonl").write_text("rubbish\n")
    refused = await audit(desk, "verify", "--anchors", file)
    assert refused.exit_code == 1
    assert refused.exception is not None
    assert "anchors.jsonl:1 is no anchor" in str(line_of(refused.exception))


async def test_the_trace_of_an_application_holds_inputs_rules_scores_and_versions(desk: Desk) -> None:
    application = await desk.decided(BAD_ROW)
    await seal_all(desk.database)
    trace = json.loads((await audit(desk, "show", application, "--json")).stdout)
    [decision] = trace["decisions"]
    assert decision["inputs"]["facts"]
    assert {"version", "sha256", "points", "contributions"} <= decision["result"]["trace"]["scorecard"].keys()
    assert {"version", "sha256", "nodes"} <= decision["result"]["trace"]["ruleset"].keys()
    assert decision["code_set_version"] == "reason-codes-1"
    assert [entry["action"] for entry in trace["entries"]] == ["application.submitted", "decision.finalized"]
    assert all(row["seq"] for row in (*trace["entries"], decision))
    assert {signal["check"] for signal in trace["signals"]} == {"bureau", "fraud", "income", "kyc"}
    assert len(trace["notices"]) == 1
    shown = (await audit(desk, "show", application)).stdout
    assert "Version 1: denied" in shown
    assert decision["inputs_sha256"] in shown.replace("\n", "")


async def test_the_routes_of_auditors_say_the_same_for_every_client_and_only_to_auditors(desk: Desk) -> None:
    application = await desk.decided()
    path = f"/api/audit/credit-applications/{application}"
    trace = await get(desk, path, scopes=["audit:read"])
    assert trace.status == 200
    shown = json.loads((await audit(desk, "show", application, "--json")).stdout)
    assert trace.json == {name: part for name, part in shown.items() if name != "events"}
    assert (await get(desk, path + "x", scopes=["audit:read"])).problem == (404, "application-not-found")
    for forbidden in (path, "/api/audit/chain"):
        assert (await get(desk, forbidden, scopes=["credit:read"])).problem == (403, "scope-missing")


async def test_the_status_of_the_chain_is_the_same_by_command_and_by_route(desk: Desk) -> None:
    await desk.decided()
    await seal_all(desk.database)
    reply = await get(desk, "/api/audit/chain", scopes=["audit:read"])
    assert reply.json == json.loads((await audit(desk, "status", "--json")).stdout)
    assert reply.json["unsealed"] == 0
    assert (
        f"{reply.json['links']} links, the last one {reply.json['sha256']}"
        in (await audit(desk, "status")).stdout
    )


async def test_replay_recomputes_every_decision_by_command(desk: Desk) -> None:
    await desk.decided(BAD_ROW)
    replayed = await audit(desk, "replay", "--json")
    assert replayed.exit_code == 0
    report = json.loads(replayed.stdout)
    assert report["replayed"] >= 1
    assert report["different"] == []


async def test_replay_finds_a_published_ruleset_that_was_rewritten_with_its_hash(desk: Desk) -> None:
    application = await desk.decided()
    rewrite = (
        "update rules.ruleset_version set content = t.text,"
        " sha256 = encode(sha256(convert_to(t.text, 'UTF8')), 'hex') from ("
        "select replace(content, %(old)s, %(new)s) as text from rules.ruleset_version"
        " where (name, version) = (%(name)s, 1)) as t"
        " where (name, version) = (%(name)s, 1)"
    )
    await past_the_triggers(desk, rewrite, name="card-eligibility", old="< 0.45", new="< 0.46")
    replayed = await audit(desk, "replay", application)
    await past_the_triggers(desk, rewrite, name="card-eligibility", old="< 0.46", new="< 0.45")
    assert replayed.exit_code == 1
    assert f"{application}/1" in replayed.stdout
    assert (await audit(desk, "replay", application)).exit_code == 0


async def test_an_anchor_whose_writer_died_in_the_middle_was_never_noted(desk: Desk, tmp_path: Path) -> None:
    await desk.decided()
    await seal_all(desk.database)
    anchors = tmp_path / "anchors.jsonl"
    assert (await audit(desk, "anchor", "--anchors", anchors)).exit_code == 0
    first = anchors.read_bytes()
    anchors.write_bytes(first + first[:20])
    assert json.loads((await audit(desk, "verify", "--anchors", anchors, "--json")).stdout)["anchors"] == 1
    await desk.decided()
    await seal_all(desk.database)
    assert (await audit(desk, "anchor", "--anchors", anchors)).exit_code == 0
    assert anchors.read_bytes().startswith(first + b"{")
    assert json.loads((await audit(desk, "verify", "--anchors", anchors, "--json")).stdout)["anchors"] == 2
