"""Notices of adverse action in the running system: due with the denial, read by client and operator, sent once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from typer.testing import CliRunner

from faregate.credit.contracts import Reevaluation, Status, Verdict
from faregate.credit.handlers.reevaluate import reevaluate
from faregate.entrypoints.cli import app
from faregate.infra.failures import line_of
from tests.credit_desk import BAD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_world import ACME, APPLICATIONS, GLOBEX, Reply
from tests.unit.test_notice import GOOD_FILE

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C17")]

MONTH = timedelta(days=30)


async def credit(desk: Desk, *arguments: str) -> Result:
    """Run `faregate credit …` against the desk's servers."""
    settings = desk.world.settings
    assert settings.database_url
    assert settings.valkey_url
    environment = {
        "FAREGATE_HOME": str(settings.home),
        "FAREGATE_DATABASE_URL": settings.database_url.get_secret_value(),
        "FAREGATE_VALKEY_URL": settings.valkey_url.get_secret_value(),
    }
    return await asyncio.to_thread(CliRunner().invoke, app, ["credit", *arguments], env=environment)


@pytest.fixture
def issuer_file(desk: Desk) -> Iterator[None]:
    """The operator has said who denies."""
    file = desk.world.settings.home / "issuer.json"
    file.write_text(json.dumps(GOOD_FILE))
    yield
    file.unlink()


async def notice(desk: Desk, application: str, *, client: str = ACME) -> Reply:
    return await desk.world.request("GET", f"{APPLICATIONS}/{application}/adverse-action", client=client)


async def notices(desk: Desk, application: str) -> list[dict[str, Any]]:
    query = (
        "select * from credit.adverse_action_notice where application_id = %(id)s order by decision_version"
    )
    return await desk.sql(query, id=application)


async def decide_again(desk: Desk, application: str, *, version: int, outcome: Status | None = None) -> None:
    """Append a version: by a person with an outcome, else by the rules on the stored signals."""
    codes = ("INCOME_BELOW_MINIMUM",) if outcome is Status.DENIED else ("BUREAU_OK",)
    request = Reevaluation(
        application_id=application,
        expected_version=version,
        request_key=str(version),
        actor="ada",
        reason="a second look",
        verdict=None if outcome is None else Verdict(outcome=outcome, reason_codes=codes),
    )
    service = desk.service
    async with desk.database.transaction() as conn:
        now = service.tools.clock.now()
        ruleset = await service.rulesets.active(conn, name="card-eligibility", at=now)
        await reevaluate(conn, request, tools=service.tools, scorecard=service.scorecard, ruleset=ruleset)


async def test_a_denial_makes_a_notice_due_thirty_days_after_the_application_was_complete(desk: Desk) -> None:
    application = await desk.decided(BAD_ROW)
    [row] = await desk.sql("select ready_at from credit.application where id = %(id)s", id=application)
    [made] = await notices(desk, application)
    assert (made["decision_version"], made["due_at"], made["sent_at"]) == (1, row["ready_at"] + MONTH, None)
    trail = await desk.credit.audit_trail(application_id=application)
    assert trail[-1]["details"]["notice_due_at"]


@pytest.mark.parametrize("answers", [{}, {"fraud": "unknown"}])
async def test_no_other_outcome_makes_one(desk: Desk, answers: dict[str, Any]) -> None:
    application = await desk.checked(**answers)
    await desk.decide(application)
    assert await notices(desk, application) == []
    assert (await notice(desk, application)).problem == (404, "no-adverse-action")


async def test_a_denial_by_a_person_counts_from_the_completed_application_too(desk: Desk) -> None:
    application = await desk.checked(fraud="unknown")
    await desk.decide(application)
    await decide_again(desk, application, version=1, outcome=Status.DENIED)
    [row] = await desk.sql("select ready_at from credit.application where id = %(id)s", id=application)
    [made] = await notices(desk, application)
    assert (made["decision_version"], made["due_at"]) == (2, row["ready_at"] + MONTH)
    document = (await notice(desk, application)).json
    assert [r["code"] for r in document["principal_reasons"]] == ["INCOME_BELOW_MINIMUM"]
    assert document["credit_score"]["range"]["low"] < document["credit_score"]["score"]


