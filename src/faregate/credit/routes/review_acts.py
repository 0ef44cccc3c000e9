"""What a reviewer can do by a POST, one entry each: where, with which scope and body, what it answers, how it fails.

Each act is part of the request's transaction. How acts become routes stands in `reviews`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import BaseModel

from faregate.credit.api import ReviewApi
from faregate.credit.contracts import Hold, Status, Verdict
from faregate.credit.domain import repull, review
from faregate.credit.domain.application import DecisionSuperseded
from faregate.credit.domain.reasons import AdverseReasonMissing, ReasonCodeUnknown
from faregate.credit.routes import review_forms as forms
from faregate.infra.database import Connection
from faregate.kernel.errors import FaregateError

REVIEWS = "/internal/reviews"
ONE_REVIEW = REVIEWS + "/{review_id}"
ONE_REPULL = ONE_REVIEW + "/repulls/{repull_id}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """Who acts on what, and in which transaction."""

    reviews: ReviewApi
    conn: Connection
    reviewer: str
    names: Mapping[str, str]

    @property
    def review_id(self) -> str:
        """The review of the path."""
        return self.names["review_id"]

    def hold(self, form: forms.VerdictForm | forms.NoteForm) -> Hold:
        """Return under which claim, and on which revision, the reviewer acts."""
        return Hold(reviewer=self.reviewer, fence=form.fence, revision=form.revision)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """One thing that can be done. `work` returns the answer's body; `name` is how the command line calls it."""

    name: str
    path: str
    summary: str
    form: type[BaseModel]
    answer: type[BaseModel]
    problems: Sequence[type[FaregateError]]
    work: Callable[[Turn, Any], Awaitable[dict[str, Any]]]
    scope: str = "review:work"
    examples: Mapping[str, Any] | None = None


async def _claim_next(turn: Turn, form: forms.NextForm) -> dict[str, Any]:
    desk = turn.reviews.desk
    claimed = await desk.claim_next(turn.conn, reviewer=turn.reviewer, priority=form.priority)
    return forms.ReviewAnswer.of(claimed)


async def _claim(turn: Turn, _: forms.ClaimForm) -> dict[str, Any]:
    claimed = await turn.reviews.desk.claim(turn.conn, turn.review_id, reviewer=turn.reviewer)
    return forms.ReviewAnswer.of(claimed)


async def _extend(turn: Turn, form: forms.HoldForm) -> dict[str, Any]:
    desk = turn.reviews.desk
    extended = await desk.extend(turn.conn, turn.review_id, reviewer=turn.reviewer, fence=form.fence)
    return forms.ReviewAnswer.of(extended)


async def _release(turn: Turn, form: forms.HoldForm) -> dict[str, Any]:
    desk = turn.reviews.desk
    released = await desk.release(turn.conn, turn.review_id, reviewer=turn.reviewer, fence=form.fence)
    return forms.ReviewAnswer.of(released)


async def _prioritise(turn: Turn, form: forms.PriorityForm) -> dict[str, Any]:
    changed = await turn.reviews.desk.prioritise(
        turn.conn,
        turn.review_id,
        reviewer=turn.reviewer,
        priority=form.priority,
        reason=form.reason,
    )
    return forms.ReviewAnswer.of(changed)


async def _decide(turn: Turn, form: forms.VerdictForm) -> dict[str, Any]:
    verdict = Verdict(outcome=Status(form.outcome), reason_codes=tuple(form.reason_codes))
    desk, hold = turn.reviews.desk, turn.hold(form)
    decided = await desk.decide(turn.conn, turn.review_id, hold=hold, verdict=verdict, note=form.note)
    return forms.DecidedAnswer.of(decided)


async def _confirm(turn: Turn, form: forms.NoteForm) -> dict[str, Any]:
    desk, hold = turn.reviews.desk, turn.hold(form)
    return forms.DecidedAnswer.of(await desk.confirm(turn.conn, turn.review_id, hold=hold, note=form.note))


async def _reject(turn: Turn, form: forms.NoteForm) -> dict[str, Any]:
    desk, hold = turn.reviews.desk, turn.hold(form)
    return forms.DecidedAnswer.of(await desk.reject(turn.conn, turn.review_id, hold=hold, note=form.note))


async def _reevaluate(turn: Turn, form: forms.NoteForm) -> dict[str, Any]:
    desk, hold = turn.reviews.desk, turn.hold(form)
    made = await desk.reevaluate(turn.conn, turn.review_id, hold=hold, reason=form.note)
    return forms.ReevaluatedAnswer.of(made)


async def _request_repull(turn: Turn, form: forms.RepullForm) -> dict[str, Any]:
    asked = await turn.reviews.repulls.request(
        turn.conn, turn.review_id, by=turn.reviewer, checks=form.checks, reason=form.reason
    )
    return forms.RepullAnswer.of(asked)


async def _authorise_repull(turn: Turn, form: forms.RepullNoteForm) -> dict[str, Any]:
    authorised = await turn.reviews.repulls.authorise(
        turn.conn, turn.review_id, turn.names["repull_id"], by=turn.reviewer, note=form.note
    )
    return forms.RepullAnswer.of(authorised)


