"""The route of a denied application's notice of adverse action, for the client that submitted it."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any, Literal

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import SUBMIT_ROUTE, CreditApi
from faregate.credit.contracts.record import Notice
from faregate.credit.domain.application import ApplicationNotFound
from faregate.credit.handlers.notices import NoAdverseAction
from faregate.infra.admission import Work
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.client_limits import READ
from faregate.infra.http.gate import Gate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router


class PartyAnswer(BaseModel):
    """Somebody whom the notice names."""

    name: str
    address: str
    phone: str | None


class ReasonAnswer(BaseModel):
    """A reason or key factor in the words of form C-1."""

    code: str
    wording: str


class RangeAnswer(BaseModel):
    """The fewest and the most points that the scorecard can give."""

    low: int
    high: int


class ScoreAnswer(BaseModel):
    """The score that was used; higher is better."""

    score: int
    range: RangeAnswer
    scored_on: date
    provided_by: str | None
    card: str
    key_factors: list[ReasonAnswer]
    statement: str


class ReportAnswer(BaseModel):
    """The consumer report that was used, and the agency that it is from."""

    provider: str
    agency: PartyAnswer | None
    statement: str


class OutsideSourcesAnswer(BaseModel):
    """Outside sources other than consumer reporting agencies."""

    providers: list[str]
    statement: str


class NoticeAnswer(BaseModel):
    """A notice of adverse action; name and address of the applicant are added by whoever sends it.

    `missing` names what the issuer must set before it may be sent; `text` is the whole to be read.
    """

    application_id: str
    decision_version: int
    status: Literal["open", "sent", "superseded"]
    due_at: datetime
    sent_at: datetime | None
    form: str
    requested_credit: dict[str, Any]
    action_taken: str
    action_taken_on: date
    creditor: PartyAnswer | None
    principal_reasons: list[ReasonAnswer]
    code_set_version: str | None
    credit_score: ScoreAnswer | None
    consumer_report: ReportAnswer | None
    outside_sources: OutsideSourcesAnswer | None
    ecoa_notice: str | None
    missing: list[str]
    text: str

    @staticmethod
    def of(notice: Notice) -> dict[str, Any]:
        """Return a notice as it is sent."""
        state = {"status": notice.status, "due_at": notice.due_at, "sent_at": notice.sent_at}
        return {**notice.document, **state, "text": notice.text}


_ADVERSE_ACTION = operation(
    summary="The notice of adverse action on a denied application",
    answers={
        200: Answer(description="What the notice says, and until when it must be sent", model=NoticeAnswer)
    },
    problems=[ApplicationNotFound, NoAdverseAction, DatabaseUnavailable],
    scope="credit:read",
    limited=True,
)


def notice_routes(*, credit: CreditApi, authenticator: Authenticator, gate: Gate) -> APIRouter:
    """Return the route. Another client's application is not found."""
    router = make_router(tags=["credit applications"])
    may_read = authenticator.require("credit:read")

    @router.get(SUBMIT_ROUTE + "/{application_id}/adverse-action", **_ADVERSE_ACTION)
    async def adverse_action(request: Request) -> Response:
        caller = await may_read(request)
        await gate.enter(request, caller=caller, policy=READ, work=Work.READ)
        application_id = request.path_params["application_id"]
        notice = await credit.adverse_action(application_id=application_id, client_id=caller.client_id)
        return Response(orjson.dumps(NoticeAnswer.of(notice)), media_type="application/json")

    return router
