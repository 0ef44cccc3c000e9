"""What callers of the credit context pass and get. Frozen data, no behaviour, no rows, no requests."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where an application stands; the last three are also the outcomes of a decision."""

    PROCESSING = "processing"
    APPROVED = "approved"
    DENIED = "denied"
    MANUAL_REVIEW = "manual_review"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who applies. Only ever stored encrypted."""

    legal_name: str
    dob: date
    ssn_last4: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovedApplicant:
    """Who is behind an approved application. `applicant_id` is the same for every application of the person."""

    applicant_id: str
    identity: Identity = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """An application as a client submits it. `fingerprint` is the SHA-256 of the canonical request.

    `traceparent` is the trace that the submission belongs to; the application's whole path continues it.
    """

    client_id: str
    idempotency_key: str
    fingerprint: bytes
    identity: Identity = field(repr=False)
    product_type: str
    annual_income: int
    amount: int | None
    purpose: str | None
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The answer to a submission, before any provider has been asked."""

    application_id: str
    status: Status
    next_poll_after_seconds: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusView:
    """The state of an application at a `revision`, higher is newer; `latest_step` names what happened last."""

    application_id: str
    client_id: str
    status: Status
    latest_step: str
    updated_at: datetime
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PageWanted:
    """Which of a client's applications to list: at most `limit`, older than `before_id`, in one state or in any."""

    limit: int
    before_id: str | None = None
    status: Status | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedApplication:
    """An application in a list."""

    application_id: str
    product_type: str
    status: Status
    latest_step: str
    submitted_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ApplicationPage:
    """A page of applications, the newest first. `next_before_id` begins the next one; None: this is the last."""

    applications: tuple[ListedApplication, ...]
    next_before_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecisionView:
    """A decision. `risk_score` is 0 to 1, higher is riskier; None if it could not be computed."""

    application_id: str
    version: int
    outcome: Status
    risk_score: float | None
    reason_codes: tuple[str, ...]
    adverse_action_reasons: tuple[dict[str, Any], ...]
    ruleset_version: str
    scorecard_version: str
    decided_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a person decided: approved or denied, for these codes of the code set, the weightiest first."""

    outcome: Status
    reason_codes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reevaluation:
    """A request to decide a decided application again.

    `expected_version`: the newest decision that the requester knows; with another one there, nothing is done.
    `request_key`: the same key for the same application does nothing the second time. `recorded_version`: decide on
    the recorded inputs of that version; None: on the signals that are stored now. `verdict`: a person's; None: the
    rules'. `actor` and `reason` go into the audit entry.
    """

    application_id: str
    expected_version: int
    request_key: str
    actor: str
    reason: str
    recorded_version: int | None = None
    verdict: Verdict | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Reevaluated:
    """The version that a request made, now or (`is_repeated`) when it was carried out before."""

    application_id: str
    version: int
    status: Status
    is_repeated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SignalView:
    """What one check found, in normalised facts."""

    check: str
    status: str
    provider: str
    provider_request_id: str
    reason: str | None
    facts: dict[str, Any]
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayReport:
    """Decisions recomputed from their recorded inputs; `different` lists `application_id/version`."""

    replayed: int
    different: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class TouchedDecision:
    """A decision that a version of a ruleset made; `status` and `newest_version` are the application's now."""

    application_id: str
    version: int
    outcome: Status
    risk_score: float | None
    reason_codes: tuple[str, ...]
    decided_at: datetime
    status: Status
    newest_version: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Redecision:
    """A report of what `target_version` makes of the decisions of `ruleset_version` that still stood.

    It is made in pages: `reported_to` is the last application in it, `is_complete` says whether that was all.
    """

    id: str
    ruleset_version: str
    target_version: str
    scorecard: str
    created_at: datetime
    created_by: str
    reported_to: str
    is_complete: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RedecisionItem:
    """One application of a report: its answer before and after, and whether that was applied.

    `change` is unchanged, reasons or outcome; `state` is unchanged, pending, applied (as `new_version`) or skipped
    (`note` says why).
    """

    application_id: str
    decision_version: int
    change: str
    before: dict[str, Any]
    after: dict[str, Any]
    state: str
    new_version: int | None
    note: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedBatch:
    """What one batch of a report's application did, and how many applications are still to come."""

    applied: int
    skipped: int
    pending: int


