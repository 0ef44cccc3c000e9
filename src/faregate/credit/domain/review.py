"""Manual review as a pure state machine: who may do what to a review at an instant, and what it is then.

Each function takes a review and returns it as it becomes, or raises the named reason why not. Loading, saving and
announcing do not belong here.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any, Final

from faregate.credit.contracts import (
    Cause,
    Priority,
    Proposal,
    Review,
    ReviewState,
    Status,
    Verdict,
)
from faregate.credit.domain.decision import IN_DOUBT
from faregate.credit.domain.reasons import wording_of
from faregate.kernel.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError

ALLOWANCE: Final[Mapping[Priority, timedelta]] = MappingProxyType(
    {
        Priority.URGENT: timedelta(hours=1),
        Priority.HIGH: timedelta(hours=4),
        Priority.NORMAL: timedelta(hours=24),
        Priority.LOW: timedelta(hours=72),
    }
)
"""How long a review of each priority may wait. The queue is in order of what is due first, so that waiting raises."""

AMOUNT_HIGH: Final = 10_000
"""From this amount on (whole units) a review is one priority more urgent than its cause makes it."""

_OF_CAUSE: Final[Mapping[Cause, Priority]] = MappingProxyType(
    {
        Cause.DECISION_IN_DOUBT: Priority.URGENT,
        Cause.RULES: Priority.HIGH,
        Cause.CONCERN: Priority.HIGH,
        Cause.CHECK_MISSING: Priority.NORMAL,
        Cause.SCORE_BAND: Priority.LOW,
    }
)
_RULES_FAILED: Final = frozenset({"RULES_NOT_EVALUATED", "NO_ADVERSE_REASON"})
_GAP_ENDINGS: Final = ("_CHECK_TIMEOUT", "_CHECK_FAILED", "_FACTS_INCOMPLETE")


class ReviewNotFound(NotFoundError):
    """There is no such review."""


class NothingToClaim(NotFoundError):
    """No review waits that you could claim."""


class ReviewOver(ConflictError):
    """The review is closed: a person or rules decided the application, or another review of it began since."""


class ReviewTaken(ConflictError):
    """Somebody else works on the review at the moment.

    Take another one, or come back after `claimed_until`.
    """


class ClaimLost(ConflictError):
    """What you do needs a claim that is yours and has not ended: it ended, or somebody else took the review over.

    Claim the review again and read what has changed before you decide.
    """


class ReviewChanged(ConflictError):
    """New facts or a new decision arrived since you read the review.

    Read it again, and send the `revision` that you decide on.
    """


class ProposalPending(ConflictError):
    """Somebody proposed a decision already: confirm it or reject it."""


class ProposalMissing(ConflictError):
    """Nobody proposed a decision that could be confirmed or rejected."""


class SamePerson(ForbiddenError):
    """The second pair of eyes must be another person's than the first.

    Let a colleague with a key of their own do it.
    """


class TooManyClaims(ConflictError):
    """You hold as many claims as one person may.

    Decide or release one of them first.
    """


class NoteTooShort(InvalidError):
    """The note must say in words why, in as many characters as `chars_min` says at least."""


def cause_of(reason_codes: Collection[str]) -> Cause:
    """Return why an application with these reason codes is reviewed: the most urgent of its causes."""
    if not set(IN_DOUBT.values()).isdisjoint(reason_codes):
        return Cause.DECISION_IN_DOUBT
    if _RULES_FAILED.intersection(reason_codes):
        return Cause.RULES
    gaps = {code for code in reason_codes if code.endswith(_GAP_ENDINGS)}
    bands = {code for code in reason_codes if code.startswith("SCORE_")}
    if set(reason_codes) - gaps - bands:
        return Cause.CONCERN
    return Cause.CHECK_MISSING if gaps else Cause.SCORE_BAND


def priority_of(*, cause: Cause, amount: int | None) -> Priority:
    """Return the priority by rule: that of the cause, one more urgent from AMOUNT_HIGH on."""
    ranks = list(Priority)
    rank = ranks.index(_OF_CAUSE[cause])
    return ranks[max(rank - 1, 0)] if amount is not None and amount >= AMOUNT_HIGH else ranks[rank]


def second_person_because(outcome: Status, *, amount: int, amount_max: int, by_rules: Status) -> str | None:
    """Return why a verdict must be confirmed by another person, None if one person may decide.

    `amount_max` is the largest amount that one person may decide on.
    An approval against what the rules say now (a knock-out such as a watch list, or the score) always takes two.
    """
    if outcome is Status.APPROVED and by_rules is Status.DENIED:
        return "rules_deny"
    return "amount" if amount > amount_max else None


def opened(
    *,
    id: str,  # noqa: A002 - the name of the field that it becomes
    application_id: str,
    decision_version: int,
    reason_codes: Sequence[str],
    amount: int | None,
    now: datetime,
) -> Review:
    """Return a new review of an application that a decision sent to manual review."""
    cause = cause_of(reason_codes)
    priority = priority_of(cause=cause, amount=amount)
    return Review(
        id=id,
        application_id=application_id,
        decision_version=decision_version,
        cause=cause,
        priority=priority,
        opened_at=now,
        due_at=now + ALLOWANCE[priority],
    )


def decided_anew(
    review: Review, *, decision_version: int, reason_codes: Sequence[str], amount: int | None
) -> Review:
    """Return a review after a newer decision that leaves the application in it: what was proposed is void."""
    cause = cause_of(reason_codes)
    priority = review.priority if review.is_priority_set else priority_of(cause=cause, amount=amount)
    return replace(
        review,
        decision_version=decision_version,
        revision=review.revision + 1,
        has_new_facts=False,
        cause=cause,
        priority=priority,
        due_at=review.opened_at + ALLOWANCE[priority],
        state=ReviewState.OPEN,
        proposal=None,
    )


def with_new_facts(review: Review) -> Review:
    """Return a review after a signal changed: whoever read it before has to read it again.

    What was proposed on the old facts is proposed no more: nobody may confirm what its author did not know.
    """
    state = ReviewState.OPEN if review.state is ReviewState.PROPOSED else review.state
    return replace(review, state=state, has_new_facts=True, revision=review.revision + 1, proposal=None)


def prioritised(review: Review, *, priority: Priority) -> Review:
    """Return a review under a priority that a person set. Raises ReviewOver."""
    require_open(review)
    due_at = review.opened_at + ALLOWANCE[priority]
    return replace(review, priority=priority, is_priority_set=True, due_at=due_at)


def claimed(review: Review, *, reviewer: str, now: datetime, until: datetime) -> Review:
    """Return the review in the hands of a reviewer; a live claim of the same person stays as it is.

    Raises ReviewOver, ReviewTaken or SamePerson (who proposed a decision does not confirm it).
    """
    require_open(review)
    if _is_claimed(review, now=now):
        if review.claimed_by == reviewer:
            return review
        raise ReviewTaken(f"review {review.id} is somebody else's", claimed_until=review.claimed_until)
    if review.proposal is not None and review.proposal.by == reviewer:
        raise SamePerson("who proposed a decision does not confirm it")
    return replace(review, claimed_by=reviewer, claimed_until=until, fence=review.fence + 1)


def extended(review: Review, *, reviewer: str, fence: int, now: datetime, until: datetime) -> Review:
    """Return the review with its claim good until then. Raises ReviewOver or ClaimLost."""
    require_claim(review, reviewer=reviewer, fence=fence, now=now)
    return replace(review, claimed_until=until)


def released(review: Review, *, reviewer: str, fence: int, now: datetime) -> Review:
    """Return the review to the queue. Raises ReviewOver or ClaimLost."""
    require_claim(review, reviewer=reviewer, fence=fence, now=now)
    return replace(review, claimed_by=None, claimed_until=None)


def require_claim(review: Review, *, reviewer: str, fence: int, now: datetime) -> None:
    """Raise ReviewOver or ClaimLost unless the review is in this reviewer's hands, under this very claim."""
    require_open(review)
    if not _is_claimed(review, now=now) or review.claimed_by != reviewer or review.fence != fence:
        raise ClaimLost(f"review {review.id} is not yours now")


