"""What a bad ruleset decided is found, decided again on what is recorded, reported, and only then applied."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from faregate.credit.contracts import AppliedBatch, Redecision, Reevaluation, Status, Verdict
from faregate.credit.domain.comparison import SAMPLE_MAX, Answer, Change, Comparison, change_between
from faregate.credit.domain.review import with_new_facts
from faregate.credit.handlers.backtest import Backtest, Period, backtest
from faregate.credit.handlers.redecide import ReportNotComplete, ReportOutdated, RulesetStillActive
from faregate.credit.handlers.reevaluate import reevaluate
from faregate.credit.store import redecisions, reviews
from faregate.credit.store.artefacts import load_scorecard
from faregate.credit.store.redecisions import RedecisionNotFound
from faregate.entrypoints.bootstrap.site import tools
from faregate.infra.clock import SystemClock
from tests.credit_desk import BAD_ROW, GOOD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.ruleset_desk import (  # noqa: F401
    Rules,
    approving_everything,
    denying_everything,
    reviewing_low_risk,
    rules_of_desk,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")


async def report(rules: Rules, ruleset_version: str, *, page: int = 500) -> Redecision:
    """Make a whole report."""
    async with rules.desk.database.transaction() as conn:
        made = await rules.redecider.begin(conn, ruleset_version=ruleset_version, actor="bob", reason="cents")
    while not made.is_complete:
        async with rules.desk.database.transaction() as conn:
            made = await rules.redecider.report_page(conn, made.id, limit=page)
    return made


async def apply(rules: Rules, made: Redecision, *, limit: int = 200) -> AppliedBatch:
    async with rules.desk.database.transaction() as conn:
        return await rules.redecider.apply_batch(
            conn, made.id, actor="bob", reason="the limit was in cents", limit=limit
        )


async def said(rules: Rules, made: Redecision) -> dict[str, tuple[str, str, str]]:
    """Return outcome before, outcome after and state by application."""
    async with rules.desk.database.connection() as conn:
        items = await redecisions.items_of(conn, made.id, only_changed=False, after_id="", limit=1_000)
    return {i.application_id: (i.before["outcome"], i.after["outcome"], i.state) for i in items}


async def bad_times(rules: Rules, *, decisions: int = 3) -> tuple[str, str, list[str]]:
    """Let a bad version decide between two good moments; return the good version, the bad one, what it decided."""
    good, bad = await rules.deploy(), await rules.deploy(denying_everything)
    decided = [await rules.desk.decided() for _ in range(decisions)]
    await rules.roll_back()
    return good, bad, decided


@pytest.mark.requirement("C28")
async def test_the_decisions_of_the_bad_version_are_listed_page_by_page(rules: Rules) -> None:
    before = await rules.desk.decided()
    _, bad, decided = await bad_times(rules)
    after = await rules.desk.decided()
    listed: list[Any] = []
    async with rules.desk.database.connection() as conn:
        while page := await rules.operator.touched(
            conn, bad, after=(listed[-1].application_id, listed[-1].version) if listed else ("", 0), limit=2
        ):
            assert len(page) <= 2
            listed += page
        counts = await rules.operator.touched_counts(conn, bad)
    assert [item.application_id for item in listed] == sorted(decided)
    assert {item.outcome for item in listed} == {Status.DENIED}
    assert not {before, after} & {item.application_id for item in listed}
    assert counts == [{"outcome": "denied", "stands": True, "decisions": 3}]


@pytest.mark.requirement("C28")
async def test_a_report_changes_nothing_and_says_what_would_change(rules: Rules) -> None:
    good, bad, decided = await bad_times(rules)
    before = [await rules.outcomes(a) for a in decided]
    made = await report(rules, bad, page=2)
    assert (made.ruleset_version, made.target_version) == (bad, good)
    assert await said(rules, made) == dict.fromkeys(decided, ("denied", "approved", "pending"))
    assert [await rules.outcomes(a) for a in decided] == before


@pytest.mark.requirement("C28")
@pytest.mark.requirement("C20")
async def test_applying_appends_audited_versions_announces_them_and_asks_nobody(rules: Rules) -> None:
    good, bad, decided = await bad_times(rules)
    made = await report(rules, bad)
    journal = "select provider_request_id, state, sends, updated_at from gateway.intent order by 1"
    asked = await rules.desk.sql(journal)
    assert await apply(rules, made) == AppliedBatch(applied=3, skipped=0, pending=0)
    assert await rules.desk.sql(journal) == asked
    for application in decided:
        assert await rules.outcomes(application) == [(1, "denied", bad), (2, "approved", good)]
        assert (await rules.desk.world.status(application)).json["status"] == "approved"
        last = (await rules.desk.announced(application))[-1]["payload"]
        assert (last["outcome"], last["decision_version"]) == ("approved", 2)
        entry = (await rules.desk.credit.audit_trail(application_id=application))[-1]
        assert (entry["action"], entry["actor"]) == ("decision.finalized", "bob")
        assert entry["details"]["reason"].startswith("the limit was in cents")
        assert made.id in entry["details"]["reason"]


@pytest.mark.requirement("C28")
async def test_applying_goes_on_where_it_was_and_does_nothing_the_second_time(rules: Rules) -> None:
    _, bad, decided = await bad_times(rules, decisions=5)
    made = await report(rules, bad)
    batches = [await apply(rules, made, limit=2) for _ in range(4)]
    assert [(batch.applied, batch.pending) for batch in batches] == [(2, 3), (2, 1), (1, 0), (0, 0)]
    assert [len(await rules.outcomes(a)) for a in decided] == [2] * 5


@pytest.mark.requirement("C28")
async def test_a_batch_that_dies_before_its_commit_is_applied_once_all_the_same(rules: Rules) -> None:
    _, bad, [application] = await bad_times(rules, decisions=1)
    made = await report(rules, bad)
    with pytest.raises(ZeroDivisionError):
        await _apply_and_die(rules, made)
    assert (await said(rules, made))[application][2] == "pending"
    assert (await apply(rules, made)).applied == 1
    assert len(await rules.outcomes(application)) == 2


async def _apply_and_die(rules: Rules, made: Redecision) -> None:
    async with rules.desk.database.transaction() as conn:
        await rules.redecider.apply_batch(conn, made.id, actor="bob", reason="cents")
        raise ZeroDivisionError


async def decide_by_hand(rules: Rules, application: str) -> None:
    """Let a person decide what waits in review."""
    async with rules.desk.database.transaction() as conn:
        ruleset = await rules.operator.rulesets.active(conn, name="card-eligibility", at=SystemClock().now())
        request = Reevaluation(
            application_id=application,
            expected_version=1,
            request_key="by hand",
            actor="carol",
            reason="looked at it",
            verdict=Verdict(outcome=Status.APPROVED, reason_codes=("BUREAU_OK",)),
        )
        scorecard = load_scorecard("german-1")
        await reevaluate(conn, request, tools=tools(), scorecard=scorecard, ruleset=ruleset)


@pytest.mark.requirement("C28")
async def test_an_application_that_was_decided_since_the_report_is_skipped_and_it_is_said(
    rules: Rules,
) -> None:
    await rules.deploy()
    bad = await rules.deploy(reviewing_low_risk)
    reviewed, other = await rules.desk.decided(), await rules.desk.decided()
    await rules.roll_back()
    made = await report(rules, bad)
    await decide_by_hand(rules, reviewed)
    assert await apply(rules, made) == AppliedBatch(applied=1, skipped=1, pending=0)
    async with rules.desk.database.connection() as conn:
        items = await redecisions.items_of(conn, made.id, only_changed=True, after_id="", limit=9)
    notes = {item.application_id: (item.state, item.note) for item in items}
    assert notes[reviewed] == ("skipped", "version 2 of the decision is there, not 1")
    assert notes[other] == ("applied", None)


@pytest.mark.requirement("C17")
@pytest.mark.requirement("C33")
async def test_an_application_in_review_of_which_facts_arrived_since_is_left_to_its_review(
    rules: Rules,
) -> None:
    """A check that came late says fraud: what was recorded before would be approved by the better ruleset."""
    desk = rules.desk
    await rules.deploy()
    bad = await rules.deploy(reviewing_low_risk)
    application = await desk.checked(GOOD_ROW)
    assert await desk.decide(application) == "manual_review"
    await rules.roll_back()
    made = await report(rules, bad)
    async with desk.database.transaction() as conn:
        [review] = (await reviews.not_closed(conn, [application])).values()
        await reviews.save(
            conn,
            [
                reviews.Saved(
                    review=with_new_facts(review), actor="signals", action="review.facts_arrived", details={}
                )
            ],
            now=datetime.now(UTC),
        )
    applied = await apply(rules, made)
    assert (applied.applied, applied.skipped) == (0, 1)
    assert (await rules.outcomes(application))[-1][:2] == (1, "manual_review")


async def test_what_a_person_decided_is_not_the_bad_versions_doing(rules: Rules) -> None:
    await rules.deploy()
    bad = await rules.deploy(reviewing_low_risk)
    reviewed = await rules.desk.decided()
    await decide_by_hand(rules, reviewed)
    assert [version for _, _, version in await rules.outcomes(reviewed)] == [bad, bad]
    await rules.roll_back()
    assert await said(rules, await report(rules, bad)) == {}
    async with rules.desk.database.connection() as conn:
        [listed] = await rules.operator.touched(conn, bad)
    assert (listed.version, listed.newest_version) == (1, 2)


@pytest.mark.requirement("C28")
async def test_rules_do_not_take_an_approval_back_a_person_looks_at_it(rules: Rules) -> None:
    await rules.deploy()
    bad = await rules.deploy(approving_everything)
    application = await rules.desk.decided(BAD_ROW)
    await rules.roll_back()
    made = await report(rules, bad)
    assert await said(rules, made) == {application: ("approved", "manual_review", "pending")}
    await apply(rules, made)
    rows = await rules.desk.sql(
        "select outcome, reason_codes from credit.decision where application_id = %(id)s and version = 2",
        id=application,
    )
    assert (rows[0]["outcome"], rows[0]["reason_codes"][0]) == ("manual_review", "APPROVAL_IN_DOUBT")
    assert (await rules.desk.credit.replay(application_id=application)).different == ()


async def test_what_comes_out_the_same_is_left_alone(rules: Rules) -> None:
    await rules.deploy()
    bad = await rules.deploy(reviewing_low_risk)
    denied = await rules.desk.decided(BAD_ROW)
    await rules.roll_back()
    made = await report(rules, bad)
    assert await said(rules, made) == {denied: ("denied", "denied", "unchanged")}
    assert await apply(rules, made) == AppliedBatch(applied=0, skipped=0, pending=0)
    assert len(await rules.outcomes(denied)) == 1


async def test_the_active_version_is_not_decided_again(rules: Rules) -> None:
    active = await rules.deploy()
    with pytest.raises(RulesetStillActive):
        await report(rules, active)


async def test_half_a_report_is_not_applied(rules: Rules) -> None:
    _, bad, _ = await bad_times(rules)
    async with rules.desk.database.transaction() as conn:
        begun = await rules.redecider.begin(conn, ruleset_version=bad, actor="bob", reason="cents")
        half = await rules.redecider.report_page(conn, begun.id, limit=2)
    assert not half.is_complete
    with pytest.raises(ReportNotComplete):
        await apply(rules, half)


async def test_a_report_that_another_activation_outdated_is_not_applied(rules: Rules) -> None:
    _, bad, [application] = await bad_times(rules, decisions=1)
    made = await report(rules, bad)
    await rules.deploy(reviewing_low_risk)
    with pytest.raises(ReportOutdated):
        await apply(rules, made)
    assert len(await rules.outcomes(application)) == 1


async def test_a_report_that_nobody_made_is_not_found(rules: Rules) -> None:
    async with rules.desk.database.connection() as conn:
        with pytest.raises(RedecisionNotFound):
            await redecisions.one(conn, "red_0")


async def run_backtest(desk: Desk, label: str, rules: Rules, **period: Any) -> Backtest:
    async with desk.database.connection() as conn:
        candidate = await rules.operator.compiled(conn, label)
    return await backtest(desk.database.connection, candidate, period=Period(**period))


@pytest.mark.requirement("C17")
async def test_a_backtest_says_what_a_candidate_would_have_decided(desk: Desk, rules: Rules) -> None:
    await rules.deploy()
    candidate, since = await rules.publish(reviewing_low_risk), SystemClock().now()
    good, bad = [await desk.decided() for _ in range(3)], await desk.decided(BAD_ROW)
    until = SystemClock().now()
    later = await desk.decided()
    found = (await run_backtest(desk, candidate, rules, since=since, until=until)).document()
    assert (found["compared"], found["changes"]) == (4, {"unchanged": 1, "reasons": 0, "outcome": 3})
    assert found["approval_rate"] == {"before": 0.75, "after": 0.0, "change": -0.75}
    assert {line["application_id"] for line in found["sample"]} == set(good)
    assert {bad, later}.isdisjoint(line["application_id"] for line in found["sample"])
    reasons = {line["code"]: (line["before"], line["after"]) for line in found["reasons"]}
    assert reasons["SCORE_LOW_RISK"] == (3, 0)
    assert reasons["SCORE_BORDERLINE"] == (0, 3)


async def test_the_version_that_decided_agrees_with_itself_in_a_backtest(desk: Desk, rules: Rules) -> None:
    active, since = await rules.deploy(), SystemClock().now()
    for row in (BAD_ROW, None):
        await (desk.decided(row) if row else desk.decided())
    found = await run_backtest(desk, active, rules, since=since)
    assert found.comparison.changes == Counter({Change.UNCHANGED: 2})
    assert found.is_complete


async def test_a_backtest_in_pages_and_shares_takes_each_application_at_most_once(
    desk: Desk, rules: Rules, monkeypatch: pytest.MonkeyPatch
) -> None:
    active, since = await rules.deploy(), SystemClock().now()
    decided = {await desk.decided() for _ in range(7)}
    monkeypatch.setattr("faregate.credit.handlers.backtest.PAGE", 2)
    whole = await run_backtest(desk, active, rules, since=since)
    part = await run_backtest(desk, active, rules, since=since, decisions_max=3)
    none = await run_backtest(desk, active, rules, since=since, basis_points=0)
    assert [found.comparison.compared for found in (whole, part, none)] == [len(decided), 3, 0]
    assert not part.is_complete
    assert none.document()["approval_rate"]["before"] is None


def answer(outcome: Status, *codes: str, adverse: tuple[str, ...] = ()) -> Answer:
    return Answer(outcome=outcome, risk_score=0.5, reason_codes=codes, adverse_codes=adverse)


async def test_answers_differ_by_outcome_then_by_reasons_and_never_by_score_alone() -> None:
    denied = answer(Status.DENIED, "A", adverse=("A",))
    same_but_score = Answer(outcome=Status.DENIED, risk_score=0.9, reason_codes=("A",), adverse_codes=("A",))
    assert change_between(denied, same_but_score) is Change.UNCHANGED
    assert change_between(denied, answer(Status.DENIED, "A", adverse=("B",))) is Change.REASONS
    assert change_between(denied, answer(Status.DENIED, "B", adverse=("A",))) is Change.REASONS
    assert change_between(denied, answer(Status.APPROVED, "A", adverse=("A",))) is Change.OUTCOME


async def test_a_comparison_keeps_a_sample_and_counts_all() -> None:
    comparison = Comparison()
    for number in range(3 * SAMPLE_MAX):
        comparison.add(f"app_{number}", before=answer(Status.DENIED, "A"), after=answer(Status.APPROVED, "B"))
    found = comparison.document()
    assert (len(found["sample"]), found["compared"]) == (SAMPLE_MAX, 3 * SAMPLE_MAX)
    assert sum(cell["count"] for cell in found["matrix"]) == 3 * SAMPLE_MAX
    assert found["reasons"] == [
        {"code": "A", "before": 3 * SAMPLE_MAX, "after": 0},
        {"code": "B", "before": 0, "after": 3 * SAMPLE_MAX},
    ]
