"""Whatever order submissions, signals, deadlines and decisions come in: what always holds of an application.

The real handlers on the real database; the model beside them is a dict.
"""

from __future__ import annotations

from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
    run_state_machine_as_test,
)

from faregate.infra.settings import Settings
from tests.background_loop import BackgroundLoop, opened_beside
from tests.credit_desk import (
    ANSWERS,
    BAD_ROW,
    GOOD_ROW,
    Desk,
    completed,
    open_desk,
    servers_of_module,  # noqa: F401
)
from tests.credit_worker import new_person
from tests.credit_world import new_key

MANDATORY = ("bureau", "kyc")
OUTCOMES = ("approved", "denied", "manual_review")
SETTLED = st.tuples(
    st.sampled_from(sorted(ANSWERS)), st.sampled_from(["done", "done", "done", "not_done", "unknown"])
)


@dataclass
class Known:
    """What the model knows of one application."""

    application: str
    form: dict[str, Any]
    key: str
    signals: dict[str, str] = field(default_factory=dict)
    decided_on: dict[str, str] | None = None
    decision: dict[str, Any] | None = None


class ApplicationLife(RuleBasedStateMachine):
    """Some people apply, several times and at once; their checks settle, late and twice, before and after the end."""

    loop: BackgroundLoop
    desk: Desk
    applications = Bundle("applications")

    @initialize()
    def begin(self) -> None:
        self.known: list[Known] = []

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run(work)

    def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        return list(self.run(self.desk.sql(query, **values)))

    @rule(target=applications)
    def submit(self) -> Known:
        form, key = new_person(), new_key()
        reply = self.run(self.desk.world.submit(form, key=key))
        assert reply.status == 202
        self.known.append(Known(reply.json["application_id"], form, key))
        return self.known[-1]

    @rule(known=applications)
    def submit_again(self, known: Known) -> None:
        reply = self.run(self.desk.world.submit(known.form, key=known.key))
        assert (reply.status, reply.json["application_id"]) == (202, known.application)
        assert reply.headers["idempotent-replayed"] == "true"

    @rule(known=applications)
    def apply_under_another_key(self, known: Known) -> None:
        reply = self.run(self.desk.world.submit(known.form))
        assert reply.problem == (409, "application-exists")

    @rule(known=applications)
    def use_the_key_for_somebody_else(self, known: Known) -> None:
        reply = self.run(self.desk.world.submit(new_person(), key=known.key))
        assert reply.problem == (422, "idempotency-key-reused")

    @rule(
        known=applications,
        row=st.sampled_from([GOOD_ROW, BAD_ROW]),
        settled=st.lists(SETTLED, min_size=1, max_size=6),
    )
    def checks_settle(self, known: Known, row: dict[str, str], settled: list[tuple[str, str]]) -> None:
        """In one batch, in any order, some of them twice: an answer is kept, anything else gives way to the newer."""
        events = [
            completed(known.application, check, row, {} if status == "done" else status)
            for check, status in settled
        ]
        self.run(self.desk.settle(*events))
        for check, status in settled:
            if known.signals.get(check) != "done":
                known.signals[check] = status

    @rule(known=applications)
    def decide(self, known: Known) -> None:
        """All are there, or the deadline has passed: the run decides, and once more if it was killed on the way."""
        status = self.run(self.desk.decide(known.application))
        assert status in OUTCOMES
        assert self.run(self.desk.decide(known.application)) == status
        if known.decision is None:
            known.decided_on = dict(known.signals)
            known.decision = self.run(self.desk.decision(known.application))

    @rule(known=applications)
    def decide_in_a_transaction_that_is_lost(self, known: Known) -> None:
        def dies() -> None:
            raise ConnectionResetError

        with pytest.raises(ConnectionResetError):
            self.run(self.desk.decide(known.application, then=dies))

    @invariant()
    def each_submission_is_one_application(self) -> None:
        ids = [known.application for known in self.known]
        [row] = self.sql("select count(*) as n from credit.application where id = any(%(ids)s)", ids=ids)
        assert row["n"] == len(set(ids)) == len(ids)

    @invariant()
    def the_signals_are_the_newest_answers(self) -> None:
        for known in self.known:
            query = "select check_name, status from credit.risk_signal where application_id = %(id)s"
            found = {row["check_name"]: row["status"] for row in self.sql(query, id=known.application)}
            assert found == known.signals

    @invariant()
    def a_decision_is_made_once_and_nothing_late_changes_it(self) -> None:
        for known in self.known:
            query = "select status, decision_version from credit.application where id = %(id)s"
            [row] = self.sql(query, id=known.application)
            if known.decision is None:
                assert row == {"status": "processing", "decision_version": 0}
            else:
                assert row == {"status": known.decision["outcome"], "decision_version": 1}
                assert self.run(self.desk.decision(known.application)) == known.decision

    @invariant()
    def without_a_mandatory_answer_a_person_decides(self) -> None:
        for known in self.known:
            if known.decision is not None and known.decided_on is not None:
                is_whole = all(known.decided_on.get(check) == "done" for check in MANDATORY)
                assert is_whole or known.decision["outcome"] == "manual_review"

    @invariant()
    def readiness_and_the_end_are_announced_at_most_once(self) -> None:
        for known in self.known:
            announced = [event["type"] for event in self.run(self.desk.announced(known.application))]
            assert announced.count("credit.decision.ready") <= 1
            assert announced.count("credit.decision.finalized") == (known.decision is not None)

    def teardown(self) -> None:
        """What was recorded decides the same again."""
        for known in getattr(self, "known", []):
            replayed = self.run(self.desk.credit.replay(application_id=known.application))
            assert (replayed.replayed, list(replayed.different)) == (int(known.decision is not None), [])


@pytest.mark.requirement("C16")
@pytest.mark.requirement("C18")
@pytest.mark.requirement("C20")
@pytest.mark.requirement("C21")
def test_whatever_happens_to_applications_their_invariants_hold(servers_of_module: Settings) -> None:  # noqa: F811
    quick = settings(
        max_examples=12,
        stateful_step_count=20,
        deadline=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],  # to shrink a failure against a database would take hours
        suppress_health_check=list(HealthCheck),
    )
    with opened_beside(open_desk(servers_of_module)) as (loop, desk):
        machine = type("Life", (ApplicationLife,), {"loop": loop, "desk": desk})
        run_state_machine_as_test(machine, settings=quick)