class Priority(StrEnum):
    """How urgent a review is; the first is the most urgent."""

    URGENT = "urgent"
    HIGH = "high"
    NORMAL = "normal"
    LOW = "low"


class ReviewState(StrEnum):
    """`open`: to be decided. `proposed`: decided by one person, to be confirmed by another. `closed`: over."""

    OPEN = "open"
    PROPOSED = "proposed"
    CLOSED = "closed"


class Cause(StrEnum):
    """Why an application is reviewed."""

    DECISION_IN_DOUBT = "decision_in_doubt"
    RULES = "rules"
    CONCERN = "concern"
    CHECK_MISSING = "check_missing"
    SCORE_BAND = "score_band"


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """What one person decided and another has to confirm."""

    by: str
    at: datetime
    verdict: Verdict
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """One stay of an application in manual review.

    `decision_version` is the newest decision, the one that ended the review once it is closed. `revision` counts
    what could change a reviewer's mind: facts and decisions. A claim is good until `claimed_until` and under its
    `fence` only. `decided_by` None at a closed review: rules ended it.
    """

    id: str
    application_id: str
    decision_version: int
    revision: int = 1
    has_new_facts: bool = False
    cause: Cause
    priority: Priority
    is_priority_set: bool = False
    opened_at: datetime
    due_at: datetime
    state: ReviewState = ReviewState.OPEN
    claimed_by: str | None = None
    claimed_until: datetime | None = None
    fence: int = 0
    proposal: Proposal | None = None
    closed_at: datetime | None = None
    decided_by: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Under which claim, and on which revision that was read, somebody acts."""

    reviewer: str
    fence: int
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """What came of a verdict: the review as it is, and the decision if one was made.

    `second_person` says why another person has to confirm it, None once it is decided.
    """

    review: Review
    decision: Reevaluated | None = None
    second_person: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class QueuedReview:
    """A line of the queue: the review and what of its application helps to choose."""

    review: Review
    product_type: str
    amount: int | None
    latest_step: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueQuery:
    """Which reviews to list, and in which order: `due`, `opened` or `amount` (largest first).

    None does not filter. `claimed_by` lists one person's live claims, `is_claimed` those that anybody works on.
    `after` is the id of the last review of the page before.
    """

    order: str = "due"
    state: ReviewState | None = None
    priority: Priority | None = None
    cause: Cause | None = None
    is_claimed: bool | None = None
    claimed_by: str | None = None
    has_new_facts: bool | None = None
    is_overdue: bool | None = None
    after: str | None = None
    limit: int = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueLine:
    """How many reviews of one priority wait, how many of them are claimed, proposed, overdue; the oldest's age."""

    priority: Priority
    waiting: int
    claimed: int
    proposed: int
    overdue: int
    oldest_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedOutcome:
    """One version of a decision as a reviewer sees it: `trace` has the score's contributions and the rules fired."""

    version: int
    outcome: Status
    risk_score: float | None
    reason_codes: tuple[str, ...]
    adverse_action_reasons: tuple[dict[str, Any], ...]
    ruleset_version: str
    scorecard_version: str
    trace: dict[str, Any]
    decided_at: datetime


class RepullState(StrEnum):
    """Where a request for a new pull stands."""

    REQUESTED = "requested"
    AUTHORISED = "authorised"
    REJECTED = "rejected"


@dataclass(frozen=True, slots=True, kw_only=True)
class Repull:
    """A request to ask providers of these checks once more; `answered_by` is the second person."""

    id: str
    review_id: str
    application_id: str
    checks: tuple[str, ...]
    reason: str
    state: RepullState = RepullState.REQUESTED
    requested_by: str
    requested_at: datetime
    answered_by: str | None = None
    answered_at: datetime | None = None
    provider_request_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewFile:
    """All that a reviewer needs to decide; no direct identifier of the applicant is in it.

    `second_person` says for each outcome why another person would have to confirm it, None if nobody has to.
    `reason_codes` are those that a verdict may give; `wording` is None where the applicant cannot be told the reason.
    `by_rules` is what the rules that are active now say about the signals that are stored now.
    """

    review: Review
    application: dict[str, Any]
    signals: tuple[SignalView, ...]
    decisions: tuple[RecordedOutcome, ...]
    by_rules: dict[str, Any]
    second_person: dict[str, str | None]
    reason_codes: tuple[dict[str, Any], ...]
    repulls: tuple[Repull, ...]
    audit_trail: tuple[dict[str, Any], ...]
