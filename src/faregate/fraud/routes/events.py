"""The route by which clients report what members do besides paying."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.fraud.contracts.ingestion import EVENTS_MAX, EventOutcome, EventRefusal, Reported, Taken
from faregate.fraud.domain.ingestion import SENTENCES
from faregate.fraud.handlers.ingest import Ingestion
from faregate.fraud.routes.event_forms import (
    AnyReportedForm,
    EventsAnswer,
    EventsForm,
    TakenAnswer,
    WrongField,
)
from faregate.infra.admission import Work
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import ValidationFailed, read_json, validate
from faregate.infra.http.client_limits import SUBMIT
from faregate.infra.http.gate import Gate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router

SCOPE = "fraud:events"
_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")

_REPORT = operation(
    summary=f"Report up to {EVENTS_MAX} events of behaviour, each taken or refused alone",
    body=EventsForm,
    examples={
        "a failed login and a changed password": {
            "events": [
                {
                    "id": "evt-1",
                    "kind": "login",
                    "occurred_at": "2026-11-27T12:00:00Z",
                    "member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R",
                    "ip": "192.0.2.7",
                    "succeeded": False,
                },
                {
                    "id": "evt-2",
                    "kind": "password_change",
                    "occurred_at": "2026-11-27T12:00:20Z",
                    "member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R",
                },
            ]
        }
    },
    answers={200: Answer(description="What became of each", model=EventsAnswer)},
    problems=[DatabaseUnavailable],
    scope=SCOPE,
    limited=True,
)


def event_routes(*, ingestion: Ingestion, authenticator: Authenticator, gate: Gate) -> APIRouter:
    """Return the route. A client's ids are its own."""
    router, may_report = make_router(tags=["fraud"]), authenticator.require(SCOPE)

    @router.post("/api/fraud/events", **_REPORT)
    async def report(request: Request) -> Response:
        caller = await may_report(request)
        await gate.enter(request, caller=caller, policy=SUBMIT, work=Work.SUBMIT)
        events = validate(EventsForm, await read_json(request)).events
        read = [_read(event) for event in events]
        reported = [one for one in read if isinstance(one, Reported)]
        taken = iter(await ingestion.take(reported, client_id=caller.client_id))
        answers = [_shown(next(taken)) if isinstance(one, Reported) else one for one in read]
        return Response(_summed_up(answers).model_dump_json(), media_type="application/json")

    return router


def _read(event: AnyReportedForm | Mapping[str, Any]) -> Reported | TakenAnswer:
    """Return the event, or what is wrong with it. One that did not fit is looked at again for its errors."""
    if isinstance(event, AnyReportedForm):
        return event.root.reported()
    try:
        return validate(AnyReportedForm, event).root.reported()
    except ValidationFailed as error:
        given = event.get("id")
        return TakenAnswer(
            id=given if isinstance(given, str) and _ID.fullmatch(given) else None,
            outcome=EventOutcome.REFUSED,
            reason=EventRefusal.INVALID,
            detail=SENTENCES[EventRefusal.INVALID],
            errors=[WrongField(**wrong) for wrong in error.facts["errors"]],
        )


def _shown(taken: Taken) -> TakenAnswer:
    detail = None if taken.refusal is None else SENTENCES[taken.refusal]
    return TakenAnswer(id=taken.id, outcome=taken.outcome, reason=taken.refusal, detail=detail)


def _summed_up(answers: Sequence[TakenAnswer]) -> EventsAnswer:
    counts = Counter(answer.outcome for answer in answers)
    return EventsAnswer(
        accepted=counts[EventOutcome.ACCEPTED],
        repeated=counts[EventOutcome.REPEATED],
        refused=counts[EventOutcome.REFUSED],
        events=list(answers),
    )