def require_to_decide(review: Review, *, reviewer: str, fence: int, revision: int, now: datetime) -> None:
    """Raise unless the reviewer may decide: ReviewOver, ClaimLost, ReviewChanged or ProposalPending."""
    require_claim(review, reviewer=reviewer, fence=fence, now=now)
    _refuse_other_revision(review, revision=revision)
    if review.proposal is not None:
        raise ProposalPending(f"a decision on review {review.id} was proposed")


def require_to_answer(review: Review, *, reviewer: str, fence: int, revision: int, now: datetime) -> Proposal:
    """Return the proposal that the reviewer may confirm or reject.

    Raises ReviewOver, ClaimLost, ReviewChanged, ProposalMissing or SamePerson.
    """
    require_claim(review, reviewer=reviewer, fence=fence, now=now)
    _refuse_other_revision(review, revision=revision)
    if review.proposal is None:
        raise ProposalMissing(f"nothing was proposed on review {review.id}")
    if review.proposal.by == reviewer:
        raise SamePerson("who proposed a decision does not confirm it")
    return review.proposal


def proposed(review: Review, *, reviewer: str, verdict: Verdict, note: str, now: datetime) -> Review:
    """Return the review with a proposal, for somebody else to claim. The claim was checked before."""
    proposal = Proposal(by=reviewer, at=now, verdict=verdict, note=note)
    return replace(review, state=ReviewState.PROPOSED, proposal=proposal, claimed_by=None, claimed_until=None)


def rejected(review: Review) -> Review:
    """Return the review to the queue without its proposal. The claim was checked before."""
    return replace(review, state=ReviewState.OPEN, proposal=None, claimed_by=None, claimed_until=None)


def closed(review: Review, *, decision_version: int, decided_by: str | None, now: datetime) -> Review:
    """Return the review after the decision that ended it."""
    return replace(
        review,
        state=ReviewState.CLOSED,
        decision_version=decision_version,
        claimed_by=None,
        claimed_until=None,
        closed_at=now,
        decided_by=decided_by,
    )


def require_open(review: Review) -> None:
    """Raise ReviewOver for a closed review."""
    if review.state is ReviewState.CLOSED:
        raise ReviewOver(
            f"review {review.id} is closed", decision_version=review.decision_version, by=review.decided_by
        )


def require_note(note: str, *, chars_min: int) -> None:
    """Raise NoteTooShort for a note that says too little."""
    if len(note.strip()) < chars_min:
        raise NoteTooShort(f"a note has {chars_min} characters at least", chars_min=chars_min)


def codes_for_reviewers(code_set: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the reason codes that a verdict may give: `wording` is None where no applicant can be told it."""
    return [
        {
            "code": code,
            "meaning": entry.get("meaning", ""),
            "wording": wording_of(code, code_set=code_set),
        }
        for code, entry in sorted(code_set.items())
    ]


def _is_claimed(review: Review, *, now: datetime) -> bool:
    return review.claimed_until is not None and now < review.claimed_until


def _refuse_other_revision(review: Review, *, revision: int) -> None:
    if review.revision != revision:
        raise ReviewChanged(
            f"review {review.id} is at revision {review.revision}, you read {revision}",
            revision=review.revision,
        )
