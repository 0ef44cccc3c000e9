"""Further versions of a decision: fenced, once a request, on what is known already, and replayed like the first."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

import pytest

from faregate.credit.contracts import Reevaluated, Reevaluation, Status, Verdict
from faregate.credit.domain.application import (
    ApplicationNotFound,
    DecisionNotMade,
    DecisionSuperseded,
    IllegalTransition,
)
from faregate.credit.domain.reasons import AdverseReasonMissing, ReasonCodeUnknown
from faregate.credit.handlers.decide import RULESET_NAME
from faregate.credit.handlers.reevaluate import reevaluate, reevaluate_all
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.entrypoints.bootstrap.site import tools
from faregate.kernel.errors import FaregateError
from faregate.rules.ruleset import CompiledRuleset, canonical, compile_ruleset
from tests.credit_desk import BAD_ROW, GOOD_ROW, Desk, completed, desk_of_module, servers_of_module  # noqa: F401

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C20")]

DENIAL = Verdict(outcome=Status.DENIED, reason_codes=("LENGTH_OF_EMPLOYMENT", "SCORE_BORDERLINE"))
APPROVAL = Verdict(outcome=Status.APPROVED, reason_codes=("INCOME_VERIFIED",))


def asked(application: str, *, version: int = 1, key: str = "key-1", **changes: Any) -> Reevaluation:
    given = {"actor": "ada", "reason": "a better ruleset", **changes}
    return Reevaluation(application_id=application, expected_version=version, request_key=key, **given)


def strict_rules() -> CompiledRuleset:
    """The released rules with a score band that calls every score high."""
    document = load_ruleset_document("card-eligibility-1")
    for node in document["graph"]["nodes"]:
        if node["id"] == "score_band":
            node["content"]["rules"] = node["content"]["rules"][-1:]
    return compile_ruleset(canonical(document))


async def again(desk: Desk, *requests: Reevaluation) -> list[Reevaluated | FaregateError]:
    async with desk.database.transaction() as conn:
        rules = await desk.service.rulesets.version(conn, name=RULESET_NAME, version=1)
        scorecard = desk.service.scorecard
        return await reevaluate_all(conn, requests, tools=tools(), scorecard=scorecard, ruleset=rules)


async def one(
    desk: Desk,
    request: Reevaluation,
    ruleset: CompiledRuleset | None = None,
    *,
    then: Callable[[], object] = lambda: None,
) -> Reevaluated:
    """Carry out one request; `then` comes before its commit."""
    async with desk.database.transaction() as conn:
        rules = ruleset or await desk.service.rulesets.version(conn, name=RULESET_NAME, version=1)
        scorecard = desk.service.scorecard
        answer = await reevaluate(conn, request, tools=tools(), scorecard=scorecard, ruleset=rules)
        then()
    return answer


async def in_review(desk: Desk) -> str:
    application = await desk.checked(fraud="unknown")
    assert await desk.decide(application) == "manual_review"
    return application


async def versions(desk: Desk, application: str) -> list[tuple[int, str]]:
    rows = await desk.sql(
        "select version, outcome from credit.decision where application_id = %(id)s order by version",
        id=application,
    )
    return [(row["version"], row["outcome"]) for row in rows]


@pytest.mark.requirement("C5")
@pytest.mark.requirement("C33")
async def test_late_facts_decide_a_review_anew_and_nobody_is_asked_for_them(desk: Desk) -> None:
    application = await in_review(desk)
    await desk.settle(completed(application, "fraud", GOOD_ROW, {}))
    runs = await desk.sql("select * from credit.workflow_execution")
    intents = await desk.sql("select * from gateway.intent")
    answer = await one(desk, asked(application))
    assert (answer.version, answer.status) == (2, Status.APPROVED)
    assert (await desk.world.status(application)).json["status"] == "approved"
    assert await desk.sql("select * from credit.workflow_execution") == runs
    assert await desk.sql("select * from gateway.intent") == intents


async def test_each_version_is_announced_with_its_number_and_audited_with_actor_and_reason(
    desk: Desk,
) -> None:
    application = await in_review(desk)
    await one(desk, asked(application, verdict=APPROVAL))
    [_, first, second] = await desk.announced(application)
    assert [e["payload"]["decision_version"] for e in (first, second)] == [1, 2]
    assert (second["payload"]["outcome"], second["payload"]["reason_codes"]) == (
        "approved",
        ["INCOME_VERIFIED"],
    )
    *_, entry, _ = await desk.credit.audit_trail(application_id=application)
    assert (entry["actor"], entry["action"]) == ("ada", "decision.finalized")
    assert entry["details"]["reason"] == "a better ruleset"
    assert entry["details"]["result"]["trace"]["revision"]["outcome_by_rules"] == "manual_review"


async def test_the_same_request_makes_one_version_however_often_and_at_once_it_is_sent(desk: Desk) -> None:
    application = await in_review(desk)
    answers = await asyncio.gather(*(one(desk, asked(application, verdict=APPROVAL)) for _ in range(5)))
    assert {(a.version, a.status) for a in answers} == {(2, Status.APPROVED)}
    assert sorted(a.is_repeated for a in answers) == [False, True, True, True, True]
    assert await versions(desk, application) == [(1, "manual_review"), (2, "approved")]


async def test_of_two_who_decide_on_the_same_version_the_second_is_refused(desk: Desk) -> None:
    application = await in_review(desk)
    requests = [asked(application, key=f"key-{v.outcome}", verdict=v) for v in (APPROVAL, DENIAL)]
    answers = await asyncio.gather(*(again(desk, request) for request in requests))
    refused = [a for [a] in answers if isinstance(a, DecisionSuperseded)]
    assert len(refused) == 1
    assert refused[0].facts == {"decision_version": 2}
    assert len(await versions(desk, application)) == 2


@pytest.mark.requirement("C17")
async def test_rules_that_now_deny_do_not_take_back_an_approval_but_send_it_to_a_person(desk: Desk) -> None:
    application = await desk.decided(GOOD_ROW)
    answer = await one(desk, asked(application), strict_rules())
    assert answer.status is Status.MANUAL_REVIEW
    [row] = await desk.sql(
        "select * from credit.decision where application_id = %(id)s and version = 2", id=application
    )
    assert row["reason_codes"] == ["APPROVAL_IN_DOUBT", "SCORE_HIGH_RISK"]
    assert row["adverse_action_reasons"] == []


@pytest.mark.requirement("C17")
async def test_a_wrong_denial_is_corrected_on_the_inputs_that_were_recorded_with_it(desk: Desk) -> None:
    application = await in_review(desk)
    await desk.settle(completed(application, "fraud", GOOD_ROW, {}))
    assert (await one(desk, asked(application), strict_rules())).status is Status.DENIED
    answer = await one(desk, asked(application, version=2, key="key-2", recorded_version=2))
    assert answer.status is Status.APPROVED
    rows = await desk.sql(
        "select inputs from credit.decision where application_id = %(id)s order by version", id=application
    )
    facts = [row["inputs"]["facts"] for row in rows]
    assert len(facts) == 3
    assert facts[1] == facts[2]


@pytest.mark.requirement("C33")
async def test_rules_that_say_otherwise_than_a_person_leave_it_to_a_person(desk: Desk) -> None:
    application = await in_review(desk)
    await one(desk, asked(application, verdict=DENIAL))
    await desk.settle(completed(application, "fraud", GOOD_ROW, {}))
    answer = await one(desk, asked(application, version=2, key="key-2"))
    assert answer.status is Status.MANUAL_REVIEW
    assert (await desk.credit.replay(application_id=application)).different == ()


@pytest.mark.requirement("C32")
@pytest.mark.parametrize("verdict", [APPROVAL, DENIAL, None])
async def test_a_further_version_is_replayed_to_the_identical_decision(
    desk: Desk,
    verdict: Verdict | None,
) -> None:
    application = await in_review(desk)
    await one(desk, asked(application, verdict=verdict))
    report = await desk.credit.replay(application_id=application)
    assert (report.replayed, report.different) == (2, ())


async def test_a_person_who_denies_gives_the_reasons_that_the_applicant_is_told(desk: Desk) -> None:
    application = await in_review(desk)
    await one(desk, asked(application, verdict=DENIAL))
    decision = (await desk.world.decision(application)).json
    assert decision["reason_codes"] == ["LENGTH_OF_EMPLOYMENT", "SCORE_BORDERLINE"]
    assert [reason["wording"] for reason in decision["adverse_action_reasons"]] == ["Length of employment"]


@pytest.mark.parametrize(
    ("verdict", "error"),
    [
        (Verdict(outcome=Status.DENIED, reason_codes=("SCORE_BORDERLINE",)), AdverseReasonMissing),
        (Verdict(outcome=Status.DENIED, reason_codes=()), ReasonCodeUnknown),
        (Verdict(outcome=Status.APPROVED, reason_codes=("BECAUSE",)), ReasonCodeUnknown),
        (Verdict(outcome=Status.MANUAL_REVIEW, reason_codes=("KYC_OK",)), IllegalTransition),
    ],
)
async def test_a_verdict_without_its_reasons_is_refused_and_changes_nothing(
    desk: Desk,
    verdict: Verdict,
    error: type[FaregateError],
) -> None:
    application = await in_review(desk)
    async with desk.world.unchanged():
        with pytest.raises(error):
            await one(desk, asked(application, verdict=verdict))


@pytest.mark.parametrize("row", [GOOD_ROW, BAD_ROW])
async def test_no_person_overrules_a_final_decision(desk: Desk, row: Mapping[str, str]) -> None:
    application = await desk.decided(row)
    with pytest.raises(IllegalTransition):
        await one(desk, asked(application, verdict=APPROVAL))


async def test_what_is_not_decided_or_not_there_cannot_be_decided_again(desk: Desk) -> None:
    open_one, reviewed = await desk.checked(), await in_review(desk)
    answers = await again(
        desk,
        asked(open_one, version=0),
        asked("app_nobody"),
        asked(reviewed, recorded_version=7),
    )
    assert [type(a) for a in answers] == [DecisionNotMade, ApplicationNotFound, DecisionNotMade]


async def test_in_a_batch_a_refused_request_holds_up_no_other(desk: Desk) -> None:
    first, second, third = [await in_review(desk) for _ in range(3)]
    await one(desk, asked(second, verdict=APPROVAL))
    requests = [asked(a, key="batch", verdict=DENIAL) for a in (first, second, third)]
    answers = await again(desk, *requests)
    assert [isinstance(a, Reevaluated) for a in answers] == [True, False, True]
    assert await again(desk, *requests) != answers  # the repetition says so
    assert [await versions(desk, a) for a in (first, third)] == [[(1, "manual_review"), (2, "denied")]] * 2


async def test_a_version_that_cannot_be_announced_is_not_there(desk: Desk) -> None:
    application = await in_review(desk)
    with pytest.raises(ZeroDivisionError):
        await one(desk, asked(application), then=lambda: 1 / 0)
    assert await versions(desk, application) == [(1, "manual_review")]
