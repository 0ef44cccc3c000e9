"""`faregate rules` against real servers: from a file to a roll-back and the decisions put right."""

from __future__ import annotations

import asyncio
import csv
import json
from pathlib import Path
from typing import Any

import orjson
import pytest
from typer.testing import CliRunner, Result

from faregate.entrypoints.cli import app
from faregate.infra.failures import line_of
from tests import earn_rules
from tests.credit_desk import BAD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.ruleset_desk import (  # noqa: F401
    Change,
    Rules,
    denying_everything,
    next_version,
    released,
    reviewing_low_risk,
    rules_of_desk,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAME = "card-eligibility"
WHY = ("--reason", "a test of the commands", "--by", "ada")


async def run(desk: Desk, *arguments: str) -> Result:
    """Run a command against the desk's servers, in a thread: it brings a loop of its own."""
    settings = desk.world.settings
    assert settings.database_url is not None
    assert settings.valkey_url is not None
    environment = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    return await asyncio.to_thread(
        CliRunner(env=environment).invoke, app, ["rules", *arguments], catch_exceptions=True
    )


async def said(desk: Desk, *arguments: str) -> str:
    """Run a command that must succeed and return its standard output."""
    result = await run(desk, *arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


async def answered(desk: Desk, *arguments: str) -> Any:
    return json.loads(await said(desk, *arguments, "--json"))


def file_of(folder: Path, *changes: Change) -> tuple[Path, str]:
    """Write a ruleset under a new version; return the file and the label."""
    version = next_version()
    path = folder / f"{NAME}-{version}.json"
    path.write_bytes(orjson.dumps(released(version, *changes)))
    return path, path.stem


async def deployed(desk: Desk, folder: Path, *changes: Change) -> str:
    path, label = file_of(folder, *changes)
    await said(desk, "publish", str(path), *WHY)
    await said(desk, "activate", label, *WHY)
    return label


@pytest.mark.requirement("C17")
async def test_a_file_is_checked_published_activated_listed_and_in_the_history(
    desk: Desk, tmp_path: Path
) -> None:
    path, label = file_of(tmp_path)
    assert "it may be published" in await said(desk, "check", str(path))
    assert (await answered(desk, "publish", str(path), *WHY))["ruleset"] == label
    [traffic] = await answered(desk, "activate", label, *WHY)
    assert f"{NAME}-{traffic['version']}" == label
    assert [v["ruleset"] for v in await answered(desk, "list", NAME) if v["active_since"]] == [label]
    assert await answered(desk, "show", label) == json.loads(path.read_text())
    newest = (await answered(desk, "history", NAME))[0]
    assert (newest["action"], newest["actor"], newest["reason"]) == ("activated", "ada", WHY[1])


@pytest.mark.requirement("C17")
async def test_a_file_with_problems_is_told_all_of_them_and_ends_with_status_1(
    desk: Desk, tmp_path: Path
) -> None:
    def broken(document: dict[str, Any]) -> None:
        rows = document["graph"]["nodes"][1]["content"]["rules"]
        rows[0].update(when_0="< [1", adverse_code="'UNHEARD_OF'")

    path, _ = file_of(tmp_path, broken)
    checked = await run(desk, "check", str(path))
    assert checked.exit_code == 1
    assert "knock_outs: rule age: column application.age_years: the cell '< [1' is broken" in checked.stdout
    assert "the code UNHEARD_OF is not in the code set" in checked.stdout
    refused = await run(desk, "publish", str(path), *WHY)
    assert "the ruleset is refused: knock_outs: rule age" in (line_of(refused.exception) or "")  # type: ignore[arg-type]


@pytest.mark.requirement("L13")
async def test_earn_rules_go_the_same_way_but_are_not_tried_on_applications(
    desk: Desk, tmp_path: Path
) -> None:
    path = tmp_path / "earn.json"
    path.write_bytes(orjson.dumps(earn_rules.next_version(2, dining="4")))
    assert "it may be published" in await said(desk, "check", str(path))
    assert (await answered(desk, "publish", str(path), *WHY))["ruleset"] == "points-earning-2"
    assert (await answered(desk, "activate", "points-earning-2", *WHY))[0]["version"] == 2
    path.write_bytes(orjson.dumps(earn_rules.next_version(4, dining="40")))
    await said(desk, "publish", str(path), *WHY)
    await said(desk, "activate", "points-earning-4", *WHY)
    back = await answered(desk, "rollback", "points-earning", *WHY)
    assert (back["from_version"], back["to_version"], back["decisions"]) == (4, 2, [])
    for tried in (["shadow", "start"], ["split", "set", "--percent", "5"]):
        refused = await run(desk, *tried, "points-earning-2", *WHY)
        assert "points-earning does not decide applications" in (line_of(refused.exception) or "")  # type: ignore[arg-type]


@pytest.mark.requirement("L13")
async def test_earn_rules_by_which_promotions_could_not_apply_are_refused(desk: Desk, tmp_path: Path) -> None:
    document = earn_rules.next_version(3)
    earn_rules.rows(document, "rate")[1]["rule"] = '"eating out"'
    path = tmp_path / "earn.json"
    path.write_bytes(orjson.dumps(document))
    checked = await run(desk, "check", str(path))
    assert checked.exit_code == 1
    assert "name rules by which nothing earns: dining" in checked.stdout
    refused = await run(desk, "publish", str(path), *WHY)
    assert "nothing earns: dining" in (line_of(refused.exception) or "")  # type: ignore[arg-type]


async def test_a_released_file_that_only_names_its_code_set_is_completed(desk: Desk) -> None:
    artefact = Path(__file__).parents[2] / "src/faregate/credit/artefacts/rulesets/card-eligibility-1.json"
    assert (await answered(desk, "check", str(artefact)))["may_be_published"]


async def test_a_version_and_a_file_are_compared(desk: Desk, tmp_path: Path) -> None:
    label = await deployed(desk, tmp_path)
    path, _ = file_of(tmp_path, reviewing_low_risk)
    text = await said(desk, "diff", label, str(path))
    assert "score_band / rows / low / score.risk_score: < 0.3 → < 0.001" in text
    [difference] = (await answered(desk, "diff", label, str(path)))["differences"]
    assert (difference["before"], difference["after"]) == ("< 0.3", "< 0.001")


@pytest.mark.requirement("C28")
async def test_a_bad_version_is_rolled_back_and_its_decisions_are_put_right(
    desk: Desk, rules: Rules, tmp_path: Path
) -> None:
    good, bad = await deployed(desk, tmp_path), await deployed(desk, tmp_path, denying_everything)
    decided = sorted([await desk.decided(), await desk.decided()])
    table = tmp_path / "decisions.csv"
    back = await answered(desk, "rollback", NAME, "--expected", bad, "--csv", str(table), *WHY)
    assert [d["application_id"] for d in back["decisions"]] == decided
    with table.open() as file:
        assert [(r["application_id"], r["outcome"]) for r in csv.DictReader(file)] == [
            (application, "denied") for application in decided
        ]
    redecide = ("redecide", "--ruleset", bad, *WHY)
    report = await said(desk, *redecide)
    assert f"{decided[0]}  denied → approved" in report
    assert "nothing was changed" in report
    assert [await rules.outcomes(a) for a in decided] == [[(1, "denied", bad)]] * 2
    applied = await answered(desk, *redecide, "--apply")
    assert (applied["applied"], applied["skipped"]) == (2, 0)
    assert [await rules.outcomes(a) for a in decided] == [[(1, "denied", bad), (2, "approved", good)]] * 2
    again = await answered(desk, *redecide, "--apply")
    assert (again["applied"], again["skipped"]) == (0, 0)
    assert f"{bad} made 2 decisions, 0 of which still stand" in await said(desk, "decisions", bad)


async def test_the_list_of_a_roll_back_begins_with_the_activation_that_it_ends(
    desk: Desk, tmp_path: Path
) -> None:
    await deployed(desk, tmp_path)
    label = await deployed(desk, tmp_path)
    earlier = await desk.decided()
    await said(desk, "rollback", NAME, *WHY)
    await said(desk, "activate", label, *WHY)
    later = await desk.decided()
    back = await answered(desk, "rollback", NAME, *WHY)
    assert [d["application_id"] for d in back["decisions"]] == [later]
    listed = await answered(desk, "decisions", label)
    assert [d["application_id"] for d in listed] == sorted([earlier, later])
    assert [
        d["application_id"] for d in await answered(desk, "decisions", label, "--since", "2100-01-01")
    ] == []


async def test_a_roll_back_whose_list_cannot_be_written_is_not_done(desk: Desk, tmp_path: Path) -> None:
    await deployed(desk, tmp_path)
    active = await deployed(desk, tmp_path)
    result = await run(desk, "rollback", NAME, "--csv", str(tmp_path / "nowhere" / "list.csv"), *WHY)
    assert isinstance(result.exception, FileNotFoundError)
    assert [v["ruleset"] for v in await answered(desk, "list", NAME) if v["active_since"]] == [active]


async def test_applying_needs_a_report_first(desk: Desk, tmp_path: Path) -> None:
    await deployed(desk, tmp_path)
    bad = await deployed(desk, tmp_path)
    await said(desk, "rollback", NAME, *WHY)
    result = await run(desk, "redecide", "--ruleset", bad, "--apply", *WHY)
    assert "make one without --apply" in (line_of(result.exception) or "")  # type: ignore[arg-type]


@pytest.mark.requirement("C17")
async def test_shadow_and_split_are_set_reported_and_stopped(desk: Desk, tmp_path: Path) -> None:
    await deployed(desk, tmp_path)
    path, tried = file_of(tmp_path, reviewing_low_risk)
    await said(desk, "publish", str(path), *WHY)
    await said(desk, "shadow", "start", tried, *WHY)
    application = await desk.decided()
    await said(desk, "shadow", "stop", NAME, *WHY)
    [traffic] = await answered(desk, "split", "set", tried, "--percent", "100", *WHY)
    assert traffic["challenger_basis_points"] == 10_000
    await desk.decided(BAD_ROW)
    await said(desk, "split", "stop", NAME, *WHY)
    text = await said(desk, "shadow", "report", NAME, "--version", tried)
    assert "watched 1 decisions" in text
    assert application[:20] in text
    [arm] = (await answered(desk, "split", "report", NAME, "--version", tried))["arms"]
    assert (arm["arm"], arm["denied"]) == ("challenger", 1)


@pytest.mark.requirement("C17")
async def test_a_file_is_tested_on_the_past_with_progress_beside_the_result(
    desk: Desk, tmp_path: Path
) -> None:
    await deployed(desk, tmp_path)
    await desk.decided()
    path, label = file_of(tmp_path, denying_everything)
    result = await run(desk, "backtest", str(path), "--since", "2026-01-01", "--json")
    found = json.loads(result.stdout)
    assert (found["candidate"], found["approval_rate"]["after"]) == (label, 0.0)
    assert "decisions" in result.stderr
    assert f"candidate {label}" in await said(desk, "backtest", str(path), "--percent", "100")
