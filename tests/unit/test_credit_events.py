"""The published events of the credit context: their names and fields are a promise."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from pydantic import ValidationError

from faregate.events import EVENT_TYPES, PublishedEvent
from faregate.events.credit import DecisionFinalized, ExternalCompleted

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
REVIEW = {"application_id": "app_1", "review_id": "rev_1"}
PROMISED = {
    "credit.application.submitted": {
        "application_id": "app_1",
        "applicant_id": "apl_1",
        "idempotency_key": "k-1",
        "submitted_at": "2026-11-21T12:00:00Z",
    },
    "credit.external.requested": {
        "application_id": "app_1",
        "provider": "bureau",
        "provider_request_id": "app_1:bureau:1",
        "attempt": 1,
        "timeout_ms": 2000,
    },
    "credit.external.completed": {
        "application_id": "app_1",
        "provider": "bureau",
        "provider_request_id": "app_1:bureau:1",
        "status": "done",
        "signal_payload": {"credit_history": "critical", "existing_credits": 2},
        "received_at": "2026-11-21T12:00:00Z",
    },
    "credit.decision.ready": {
        "application_id": "app_1",
        "required_signals_complete": False,
        "missing_providers": ["kyc"],
    },
    "credit.decision.finalized": {
        "application_id": "app_1",
        "outcome": "approved",
        "risk_score": 0.18,
        "reason_codes": ["BUREAU_OK"],
        "ruleset_version": "7",
    },
    "credit.review.opened": {
        **REVIEW,
        "decision_version": 1,
        "cause": "check_missing",
        "priority": "normal",
        "due_at": "2026-11-21T12:00:00Z",
    },
    "credit.review.claimed": {
        **REVIEW,
        "reviewer": "ada",
        "fence": 1,
        "claimed_until": "2026-11-21T12:00:00Z",
    },
    "credit.review.released": {**REVIEW, "reviewer": "ada"},
    "credit.review.proposed": {
        **REVIEW,
        "reviewer": "ada",
        "outcome": "denied",
        "reason_codes": ["LENGTH_OF_EMPLOYMENT"],
    },
    "credit.review.rejected": {**REVIEW, "reviewer": "bob"},
    "credit.review.facts_arrived": {**REVIEW, "checks": ["kyc"]},
    "credit.review.closed": {**REVIEW, "decision_version": 2},
}


def read(kind: str, **changes: Any) -> PublishedEvent:
    return EVENT_TYPES[kind].model_validate({**PROMISED[kind], **changes})


@pytest.mark.requirement("C10")
def test_there_are_exactly_the_promised_types() -> None:
    assert {kind for kind in EVENT_TYPES if kind.startswith("credit.")} == PROMISED.keys()


@pytest.mark.requirement("C10")
@pytest.mark.parametrize("kind", PROMISED)
def test_the_required_fields_are_exactly_the_promised_ones(kind: str) -> None:
    fields = EVENT_TYPES[kind].model_fields
    assert {name for name, field in fields.items() if field.is_required()} == PROMISED[kind].keys()


@pytest.mark.requirement("C10")
@pytest.mark.parametrize("kind", PROMISED)
def test_an_event_is_keyed_by_its_application_and_survives_the_round(kind: str) -> None:
    appended = read(kind).to_event(id=UUID(int=1), time=NOON)
    assert (appended.type, appended.aggregate_id) == (kind, "app_1")
    assert PROMISED[kind].items() <= dict(appended.data).items()
    assert EVENT_TYPES[kind].from_event(appended) == read(kind)


@pytest.mark.parametrize("kind", PROMISED)
def test_a_reader_ignores_fields_that_were_added_later(kind: str) -> None:
    assert read(kind, added_later="x") == read(kind)


@pytest.mark.parametrize("payload", [{"ssn_last4": "1234"}, {"facts": [{"legal_name": "Ada"}]}])
def test_a_payload_with_a_direct_identifier_is_refused(payload: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="direct identifiers"):
        read(ExternalCompleted.type, signal_payload=payload)


def test_an_event_of_another_type_is_not_read() -> None:
    appended = read("credit.decision.ready").to_event(id=UUID(int=1), time=NOON)
    with pytest.raises(ValueError, match=r"is a credit\.decision\.ready"):
        DecisionFinalized.from_event(appended)


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        read("credit.decision.ready").required_signals_complete = True  # type: ignore[attr-defined]