async def _reject_repull(turn: Turn, form: forms.RepullNoteForm) -> dict[str, Any]:
    rejected = await turn.reviews.repulls.reject(
        turn.conn, turn.review_id, turn.names["repull_id"], by=turn.reviewer, note=form.note
    )
    return forms.RepullAnswer.of(rejected)


_CLAIMING = (review.ReviewNotFound, review.SamePerson, review.TooManyClaims)
_HELD = (review.ReviewNotFound, review.ReviewOver, review.ClaimLost)
_DECIDING = (*_HELD, review.ReviewChanged, review.NoteTooShort, DecisionSuperseded)
_ANSWERING = (*_DECIDING, review.ProposalMissing, review.SamePerson)
_CODES = (ReasonCodeUnknown, AdverseReasonMissing)
_WITHOUT_CLAIM = (review.ReviewNotFound, review.ReviewOver, review.NoteTooShort)
_ANSWERING_REPULL = (
    *_WITHOUT_CLAIM,
    repull.RepullNotFound,
    repull.RepullAnswered,
    review.SamePerson,
)

ACTS: Final = (
    Act(
        name="next",
        path=REVIEWS + "/next",
        summary="Claim the review that is due first",
        form=forms.NextForm,
        answer=forms.ReviewAnswer,
        problems=(review.NothingToClaim, review.SamePerson, review.TooManyClaims),
        work=_claim_next,
    ),
    Act(
        name="claim",
        path=ONE_REVIEW + "/claim",
        summary="Claim a review until the lease ends",
        form=forms.ClaimForm,
        answer=forms.ReviewAnswer,
        problems=(*_CLAIMING, review.ReviewOver, review.ReviewTaken),
        work=_claim,
    ),
    Act(
        name="extend",
        path=ONE_REVIEW + "/extension",
        summary="Keep a claim for one more lease",
        form=forms.HoldForm,
        answer=forms.ReviewAnswer,
        problems=_HELD,
        work=_extend,
    ),
    Act(
        name="release",
        path=ONE_REVIEW + "/release",
        summary="Give a review back to the queue",
        form=forms.HoldForm,
        answer=forms.ReviewAnswer,
        problems=_HELD,
        work=_release,
    ),
    Act(
        name="prioritise",
        path=ONE_REVIEW + "/priority",
        summary="Set the priority of a review; rules then leave it alone",
        form=forms.PriorityForm,
        answer=forms.ReviewAnswer,
        problems=_WITHOUT_CLAIM,
        work=_prioritise,
    ),
    Act(
        name="decide",
        path=ONE_REVIEW + "/decision",
        summary="Decide, or propose where a second person has to confirm",
        form=forms.VerdictForm,
        answer=forms.DecidedAnswer,
        problems=(*_DECIDING, *_CODES, review.ProposalPending),
        work=_decide,
        examples={"a denial": forms.VERDICT_EXAMPLE},
    ),
    Act(
        name="confirm",
        path=ONE_REVIEW + "/confirmation",
        summary="Confirm what somebody else proposed, which decides",
        form=forms.NoteForm,
        answer=forms.DecidedAnswer,
        problems=(*_ANSWERING, *_CODES),
        work=_confirm,
    ),
    Act(
        name="reject",
        path=ONE_REVIEW + "/rejection",
        summary="Reject what somebody else proposed; the review goes back to the queue",
        form=forms.NoteForm,
        answer=forms.DecidedAnswer,
        problems=_ANSWERING,
        work=_reject,
    ),
    Act(
        name="reevaluate",
        path=ONE_REVIEW + "/reevaluation",
        summary="Let the active rules decide again on what is known now; no provider is asked",
        form=forms.NoteForm,
        answer=forms.ReevaluatedAnswer,
        problems=(*_DECIDING, review.ProposalPending),
        work=_reevaluate,
    ),
    Act(
        name="ask-repull",
        path=ONE_REVIEW + "/repulls",
        summary="Ask for a new pull of checks; another person has to authorise it",
        form=forms.RepullForm,
        answer=forms.RepullAnswer,
        problems=(*_WITHOUT_CLAIM, repull.CheckUnknown, repull.PullStillOpen, repull.RepullPending),
        work=_request_repull,
        scope="review:repull",
    ),
    Act(
        name="authorise-repull",
        path=ONE_REPULL + "/authorisation",
        summary="Authorise a new pull: the providers are asked once more",
        form=forms.RepullNoteForm,
        answer=forms.RepullAnswer,
        problems=(*_ANSWERING_REPULL, repull.PullStillOpen),
        work=_authorise_repull,
        scope="review:repull",
    ),
    Act(
        name="reject-repull",
        path=ONE_REPULL + "/rejection",
        summary="Reject a new pull that somebody else asked for",
        form=forms.RepullNoteForm,
        answer=forms.RepullAnswer,
        problems=_ANSWERING_REPULL,
        work=_reject_repull,
        scope="review:repull",
    ),
)
