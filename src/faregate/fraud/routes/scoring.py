"""The routes of scoring: a payment is decided, decisions are read."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.fraud.api import (
    DeadlineCannotBeMet,
    DecisionFilter,
    DecisionNotFound,
    FraudApi,
    ListedDecision,
    Payment,
    PaymentIdReused,
)
from faregate.fraud.routes.forms import (
    DECISION_ID,
    PAYMENT_ID,
    DecisionsQuery,
    FraudDecisionAnswer,
    FraudDecisionsAnswer,
    FraudScoreAnswer,
    ScoreForm,
    ScoreQuery,
)
from faregate.infra.admission import Work
from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import ValidationFailed, read_json, validate
from faregate.infra.http.client_limits import READ
from faregate.infra.http.gate import Gate
from faregate.infra.http.openapi import Answer, link, operation, query_parameters
from faregate.infra.http.routing import make_router
from faregate.infra.security.pseudonym import AddressInvalid
from faregate.infra.spool import SpoolBroken, SpoolFull
from faregate.kernel.clock import Clock
from faregate.kernel.errors import InvalidError

SCORE_SCOPE, READ_SCOPE, MANAGE_SCOPE = "fraud:score", "fraud:read", "fraud:manage"
DEADLINE_HEADER = "x-deadline-ms"
AHEAD: Final = timedelta(seconds=60)
FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DEADLINE: Final = re.compile(r"[1-9][0-9]{0,5}")
_DECISIONS = "/api/fraud/decisions"
_EXAMPLE = {
    "payment_id": "pay_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    "card_token": "crd_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    "member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    "amount_minor": 4_250,
    "currency": "USD",
    "merchant": "mer_0042",
    "merchant_category": 5_812,
    "channel": "online",
    "country": "US",
    "terminal_id": None,
    "device_id": "dev_9f8e7d6c",
    "ip": "203.0.113.7",
    "occurred_at": "2026-11-26T12:00:00Z",
}


class OccurredInFuture(InvalidError):
    """The payment lies more than a minute in the future: one of the two clocks is wrong.

    Send it with the instant at which it was asked for.
    """


class OccurredBeforeTime(InvalidError):
    """The payment lies before 1970."""


class DeadlineMalformed(InvalidError):
    """`X-Deadline-Ms` is a whole number of milliseconds from 1 to 999999."""


_DEADLINE_PARAMETER = {
    "name": "X-Deadline-Ms",
    "in": "header",
    "required": False,
    "description": "How many milliseconds the caller still waits. What cannot be answered in time is refused at once.",
    "schema": {"type": "integer", "minimum": 1, "maximum": 999_999},
}
_SCORE = operation(
    summary="Decide a payment: features, rules, model, with reasons",
    body=ScoreForm,
    examples={"online": _EXAMPLE},
    parameters=[*query_parameters(ScoreQuery), _DEADLINE_PARAMETER],
    answers={
        200: Answer(
            description="Decided, and kept",
            model=FraudScoreAnswer,
            links={"decision": link(_DECISIONS + "/{decision_id}", decision_id="decision_id")},
        )
    },
    problems=[
        OccurredInFuture,
        OccurredBeforeTime,
        AddressInvalid,
        DeadlineMalformed,
        DeadlineCannotBeMet,
        PaymentIdReused,
        SpoolFull,
        SpoolBroken,
    ],
    scope=SCORE_SCOPE,
)
_LIST = operation(
    summary="Decisions, the newest first: for those who look at them",
    parameters=query_parameters(DecisionsQuery),
    answers={200: Answer(description="One page of them", model=FraudDecisionsAnswer)},
    problems=[ValidationFailed, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)


def _one(summary: str) -> dict[str, Any]:
    return operation(
        summary=summary,
        parameters=query_parameters(ScoreQuery),
        answers={200: Answer(description="As it was answered", model=FraudDecisionAnswer)},
        problems=[DecisionNotFound, ValidationFailed, DatabaseUnavailable],
        scope=READ_SCOPE,
        limited=True,
    )


_ONE = _one("One decision, with its reasons; of an approval, too")
_OF_PAYMENT = _one("The decision that counts for a payment")


def scoring_routes(*, fraud: FraudApi, authenticator: Authenticator, gate: Gate, clock: Clock) -> APIRouter:
    """Return the routes of scoring."""
    router = make_router(tags=["fraud"])
    _add_score(router, fraud, authenticator, clock)
    _add_reads(router, fraud, authenticator, gate)
    return router


def _add_score(router: APIRouter, fraud: FraudApi, authenticator: Authenticator, clock: Clock) -> None:
    # No limit a client: the payment side is one client, and load is shed by its deadlines.
    may_score = authenticator.require(SCORE_SCOPE)

    @router.post("/api/fraud/score", **_SCORE)
    async def score(request: Request) -> Response:
        caller = await may_score(request)
        deadline_s = _deadline_s(request)
        explain = _explain(request)
        form = validate(ScoreForm, await read_json(request))
        payment = payment_of(form, fraud, now=clock.now())
        answer = await fraud.score(
            payment, client_id=caller.client_id, explain=explain, deadline_s=deadline_s
        )
        return Response(answer, media_type="application/json")


def _add_reads(router: APIRouter, fraud: FraudApi, authenticator: Authenticator, gate: Gate) -> None:
    may_read = authenticator.require(READ_SCOPE)

    async def enter(request: Request, work: Work) -> None:
        await gate.enter(request, caller=await may_read(request), policy=READ, work=work)

    @router.get(_DECISIONS, **_LIST)
    async def decisions(request: Request) -> Response:
        await enter(request, Work.LIST)
        query = validate(DecisionsQuery, dict(request.query_params), strict=False)
        wanted = DecisionFilter(**query.model_dump())
        return _json(page_of(await fraud.decisions(wanted), limit=wanted.limit))

    @router.get(_DECISIONS + "/{decision_id}", **_ONE)
    async def decision(request: Request) -> Response:
        await enter(request, Work.READ)
        explain = _explain(request)
        decision_id = _id(request, "decision_id", DECISION_ID)
        return _json(await fraud.decision(decision_id, explain=explain))

    @router.get("/api/fraud/payments/{payment_id}/decision", **_OF_PAYMENT)
    async def decision_of_payment(request: Request) -> Response:
        await enter(request, Work.READ)
        explain = _explain(request)
        payment_id = _id(request, "payment_id", PAYMENT_ID)
        return _json(await fraud.decision_of_payment(payment_id, explain=explain))


def payment_of(form: ScoreForm, fraud: FraudApi, *, now: datetime) -> Payment:
    """Return the payment of a form. Raises OccurredInFuture, OccurredBeforeTime and AddressInvalid."""
    if form.occurred_at > now + AHEAD:
        raise OccurredInFuture("occurred_at is more than a minute in the future")
    if form.occurred_at < FIRST:
        raise OccurredBeforeTime("occurred_at is before 1970")
    return Payment(
        payment_id=form.payment_id,
        card_token=form.card_token,
        member_id=form.member_id,
        amount_minor=form.amount_minor,
        currency=form.currency,
        merchant=form.merchant,
        merchant_category=form.merchant_category,
        channel=form.channel,
        country=form.country,
        terminal_id=form.terminal_id,
        device_id=form.device_id,
        ip_token=None if form.ip is None else fraud.pseudonyms.address(form.ip),
        occurred_at=form.occurred_at.astimezone(UTC),
    )


def page_of(found: list[ListedDecision], *, limit: int) -> dict[str, Any]:
    """Return a page; a full one may have another behind it."""
    rows = [
        {
            "decision_id": one.id,
            "decided_at": one.decided_at.isoformat(),
            "payment_id": one.payment_id,
            "action": one.action,
            "score": one.score,
            "amount_minor": one.amount_minor,
            "currency": one.currency,
            "card_token": one.card_token,
            "degraded": one.degraded,
            "counts": one.is_first,
        }
        for one in found
    ]
    return {"decisions": rows, "next": found[-1].id if len(found) == limit else None}


def _deadline_s(request: Request) -> float | None:
    given = request.headers.get(DEADLINE_HEADER)
    if given is None:
        return None
    if not _DEADLINE.fullmatch(given):
        raise DeadlineMalformed("X-Deadline-Ms is a whole number from 1 to 999999")
    return int(given) / 1_000


def _explain(request: Request) -> bool:
    if not request.scope["query_string"]:
        return False
    return validate(ScoreQuery, dict(request.query_params), strict=False).explain


def _id(request: Request, name: str, pattern: str) -> str:
    given: str = request.path_params[name]
    if not re.fullmatch(pattern.strip("^$"), given):
        raise DecisionNotFound("there is no such decision")
    return given


def _json(value: BaseModel | dict[str, Any]) -> Response:
    return Response(orjson.dumps(value), media_type="application/json")