async def test_a_denial_again_hands_the_day_of_a_notice_that_was_not_sent_on(desk: Desk) -> None:
    application = await desk.decided(BAD_ROW)
    await decide_again(desk, application, version=1)
    first, second = await notices(desk, application)
    assert first["due_at"] == second["due_at"]
    [shown] = [n for n in await due(desk) if n["application_id"] == application]
    assert shown["decision_version"] == 2


async def test_a_denial_after_a_notice_was_sent_counts_from_that_decision(
    desk: Desk, issuer_file: None
) -> None:
    application = await desk.decided(BAD_ROW)
    assert (await credit(desk, "notices", "--mark-sent", application)).exit_code == 0
    await decide_again(desk, application, version=1)
    rows = await desk.sql(
        "select decided_at from credit.decision where application_id = %(id)s and version = 2", id=application
    )
    assert (await notices(desk, application))[1]["due_at"] == rows[0]["decided_at"] + MONTH


async def due(desk: Desk, *options: str) -> list[dict[str, Any]]:
    return list(json.loads((await credit(desk, "notices", "--json", "--limit", "1000", *options)).stdout))


async def denial_taken_back(desk: Desk) -> str:
    """Deny an application, and take the denial back on better facts; return its id."""
    application = await desk.decided(BAD_ROW)
    await desk.sql(
        'update credit.risk_signal set facts = facts || \'{"term_months": 1, "checking_account": "none",'
        ' "credit_history": "critical"}\' where application_id = %(id)s',
        id=application,
    )
    await decide_again(desk, application, version=1)
    return application


async def test_a_denial_that_was_taken_back_needs_no_notice_any_more(desk: Desk) -> None:
    application = await denial_taken_back(desk)
    assert (await desk.world.decision(application)).json["outcome"] != "denied"
    assert application not in [n["application_id"] for n in await due(desk)]
    assert (await notice(desk, application)).problem == (404, "no-adverse-action")


async def test_a_notice_that_nobody_needs_any_more_is_marked_as_sent_by_its_version_only(
    desk: Desk, issuer_file: None
) -> None:
    application = await denial_taken_back(desk)
    refused = await credit(desk, "notices", "--mark-sent", application)
    assert (refused.exit_code, (await notices(desk, application))[0]["sent_at"]) == (1, None)
    assert "is not denied any more; name version 1" in str(line_of(refused.exception))
    assert (await credit(desk, "notices", "--mark-sent", f"{application}/1")).exit_code == 0


@pytest.mark.requirement("C8")
async def test_the_client_reads_what_the_notice_says_and_nobody_elses(desk: Desk, issuer_file: None) -> None:
    application = await desk.decided(BAD_ROW)
    reply = await notice(desk, application)
    assert reply.status == 200
    decision = (await desk.world.decision(application)).json
    reasons = [(r["code"], r["wording"]) for r in decision["adverse_action_reasons"]]
    assert [(r["code"], r["wording"]) for r in reply.json["principal_reasons"]] == reasons
    assert [(r["code"], r["wording"]) for r in reply.json["credit_score"]["key_factors"]] == reasons
    assert (reply.json["status"], reply.json["sent_at"]) == ("open", None)
    assert reply.json["consumer_report"]["provider"] == "bureau"
    assert (await notice(desk, application, client=GLOBEX)).problem == (404, "application-not-found")


async def test_a_denial_by_a_rule_discloses_no_score_for_none_was_used(desk: Desk) -> None:
    application = await desk.checked(kyc={"watchlist_match": True})
    assert await desk.decide(application) == "denied"
    document = (await notice(desk, application)).json
    assert document["credit_score"] is None
    assert [r["wording"] for r in document["principal_reasons"]] == ["Match on a compliance watch list"]


async def test_a_notice_of_an_issuer_that_nobody_named_cannot_be_marked_as_sent(desk: Desk) -> None:
    application = await desk.decided(BAD_ROW)
    refused = await credit(desk, "notices", "--mark-sent", application)
    assert refused.exit_code == 1
    assert "creditor, federal_agency, reporting_agencies.bureau is not set" in str(line_of(refused.exception))
    assert (await notices(desk, application))[0]["sent_at"] is None


