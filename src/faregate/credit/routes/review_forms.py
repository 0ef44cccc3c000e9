"""What reviewers send and get: the bodies of requests and answers of `/internal/reviews`."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from faregate.credit.contracts import (
    Cause,
    Decided,
    Priority,
    QueuedReview,
    QueueLine,
    Reevaluated,
    Repull,
    Review,
    ReviewFile,
    ReviewState,
    Status,
)

Note = Annotated[
    str,
    StringConstraints(strip_whitespace=True, max_length=2000, pattern=r"^[^\x00]*$"),
    Field(description="Why, in words. Name no person: the note is kept for as long as the decision."),
]
_Code = Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,63}$")]
_Fence = Annotated[int, Field(ge=0, lt=2**53, description="The number of your claim.")]
_Revision = Annotated[int, Field(ge=0, lt=2**31, description="The revision of the review that you read.")]


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class ClaimForm(_Form):
    """Nothing is needed to claim a review: `{}`."""


class NextForm(_Form):
    """Which review to take: of one priority only, or whatever is due first."""

    priority: Priority | None = Field(default=None, strict=False)


class HoldForm(_Form):
    """Under which claim you act."""

    fence: _Fence


class PriorityForm(_Form):
    """The priority that a review gets, and why."""

    priority: Priority = Field(strict=False)
    reason: Note


class VerdictForm(HoldForm):
    """Your decision. A denial needs a code that the applicant can be told; the weightiest comes first."""

    revision: _Revision
    outcome: Literal["approved", "denied"]
    reason_codes: list[_Code] = Field(min_length=1, max_length=20)
    note: Note


class NoteForm(HoldForm):
    """Why you confirm or reject what was proposed, or let the rules decide again."""

    revision: _Revision
    note: Note


class RepullForm(_Form):
    """Of which checks the providers should be asked once more, and why."""

    checks: list[Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,64}$")]] = Field(
        min_length=1, max_length=20
    )
    reason: Note


class RepullNoteForm(_Form):
    """Why you authorise or reject a new pull."""

    note: Note


class QueueForm(BaseModel):
    """Which reviews to list, as a query."""

    model_config = ConfigDict(extra="forbid")

    order: Literal["due", "opened", "amount"] = Field(
        default="due", description="What comes first: due first, oldest, or the largest amount."
    )
    state: Literal["open", "proposed"] | None = Field(default=None, description="Only in this state.")
    priority: Priority | None = Field(default=None, description="Only of this priority.")
    cause: Cause | None = Field(default=None, description="Only for this cause.")
    claimed: bool | None = Field(default=None, description="Only those that somebody holds, or nobody.")
    claimed_by: str | None = Field(
        default=None, max_length=64, pattern=r"^[^\x00]*$", description="Only those that this person holds."
    )
    new_facts: bool | None = Field(default=None, description="Only those with facts since the decision.")
    overdue: bool | None = Field(default=None, description="Only those that have waited too long, or not.")
    after: str | None = Field(
        default=None, max_length=64, pattern=r"^[^\x00]*$", description="The last id of the page before."
    )
    limit: int = Field(default=50, ge=1, le=200, description="Most reviews of a page.")


class ProposalAnswer(BaseModel):
    """What one person decided and another has to confirm."""

    by: str
    at: datetime
    outcome: Status
    reason_codes: list[str]
    note: str


class ReviewAnswer(BaseModel):
    """A review. What you do to it names its `fence` (your claim) and `revision` (what you read)."""

    review_id: str
    application_id: str
    state: ReviewState
    decision_version: int
    revision: int
    has_new_facts: bool
    cause: Cause
    priority: Priority
    is_priority_set: bool
    opened_at: datetime
    due_at: datetime
    claimed_by: str | None
    claimed_until: datetime | None
    fence: int
    proposal: ProposalAnswer | None
    closed_at: datetime | None
    decided_by: str | None

    @staticmethod
    def of(review: Review) -> dict[str, Any]:
        """Return a review as it is sent."""
        sent = asdict(review)
        proposal = sent["proposal"]
        if proposal is not None:
            sent["proposal"] = {**proposal, **proposal.pop("verdict")}
        return {"review_id": sent.pop("id"), **sent}


class QueueEntryAnswer(ReviewAnswer):
    """A line of the queue."""

    product_type: str
    amount: int | None
    latest_step: str

    @staticmethod
    def of_line(line: QueuedReview) -> dict[str, Any]:
        """Return a line as it is sent."""
        shown = {"product_type": line.product_type, "amount": line.amount, "latest_step": line.latest_step}
        return {**ReviewAnswer.of(line.review), **shown}


class QueueAnswer(BaseModel):
    """A page of the queue; `next_after` is the `after` of the next one, null at the end."""

    reviews: list[QueueEntryAnswer]
    next_after: str | None


class QueueLineAnswer(BaseModel):
    """How many reviews of one priority wait; `oldest_s` is how long the oldest has waited, in seconds."""

    priority: Priority
    waiting: int
    claimed: int
    proposed: int
    overdue: int
    oldest_s: float

    @staticmethod
    def of(line: QueueLine) -> dict[str, Any]:
        """Return a line as it is sent."""
        return asdict(line)


class QueueStatsAnswer(BaseModel):
    """The queue by priority; one that nobody waits in is left out."""

    lines: list[QueueLineAnswer]


class DecidedAnswer(BaseModel):
    """What came of a verdict. `second_person` says why somebody else has to confirm it, null once it is decided."""

    review: ReviewAnswer
    status: Status | None
    decision_version: int | None
    second_person: str | None

    @staticmethod
    def of(decided: Decided) -> dict[str, Any]:
        """Return the answer as it is sent."""
        decision = decided.decision
        return {
            "review": ReviewAnswer.of(decided.review),
            "status": decision.status if decision else None,
            "decision_version": decision.version if decision else None,
            "second_person": decided.second_person,
        }


class ReevaluatedAnswer(BaseModel):
    """The version that the rules made on what is known now."""

    application_id: str
    status: Status
    decision_version: int

    @staticmethod
    def of(decision: Reevaluated) -> dict[str, Any]:
        """Return the answer as it is sent."""
        return {
            "application_id": decision.application_id,
            "status": decision.status,
            "decision_version": decision.version,
        }


class RepullAnswer(BaseModel):
    """A request for a new pull. `provider_request_ids` are the new references once it is authorised."""

    repull_id: str
    review_id: str
    application_id: str
    checks: list[str]
    reason: str
    state: Literal["requested", "authorised", "rejected"]
    requested_by: str
    requested_at: datetime
    answered_by: str | None
    answered_at: datetime | None
    provider_request_ids: list[str]

    @staticmethod
    def of(repull: Repull) -> dict[str, Any]:
        """Return a request as it is sent."""
        sent = asdict(repull)
        return {"repull_id": sent.pop("id"), **sent}


class FileAnswer(BaseModel):
    """All that is needed to decide; nothing in it names the applicant."""

    review: ReviewAnswer
    application: dict[str, Any] = Field(description="The form and where the application stands.")
    signals: list[dict[str, Any]] = Field(description="What each check found, and why it did not.")
    decisions: list[dict[str, Any]] = Field(description="Every version, the newest first, with its trace.")
    by_rules: dict[str, Any] = Field(description="What the active rules say about what is known now.")
    second_person: dict[str, str | None] = Field(
        description="For each outcome, why somebody else would have to confirm it."
    )
    reason_codes: list[dict[str, Any]] = Field(description="The codes that a verdict may give.")
    repulls: list[RepullAnswer]
    audit_trail: list[dict[str, Any]]

    @staticmethod
    def of(file: ReviewFile) -> dict[str, Any]:
        """Return a file as it is sent."""
        sent = {name: getattr(file, name) for name in FileAnswer.model_fields}
        return {
            **sent,
            "review": ReviewAnswer.of(file.review),
            "signals": [asdict(signal) for signal in file.signals],
            "decisions": [asdict(decision) for decision in file.decisions],
            "repulls": [RepullAnswer.of(repull) for repull in file.repulls],
        }


class IdentityAnswer(BaseModel):
    """Who the applicant is. That you were shown it stands in the audit trail."""

    legal_name: str
    dob: str
    ssn_last4: str


VERDICT_EXAMPLE: dict[str, Any] = {
    "fence": 1,
    "revision": 1,
    "outcome": "denied",
    "reason_codes": ["LENGTH_OF_EMPLOYMENT"],
    "note": "Three months in the present job, and no savings to bridge a loss of it.",
}
