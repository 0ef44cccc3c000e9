"""Whatever reviewers, late signals and rules do to a review, in whatever order: what always holds in the database."""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from faregate.credit.contracts import Hold, Status, Verdict
from faregate.credit.domain import review as machine
from faregate.credit.domain.application import DecisionSuperseded, IllegalTransition
from faregate.credit.handlers.review import ReviewDesk, ReviewPolicy
from faregate.entrypoints.bootstrap.site import tools
from faregate.infra.settings import Settings
from faregate.kernel.errors import FaregateError
from tests.background_loop import BackgroundLoop, opened_beside
from tests.credit_desk import GOOD_ROW, Desk, completed, open_desk, servers_of_module  # noqa: F401
from tests.credit_worker import new_person
from tests.credit_world import changed
from tests.review_room import NOTE, PEOPLE

AMOUNT_MAX = 10_000
CODES = {Status.APPROVED: ("INCOME_VERIFIED",), Status.DENIED: ("LENGTH_OF_EMPLOYMENT",)}
POLICY = ReviewPolicy(
    amount_if_absent=0,
    lease=timedelta(minutes=5),
    claims_max=3,
    amount_max=AMOUNT_MAX,
    note_chars_min=len(NOTE),
)
REFUSALS = (
    machine.ReviewOver,
    machine.ReviewTaken,
    machine.ClaimLost,
    machine.ReviewChanged,
    machine.ProposalPending,
    machine.ProposalMissing,
    machine.SamePerson,
)
LATE = st.sampled_from(
    [
        ("fraud", "not_done"),
        ("fraud", {"fraud_level": "low"}),
        ("fraud", {"fraud_level": "high"}),
        ("kyc", "unknown"),
    ]
)


@dataclass(kw_only=True)
class Office:
    """A desk, and the reviewers at it, in a loop beside the test."""

    loop: BackgroundLoop
    desk: Desk
    reviewers: ReviewDesk

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def act(self, name: str, review: str, **given: Any) -> Any:
        """Let a reviewer do something in a transaction; return its answer, or the named refusal."""

        async def work() -> Any:
            async with self.desk.database.transaction() as conn:
                return await _method(self.reviewers, name)(conn, review, **given)

        try:
            return self.run(work())
        except REFUSALS as refusal:
            return refusal

    def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = self.run(self.desk.sql(query, **values))
        return rows


def _method(reviewers: ReviewDesk, name: str) -> Any:
    return getattr(reviewers, name)


@dataclass
class Truth:
    """What the model knows: who holds a live claim, and what each person read when claiming."""

    holder: str | None = None
    read: dict[str, Hold] = field(default_factory=dict)
    proposer: str | None = None