async def test_a_notice_is_sent_once_and_the_audit_trail_keeps_what_it_said(
    desk: Desk, issuer_file: None
) -> None:
    application = await desk.decided(BAD_ROW)
    assert application in [n["application_id"] for n in await due(desk)]
    sent = await credit(desk, "notices", "--mark-sent", f"{application}/1", "--by", "ada", "--json")
    assert json.loads(sent.stdout)["status"] == "sent"
    assert application not in [n["application_id"] for n in await due(desk)]
    entry = (await desk.credit.audit_trail(application_id=application))[-1]
    assert (entry["actor"], entry["action"]) == ("ada", "adverse_action.notice_sent")
    assert entry["details"]["notice"] == json.loads(sent.stdout)["document"]
    again = await credit(desk, "notices", "--mark-sent", application)
    assert "was sent by ada" in str(line_of(again.exception))


async def test_the_list_is_cut_at_a_span_of_time_and_names_what_is_overdue(desk: Desk) -> None:
    fresh, late = await desk.decided(BAD_ROW), await desk.decided(BAD_ROW)
    async with desk.world.connection.transaction():
        await desk.sql("set local session_replication_role = replica")
        await desk.sql(
            "update credit.adverse_action_notice set due_at = now() - interval '1 hour' where application_id = %(id)s",
            id=late,
        )
    soon = {n["application_id"]: n["is_overdue"] for n in await due(desk, "--due-within", "7d")}
    everything = {n["application_id"]: n["is_overdue"] for n in await due(desk)}
    assert soon[late] is True
    assert fresh not in soon
    assert everything[fresh] is False
    assert (await due(desk))[0]["application_id"] == late


@pytest.mark.parametrize("arguments", [["--due-within", "soon"], ["--mark-sent", "app_1/x"]])
async def test_what_cannot_be_understood_is_refused_in_one_line(desk: Desk, arguments: list[str]) -> None:
    refused = await credit(desk, "notices", *arguments)
    assert refused.exit_code == 1
    assert arguments[1] in str(line_of(refused.exception))


async def test_the_command_prints_the_notice_as_text(desk: Desk, issuer_file: None) -> None:
    application = await desk.decided(BAD_ROW)
    text = (await credit(desk, "notice", application)).stdout
    assert text.startswith("NOTICE OF ACTION TAKEN AND STATEMENT OF REASONS")
    assert "Example Reports\n2 Side Street, Springfield" in text
    shown = json.loads((await credit(desk, "notice", application, "--json")).stdout)
    assert shown["text"].rstrip() == text.rstrip()
    assert shown["document"]["missing"] == []


# The fairness report


async def test_the_fairness_report_counts_the_applications_of_each_segment(
    desk: Desk, tmp_path: Path
) -> None:
    await desk.decided()
    await desk.decided(BAD_ROW)
    plot = tmp_path / "ratios.svg"
    report = json.loads((await credit(desk, "fairness", "--json", "--plot", str(plot))).stdout)
    totals = await desk.sql("select status, count(*) as n from credit.application group by status")
    counted = {row["status"]: row["n"] for row in totals}
    assert report["by"] == "age"
    assert sum(s["approved"] for s in report["segments"]) == counted["approved"]
    assert sum(s["denied"] for s in report["segments"]) == counted["denied"]
    assert plot.read_text().startswith("<?xml")
    empty = json.loads((await credit(desk, "fairness", "--since", "2999-01-01", "--json")).stdout)
    assert empty["segments"] == []


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["--by", "purpose"], "Approvals by segment"),
        (["--by", "income", "--edges", "30000"], "30000+"),
        (["--by", "product_type"], "cashback_card"),
    ],
)
async def test_segments_are_chosen_by_option(desk: Desk, arguments: list[str], shown: str) -> None:
    await desk.decided()
    answer = await credit(desk, "fairness", *arguments)
    assert answer.exit_code == 0
    assert shown in answer.stdout


@pytest.mark.parametrize(
    "arguments", [["--by", "shoe_size"], ["--plot", "ratios.pdf"], ["--edges", "young"], ["--edges", "40,25"]]
)
async def test_a_report_that_cannot_be_made_is_refused_in_one_line(desk: Desk, arguments: list[str]) -> None:
    refused = await credit(desk, "fairness", *arguments)
    assert refused.exit_code == 1
    assert line_of(refused.exception)
