"""The rules of manual review as tables: causes and priorities, who has to be a second person, whose claim counts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from faregate.credit.contracts import Cause, Priority, Review, ReviewState, Status, Verdict
from faregate.credit.domain import review as machine
from faregate.credit.handlers.review import ReviewPolicy

pytestmark = pytest.mark.requirement("C33")

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
APPROVAL = Verdict(outcome=Status.APPROVED, reason_codes=("KYC_OK",))


def opened(**changes: Any) -> Review:
    given: dict[str, Any] = {"reason_codes": ["SCORE_BORDERLINE"], "amount": 500, **changes}
    return machine.opened(id="rev_1", application_id="app_1", decision_version=1, now=NOON, **given)


def held(review: Review | None = None, *, by: str = "ada") -> Review:
    return machine.claimed(review or opened(), reviewer=by, now=NOON, until=NOON + HOUR)


@pytest.mark.parametrize(
    ("codes", "amount", "cause", "priority"),
    [
        (["SCORE_BORDERLINE"], None, "score_band", "low"),
        (["SCORE_BORDERLINE"], 9_999, "score_band", "low"),
        (["SCORE_BORDERLINE"], 10_000, "score_band", "normal"),
        (["KYC_CHECK_TIMEOUT"], 500, "check_missing", "normal"),
        (["BUREAU_CHECK_FAILED", "SCORE_BORDERLINE"], 10_000, "check_missing", "high"),
        (["INCOME_FACTS_INCOMPLETE"], 500, "check_missing", "normal"),
        (["FRAUD_MEDIUM"], 500, "concern", "high"),
        (["KYC_CHECK_TIMEOUT", "INCOME_OVERSTATED"], 500, "concern", "high"),
        (["RULES_NOT_EVALUATED"], 500, "rules", "high"),
        (["NO_ADVERSE_REASON"], 10_000, "rules", "urgent"),
        (["APPROVAL_IN_DOUBT", "SCORE_HIGH_RISK"], 500, "decision_in_doubt", "urgent"),
        (["DENIAL_IN_DOUBT", "KYC_OK"], 500, "decision_in_doubt", "urgent"),
        (["APPROVAL_IN_DOUBT", "FRAUD_HIGH"], 10_000, "decision_in_doubt", "urgent"),
    ],
)
def test_the_most_urgent_cause_and_the_amount_make_the_priority(
    codes: list[str], amount: int | None, cause: str, priority: str
) -> None:
    review = opened(reason_codes=codes, amount=amount)
    assert (review.cause, review.priority) == (Cause(cause), Priority(priority))
    assert review.due_at == NOON + machine.ALLOWANCE[review.priority]


@pytest.mark.parametrize(
    ("outcome", "amount", "by_rules", "because"),
    [
        ("approved", 1_000, "manual_review", None),
        ("approved", 1_001, "manual_review", "amount"),
        ("denied", 1_001, "manual_review", "amount"),
        ("denied", 1_000, "denied", None),
        ("approved", 1, "denied", "rules_deny"),
        ("approved", 1_001, "denied", "rules_deny"),
        ("approved", 1_000, "approved", None),
    ],
)
def test_a_second_person_is_needed_above_the_limit_and_against_the_rules(
    outcome: str, amount: int, by_rules: str, because: str | None
) -> None:
    found = machine.second_person_because(
        Status(outcome), amount=amount, amount_max=1_000, by_rules=Status(by_rules)
    )
    assert found == because


@pytest.mark.parametrize(("if_absent", "because"), [(0, None), (1_000, None), (1_001, "amount")])
def test_an_application_without_an_amount_counts_as_the_house_says(
    if_absent: int, because: str | None
) -> None:
    policy = ReviewPolicy(
        lease=HOUR, claims_max=1, amount_max=1_000, amount_if_absent=if_absent, note_chars_min=1
    )
    found = policy.second_person_because(Status.APPROVED, amount=None, by_rules=Status.MANUAL_REVIEW)
    assert found == because


@pytest.mark.parametrize(
    ("seconds", "who", "fence", "is_good"),
    [
        (0, "ada", 1, True),
        (3599.999, "ada", 1, True),
        (3600, "ada", 1, False),
        (0, "bob", 1, False),
        (0, "ada", 0, False),
        (0, "ada", 2, False),
    ],
)
def test_a_claim_is_good_for_its_holder_under_its_fence_until_it_ends(
    seconds: float, who: str, fence: int, is_good: bool
) -> None:
    now = NOON + timedelta(seconds=seconds)
    try:
        machine.require_claim(held(), reviewer=who, fence=fence, now=now)
    except machine.ClaimLost:
        assert not is_good
    else:
        assert is_good


def test_who_proposed_neither_claims_nor_confirms() -> None:
    proposed = machine.proposed(held(), reviewer="ada", verdict=APPROVAL, note="n", now=NOON)
    assert (proposed.state, proposed.claimed_by) == (ReviewState.PROPOSED, None)
    with pytest.raises(machine.SamePerson):
        held(proposed, by="ada")
    by_bob = held(proposed, by="bob")
    given: dict[str, Any] = {"fence": by_bob.fence, "revision": 1, "now": NOON}
    assert machine.require_to_answer(by_bob, reviewer="bob", **given).by == "ada"


def test_new_facts_void_the_proposal_that_did_not_know_them_and_whoever_reads_must_read_again() -> None:
    proposed = machine.proposed(held(), reviewer="ada", verdict=APPROVAL, note="n", now=NOON)
    after = machine.with_new_facts(proposed)
    assert (after.state, after.proposal, after.has_new_facts) == (ReviewState.OPEN, None, True)
    assert after.revision == proposed.revision + 1


def test_a_newer_decision_voids_the_proposal_but_not_the_claim_or_a_priority_that_was_set() -> None:
    review = machine.prioritised(opened(), priority=Priority.URGENT)
    proposed = machine.proposed(held(review), reviewer="ada", verdict=APPROVAL, note="n", now=NOON)
    renewed = machine.decided_anew(
        held(proposed, by="bob"), decision_version=2, reason_codes=["FRAUD_MEDIUM"], amount=1
    )
    assert (renewed.state, renewed.proposal, renewed.revision) == (ReviewState.OPEN, None, 2)
    assert (renewed.claimed_by, renewed.cause, renewed.priority) == ("bob", Cause.CONCERN, Priority.URGENT)


@given(st.text(max_size=40), st.integers(1, 30))
def test_a_note_counts_without_the_blanks_around_it(note: str, chars_min: int) -> None:
    try:
        machine.require_note(note, chars_min=chars_min)
    except machine.NoteTooShort:
        assert len(note.strip()) < chars_min
    else:
        assert len(note.strip()) >= chars_min
