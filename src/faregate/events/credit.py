"""The events of a credit application, ordered by its id. No direct identifier of a person is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

from pydantic import AfterValidator, AwareDatetime, Field

from faregate.events.base import PublishedEvent, without_direct_identifiers

NormalisedFacts = Annotated[Mapping[str, Any], AfterValidator(without_direct_identifiers)]


class CreditEvent(PublishedEvent):
    """A fact about one application."""

    aggregate_type: ClassVar[str] = "credit.application"
    key: ClassVar[str] = "application_id"

    application_id: str = Field(min_length=1, examples=["app_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class ApplicationSubmitted(CreditEvent):
    """An application was accepted for processing."""

    type: ClassVar[str] = "credit.application.submitted"

    applicant_id: str = Field(min_length=1, description="Surrogate id of the applicant.")
    idempotency_key: str = Field(min_length=1, description="The key under which the client submitted it.")
    submitted_at: AwareDatetime


class ExternalRequested(CreditEvent):
    """A call to a provider was decided on; it is sent at most once in effect under this request id."""

    type: ClassVar[str] = "credit.external.requested"

    provider: str = Field(min_length=1, examples=["bureau"])
    provider_request_id: str = Field(
        min_length=1, description="Deterministic: `{application_id}:{provider}:{attempt}`."
    )
    attempt: int = Field(ge=1)
    timeout_ms: int = Field(gt=0)


class ExternalCompleted(CreditEvent):
    """What became of a call is known, or is known to stay unknown."""

    type: ClassVar[str] = "credit.external.completed"

    provider: str = Field(min_length=1, examples=["bureau"])
    provider_request_id: str = Field(min_length=1)
    status: Literal["done", "not_done", "unknown"]
    signal_payload: NormalisedFacts = Field(description="Normalised facts; empty unless done.")
    received_at: AwareDatetime
    reason: str | None = Field(default=None, description="Why it was not done, or is unknown.")


class DecisionReady(CreditEvent):
    """Nothing more is to be waited for: the application can be decided."""

    type: ClassVar[str] = "credit.decision.ready"
    is_urgent: ClassVar[bool] = True

    required_signals_complete: bool
    missing_providers: tuple[str, ...]


class DecisionFinalized(CreditEvent):
    """An application was decided. A higher `decision_version` replaces an earlier decision."""

    type: ClassVar[str] = "credit.decision.finalized"
    is_urgent: ClassVar[bool] = True

    outcome: Literal["approved", "denied", "manual_review"]
    risk_score: float | None = Field(
        ge=0, le=1, description="Higher is riskier; null when a decision was made without a score."
    )
    reason_codes: tuple[str, ...]
    ruleset_version: str = Field(min_length=1)
    decision_version: int = Field(default=1, ge=1)


class ReviewEvent(CreditEvent):
    """A fact about the manual review of one application. People appear by the client id of their API key.

    All are urgent: clients are told when one opens and closes, and one lane keeps what happens between in order.
    """

    is_urgent: ClassVar[bool] = True

    review_id: str = Field(min_length=1, examples=["rev_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class ReviewOpened(ReviewEvent):
    """A decision sent an application to manual review, or left it there under a newer version."""

    type: ClassVar[str] = "credit.review.opened"

    decision_version: int = Field(ge=1)
    cause: str = Field(min_length=1, examples=["check_missing"])
    priority: Literal["urgent", "high", "normal", "low"]
    due_at: AwareDatetime


class ReviewClaimed(ReviewEvent):
    """Somebody took a review, until an instant; a later claim has a higher fence."""

    type: ClassVar[str] = "credit.review.claimed"

    reviewer: str = Field(min_length=1)
    fence: int = Field(ge=1)
    claimed_until: AwareDatetime


class ReviewReleased(ReviewEvent):
    """Somebody gave a review back before its end."""

    type: ClassVar[str] = "credit.review.released"

    reviewer: str = Field(min_length=1)


class ReviewProposed(ReviewEvent):
    """Somebody decided a review that another person has to confirm."""

    type: ClassVar[str] = "credit.review.proposed"

    reviewer: str = Field(min_length=1)
    outcome: Literal["approved", "denied"]
    reason_codes: tuple[str, ...]


class ReviewRejected(ReviewEvent):
    """Another person rejected what was proposed: the review is back in the queue."""

    type: ClassVar[str] = "credit.review.rejected"

    reviewer: str = Field(min_length=1)


class ReviewFactsArrived(ReviewEvent):
    """Checks of an application in review gave an answer after its decision."""

    type: ClassVar[str] = "credit.review.facts_arrived"

    checks: tuple[str, ...]


class ReviewClosed(ReviewEvent):
    """A decision ended a review: a person's, or (`reviewer` null) that of rules on newer facts."""

    type: ClassVar[str] = "credit.review.closed"

    decision_version: int = Field(ge=1)
    reviewer: str | None = None
    confirmed: str | None = Field(default=None, description="Who had proposed what the reviewer confirmed.")


EVENTS: tuple[type[CreditEvent], ...] = (
    ApplicationSubmitted,
    ExternalRequested,
    ExternalCompleted,
    DecisionReady,
    DecisionFinalized,
    ReviewOpened,
    ReviewClaimed,
    ReviewReleased,
    ReviewProposed,
    ReviewRejected,
    ReviewFactsArrived,
    ReviewClosed,
)
"""Every event that this context publishes."""