class ReviewLife(RuleBasedStateMachine):
    """One application in review. Every refusal must be a named one; every success must be one that the model allows."""

    office: Office

    @initialize(amount=st.sampled_from([500, AMOUNT_MAX, AMOUNT_MAX + 1]))
    def go_to_review(self, amount: int) -> None:
        office, form = self.office, changed(new_person(), amount=amount)
        self.amount = amount
        self.application = office.run(office.desk.checked(GOOD_ROW, form=form, fraud="unknown"))
        assert office.run(office.desk.decide(self.application)) == "manual_review"
        self.truth = Truth()
        self.review = self._open_review()

    def _open_review(self) -> str:
        query = "select id from credit.review where application_id = %(id)s order by opened_at desc limit 1"
        [row] = self.office.sql(query, id=self.application)
        return str(row["id"])

    def _row(self) -> dict[str, Any]:
        [row] = self.office.sql("select * from credit.review where id = %(id)s", id=self.review)
        return row

    def _hold(self, who: str) -> Hold:
        return self.truth.read.get(who, Hold(reviewer=who, fence=0, revision=1))

    @rule(who=st.sampled_from(PEOPLE))
    def claim(self, who: str) -> None:
        answer = self.office.act("claim", self.review, reviewer=who)
        if isinstance(answer, FaregateError):
            assert isinstance(answer, machine.ReviewOver) or self.truth.holder or self.truth.proposer == who
            return
        assert self.truth.holder in (None, who)
        self.truth.holder = who
        self.truth.read[who] = Hold(reviewer=who, fence=answer.fence, revision=answer.revision)

    @rule()
    def let_the_lease_end(self) -> None:
        query = "update credit.review set claimed_until = now() - interval '1 s' where id = %(id)s and claimed_by <> ''"
        self.office.sql(query, id=self.review)
        self.truth.holder = None

    @rule(who=st.sampled_from(PEOPLE))
    def release(self, who: str) -> None:
        answer = self.office.act("release", self.review, reviewer=who, fence=self._hold(who).fence)
        if not isinstance(answer, FaregateError):
            assert self.truth.holder == who
            self.truth.holder = None

    @rule(who=st.sampled_from(PEOPLE), outcome=st.sampled_from(list(CODES)))
    def decide(self, who: str, outcome: Status) -> None:
        before, verdict = self._row(), Verdict(outcome=outcome, reason_codes=CODES[outcome])
        hold = self._hold(who)
        answer = self.office.act("decide", self.review, hold=hold, verdict=verdict, note=NOTE)
        if isinstance(answer, FaregateError):
            return
        assert self.truth.holder == who
        assert hold.revision == before["revision"]
        self.truth.holder = None
        if answer.second_person:
            self.truth.proposer = who
        else:
            assert self.amount <= AMOUNT_MAX

    @rule(who=st.sampled_from(PEOPLE), act=st.sampled_from(["confirm", "reject"]))
    def answer(self, who: str, act: str) -> None:
        answer = self.office.act(act, self.review, hold=self._hold(who), note=NOTE)
        if isinstance(answer, FaregateError):
            return
        assert self.truth.holder == who
        assert self.truth.proposer not in (None, who)
        self.truth.holder = self.truth.proposer = None

    @rule(who=st.sampled_from(PEOPLE))
    def let_rules_decide(self, who: str) -> None:
        answer = self.office.act("reevaluate", self.review, hold=self._hold(who), reason=NOTE)
        if isinstance(answer, FaregateError):
            return
        assert self.truth.holder == who
        self._after_rules(answer.status)

    @rule(signal=LATE)
    def late_signal(self, signal: tuple[str, Any]) -> None:
        check, answer = signal
        event = completed(self.application, check, GOOD_ROW, answer)
        self.office.run(self.office.desk.settle(event))

    @rule(version=st.integers(1, 5))
    def another_ruleset_decides(self, version: int) -> None:
        """Somebody decides again without holding the review, knowing a version that may be an old one."""
        try:
            answer = self.office.run(self.office.desk.reevaluate(self.application, version=version))
        except (DecisionSuperseded, IllegalTransition):
            return
        if not answer.is_repeated:
            self._after_rules(answer.status)

    def _after_rules(self, status: Status) -> None:
        self.truth.proposer = None
        if status is not Status.MANUAL_REVIEW:
            self.truth.holder = None
        elif self._open_review() != self.review:
            self.truth, self.review = Truth(), self._open_review()

    @invariant()
    def versions_have_no_gap_and_the_newest_is_the_state(self) -> None:
        [application] = self.office.sql(
            "select status, decision_version from credit.application where id = %(id)s", id=self.application
        )
        query = "select version, outcome from credit.decision where application_id = %(id)s order by version"
        decisions = self.office.sql(query, id=self.application)
        assert [d["version"] for d in decisions] == list(range(1, application["decision_version"] + 1))
        assert decisions[-1]["outcome"] == application["status"]

    @invariant()
    def who_is_in_review_has_one_open_review_at_the_newest_version(self) -> None:
        query = (
            "select a.status, a.decision_version, r.decision_version as reviewed from credit.application a"
            " left join credit.review r on r.application_id = a.id and r.state <> 'closed' where a.id = %(id)s"
        )
        [row] = self.office.sql(query, id=self.application)
        wanted = row["decision_version"] if row["status"] == "manual_review" else None
        assert row["reviewed"] == wanted

    @invariant()
    def a_large_amount_was_seen_by_two(self) -> None:
        query = "select * from credit.review where application_id = %(id)s and decided_by is not null"
        for row in self.office.sql(query, id=self.application):
            assert row["proposed_by"] != row["decided_by"]
            assert self.amount <= AMOUNT_MAX or row["proposed_by"]

    @invariant()
    def every_decision_of_a_person_is_in_the_audit_trail_with_its_claim(self) -> None:
        query = (
            "select count(*) filter (where action = 'review.decided') as closed, count(*) filter (where"
            " action = 'decision.finalized' and actor like 'reviewer:%%' and details->>'reason' = %(note)s and"
            " details->'result'->'trace'->'revision' is not null) as decided"
            " from credit.audit_entry where application_id = %(id)s"
        )
        [row] = self.office.sql(query, id=self.application, note=NOTE)
        assert row["closed"] <= row["decided"]


@pytest.mark.requirement("C33")
@pytest.mark.requirement("C20")
@pytest.mark.requirement("C5")
def test_whatever_happens_to_a_review_its_invariants_hold(servers_of_module: Settings) -> None:  # noqa: F811
    quick = settings(
        max_examples=15,
        stateful_step_count=25,
        deadline=None,
        phases=[Phase.explicit, Phase.generate],  # to shrink a failure against a database would take hours
        suppress_health_check=list(HealthCheck),
    )
    with opened_beside(open_desk(servers_of_module)) as (loop, desk):
        reviewers = ReviewDesk(
            tools=tools(),
            rulesets=desk.service.rulesets,
            scorecard=desk.service.scorecard,
            policy=POLICY,
        )
        office = Office(loop=loop, desk=desk, reviewers=reviewers)
        run_state_machine_as_test(type("Life", (ReviewLife,), {"office": office}), settings=quick)
