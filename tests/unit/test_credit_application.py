"""The state machine of an application, its steps and its readiness."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from faregate.credit.contracts import Status
from faregate.credit.domain import application as domain
from faregate.credit.domain.checks import CHECK_OF_PROVIDER, CHECKS, PROVIDERS_OF_CHECK

OUTCOMES = [Status.APPROVED, Status.DENIED, Status.MANUAL_REVIEW]
ALLOWED = {
    (Status.PROCESSING, Status.APPROVED),
    (Status.PROCESSING, Status.DENIED),
    (Status.PROCESSING, Status.MANUAL_REVIEW),
    (Status.MANUAL_REVIEW, Status.APPROVED),
    (Status.MANUAL_REVIEW, Status.DENIED),
}


@pytest.mark.requirement("C20")
@pytest.mark.parametrize("current", list(Status))
@pytest.mark.parametrize("outcome", list(Status))
def test_only_the_listed_transitions_are_allowed(current: Status, outcome: Status) -> None:
    if (current, outcome) in ALLOWED:
        assert domain.transition(current=current, outcome=outcome) is outcome
    else:
        with pytest.raises(domain.IllegalTransition):
            domain.transition(current=current, outcome=outcome)


@pytest.mark.requirement("C20")
@pytest.mark.parametrize("current", list(Status))
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_rules_that_decide_again_never_take_back_an_approval(current: Status, outcome: Status) -> None:
    if current is Status.PROCESSING:
        with pytest.raises(domain.IllegalTransition):
            domain.correction(current=current, outcome=outcome)
        return
    doubts = current is Status.APPROVED and outcome is Status.DENIED
    assert domain.correction(current=current, outcome=outcome) is (
        Status.MANUAL_REVIEW if doubts else outcome
    )


@pytest.mark.requirement("C33")
@pytest.mark.parametrize("current", [Status.APPROVED, Status.DENIED])
@pytest.mark.parametrize("outcome", OUTCOMES)
def test_rules_that_say_otherwise_than_a_person_send_it_back_to_a_person(
    current: Status, outcome: Status
) -> None:
    after = domain.correction(current=current, outcome=outcome, is_persons=True)
    assert after is (current if outcome is current else Status.MANUAL_REVIEW)


class ApplicationLife(RuleBasedStateMachine):
    """Any sequence of decisions: a final state is never left and nothing returns to processing."""

    def __init__(self) -> None:
        super().__init__()
        self.status = Status.PROCESSING
        self.history = [self.status]

    @rule(outcome=st.sampled_from(list(Status)))
    def decide(self, outcome: Status) -> None:
        before = self.status
        try:
            self.status = domain.transition(current=before, outcome=outcome)
        except domain.IllegalTransition:
            assert (before, outcome) not in ALLOWED
            return
        self.history.append(self.status)

    @invariant()
    def it_ends_at_most_once(self) -> None:
        final = [s for s in self.history if s in (Status.APPROVED, Status.DENIED)]
        assert len(final) <= 1
        assert not final or self.history[-1] is final[0]

    @invariant()
    def it_is_reviewed_at_most_once_and_starts_processing(self) -> None:
        assert self.history[0] is Status.PROCESSING
        assert self.history.count(Status.PROCESSING) == 1
        assert self.history.count(Status.MANUAL_REVIEW) <= 1


TestApplicationLife = pytest.mark.requirement("C20")(ApplicationLife.TestCase)


@given(asked=st.sets(st.sampled_from(CHECKS)), settled=st.sets(st.sampled_from(CHECKS)))
def test_what_was_asked_and_has_not_settled_is_missing(asked: set[str], settled: set[str]) -> None:
    assert set(domain.missing_checks(sorted(asked), settled=settled)) == asked - settled


@pytest.mark.requirement("C7")
@pytest.mark.parametrize(
    ("check", "status", "step"),
    [
        ("fraud", "unknown", "fraud_check_timeout"),
        ("kyc", "not_done", "kyc_check_failed"),
        ("bureau", "done", "bureau_check_completed"),
    ],
)
def test_a_settled_check_names_its_step(check: str, status: str, step: str) -> None:
    assert domain.step_of_signal(check=check, status=status) == step


def test_a_review_names_the_first_check_that_caused_it() -> None:
    statuses = {"bureau": "done", "kyc": "done", "fraud": "unknown", "income": "not_done"}
    assert step_of(Status.MANUAL_REVIEW, statuses) == "fraud_check_timeout"
    assert step_of(Status.DENIED, statuses) == "decision_finalized"


def step_of(outcome: Status, statuses: dict[str, str], mandatory: tuple[str, ...] = CHECKS) -> str:
    return domain.step_of_decision(outcome=outcome, statuses=statuses, mandatory=mandatory)


def test_an_optional_check_that_failed_is_not_what_caused_a_review() -> None:
    statuses = {"bureau": "done", "kyc": "done", "fraud": "done", "income": "unknown"}
    mandatory = ("bureau", "kyc", "fraud")
    assert step_of(Status.MANUAL_REVIEW, statuses, mandatory) == "decision_finalized"


def test_a_review_with_all_checks_done_is_a_finalized_decision() -> None:
    assert step_of(Status.MANUAL_REVIEW, dict.fromkeys(CHECKS, "done")) == "decision_finalized"


@pytest.mark.parametrize(
    ("on", "years"), [(date(2026, 4, 7), 31), (date(2026, 4, 8), 32), (date(2026, 12, 31), 32)]
)
def test_age_counts_completed_years(on: date, years: int) -> None:
    assert domain.age_years(dob=date(1994, 4, 8), on=on) == years


def test_every_provider_answers_exactly_one_check() -> None:
    assert sorted(CHECK_OF_PROVIDER) == sorted(p for ps in PROVIDERS_OF_CHECK.values() for p in ps)
