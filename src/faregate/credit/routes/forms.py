"""What goes over the wire: the bodies of requests and answers, with examples for the documentation."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.requests import Request

from faregate.credit.contracts import (
    ApplicationPage,
    DecisionView,
    PageWanted,
    Receipt,
    Status,
    StatusView,
)
from faregate.credit.domain.facts import Purpose
from faregate.infra.http.body import ValidationFailed, validate
from faregate.infra.http.dates import Day

AMOUNT_MAX = 1_000_000_000
# What XML cannot hold must not be in a name: one of the bureaus could not be asked about its bearer.
_NAME = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]*$"
_Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200, pattern=_NAME)]

_Date = Annotated[Day, Field(ge=date(1900, 1, 1))]


class ApplicantForm(BaseModel):
    """Who applies. Money in whole units."""

    model_config = ConfigDict(extra="forbid", strict=True)

    legal_name: _Name
    dob: _Date = Field(description="Date of birth, YYYY-MM-DD.")
    ssn_last4: str = Field(pattern=r"^[0-9]{4}$")
    annual_income: int = Field(ge=0, le=AMOUNT_MAX)


class ApplicationForm(BaseModel):
    """An application for a card."""

    model_config = ConfigDict(extra="forbid", strict=True)

    product_type: str = Field(pattern=r"^[a-z][a-z0-9_]{0,63}$", examples=["cashback_card"])
    applicant: ApplicantForm
    amount: int | None = Field(
        default=None, gt=0, le=AMOUNT_MAX, description="Credit asked for, whole units."
    )
    purpose: Purpose | None = Field(default=None, strict=False, description="What the credit is for.")

    def refuse_future_birth(self, *, today: date) -> None:
        """Raise ValidationFailed for an applicant who is not born yet."""
        if self.applicant.dob >= today:
            message = "The date of birth must be in the past"
            raise ValidationFailed(
                "1 field is not valid", errors=[{"field": "applicant.dob", "message": message}]
            )


class ReceiptAnswer(BaseModel):
    """The application was accepted and is being processed."""

    application_id: str
    status: Status
    next_poll_after_seconds: int


class StatusAnswer(BaseModel):
    """Where an application stands. `latest_step` names what happened last."""

    application_id: str
    status: Status
    latest_step: str
    updated_at: datetime

    @staticmethod
    def of(view: StatusView) -> dict[str, Any]:
        """Return a status as it is sent."""
        return {
            "application_id": view.application_id,
            "status": view.status,
            "latest_step": view.latest_step,
            "updated_at": view.updated_at,
        }


class ListedAnswer(BaseModel):
    """One application of a list."""

    application_id: str
    product_type: str
    status: Status
    latest_step: str
    submitted_at: datetime
    updated_at: datetime


class ListAnswer(BaseModel):
    """A page of the client's applications, the newest first. Without `next_cursor` it is the last one."""

    applications: list[ListedAnswer]
    next_cursor: str | None

    @staticmethod
    def of(page: ApplicationPage) -> dict[str, Any]:
        """Return a page as it is sent."""
        return {"applications": page.applications, "next_cursor": page.next_before_id}


class PageQuery(BaseModel):
    """The query of a list. The cursor is the id that the page before ended with; clients need not know that."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=200, description="Most applications on the page.")
    cursor: str | None = Field(
        default=None, pattern=r"^[A-Za-z0-9_]{1,64}$", description="`next_cursor` of the page before."
    )
    status: Status | None = Field(default=None, description="Only applications in this state.")


def page_wanted(request: Request) -> PageWanted:
    """Return the page that a request asks for; raise ValidationFailed."""
    query = validate(PageQuery, dict(request.query_params))
    return PageWanted(limit=query.limit, before_id=query.cursor, status=query.status)


class DecisionAnswer(BaseModel):
    """A decision. `risk_score` is 0 to 1, higher is riskier; `adverse_action_reasons` only hold what hurt."""

    application_id: str
    outcome: Status
    risk_score: float | None
    reason_codes: list[str]
    adverse_action_reasons: list[dict[str, Any]]
    decision_version: int
    ruleset_version: str
    scorecard_version: str
    decided_at: datetime

    @staticmethod
    def of(view: DecisionView) -> dict[str, Any]:
        """Return a decision as it is sent."""
        return {
            "application_id": view.application_id,
            "outcome": view.outcome,
            "risk_score": view.risk_score,
            "reason_codes": view.reason_codes,
            "adverse_action_reasons": view.adverse_action_reasons,
            "decision_version": view.version,
            "ruleset_version": view.ruleset_version,
            "scorecard_version": view.scorecard_version,
            "decided_at": view.decided_at,
        }


class ProviderCallback(BaseModel):
    """A provider's answer to one of our requests. `signature` is not needed with Standard Webhooks headers."""

    model_config = ConfigDict(extra="allow", strict=True)

    provider_request_id: str = Field(min_length=1, max_length=255, pattern="^[!-~]*$")
    status: Literal["success", "failure"]
    payload: Mapping[str, Any]
    signature: str | None = Field(
        default=None,
        description="`hmac-sha256=` and hex over the RFC 8785 form of the body without this field.",
    )


class CallbackAnswer(BaseModel):
    """The callback was kept and will be processed; a repeated one was kept before."""

    accepted: bool


FORM_EXAMPLE: Mapping[str, Any] = {
    "product_type": "cashback_card",
    "applicant": {
        "legal_name": "Jane Doe",
        "dob": "1994-04-08",
        "ssn_last4": "1234",
        "annual_income": 180000,
    },
    "amount": 2500,
    "purpose": "car_used",
}
RECEIPT_EXAMPLE = Receipt(
    application_id="app_01J3R2J7F1TQ0K6W6N8A4X9V7R", status=Status.PROCESSING, next_poll_after_seconds=3
)
