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
