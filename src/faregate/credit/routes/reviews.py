"""The routes of reviewers: the queue, one review, and whatever can be done to it. A reviewer is an API key's client.

Reading needs `review:read`, acting `review:work`, new pulls `review:repull`, an applicant's name `review:identity`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import ReviewApi
from faregate.credit.contracts import QueueQuery, ReviewState
from faregate.credit.domain.review import ClaimLost, ReviewNotFound, ReviewOver
from faregate.credit.routes import review_forms as forms
from faregate.credit.routes.review_acts import ACTS, ONE_REVIEW, REVIEWS, Act, Turn
from faregate.infra.database import Connection
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import ValidationFailed, read_json, validate
from faregate.infra.http.idempotency_store import StoredResponse
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router

_ID = re.compile(r"[a-z]{3}_[0-9A-Za-z_]{1,60}")

Form = TypeVar("Form", bound=BaseModel)


def review_routes(*, reviews: ReviewApi, authenticator: Authenticator, once: AnswerOnce) -> APIRouter:
    """Return the routes of reviewers."""
    router = make_router(tags=["manual review"])
    _add_reads(router, reviews, authenticator)
    for act in ACTS:
        _add_act(router, act, reviews=reviews, authenticator=authenticator, once=once)
    return router


def _add_act(
    router: APIRouter, act: Act, *, reviews: ReviewApi, authenticator: Authenticator, once: AnswerOnce
) -> None:
    may = authenticator.require(act.scope)

    async def endpoint(request: Request) -> Response:
        caller = await may(request)
        body = await read_json(request)
        form = validate(act.form, body)
        names = _names(request)

        async def work(conn: Connection) -> StoredResponse:
            turn = Turn(reviews=reviews, conn=conn, reviewer=caller.client_id, names=names)
            answer = orjson.dumps(await act.work(turn, form))
            return StoredResponse(status=200, headers=(("content-type", "application/json"),), body=answer)

        return await once(request, caller=caller, body=body, work=work)

    described = operation(
        summary=act.summary,
        body=act.form,
        examples=act.examples,
        answers={200: Answer(description="Done", model=act.answer)},
        problems=act.problems,
        scope=act.scope,
        idempotent=True,
    )
    router.post(act.path, **described)(endpoint)


def _add_reads(router: APIRouter, reviews: ReviewApi, authenticator: Authenticator) -> None:
    may_read, may_identify = authenticator.require("review:read"), authenticator.require("review:identity")

    @router.get(REVIEWS, **_QUEUE)
    async def queue(request: Request) -> Response:
        await may_read(request)
        form = _query(request, forms.QueueForm)
        lines = await reviews.queue(wanted_of(form))
        is_full = len(lines) == form.limit
        return _json(
            {
                "reviews": [forms.QueueEntryAnswer.of_line(line) for line in lines],
                "next_after": lines[-1].review.id if is_full else None,
            }
        )

    @router.get(REVIEWS + "/stats", **_STATS)
    async def stats(request: Request) -> Response:
        await may_read(request)
        return _json({"lines": [forms.QueueLineAnswer.of(line) for line in await reviews.lines()]})

    @router.get(ONE_REVIEW, **_FILE)
    async def show(request: Request) -> Response:
        await may_read(request)
        return _json(forms.FileAnswer.of(await reviews.file(_names(request)["review_id"])))

    @router.get(ONE_REVIEW + "/identity", **_IDENTITY)
    async def identity(request: Request) -> Response:
        caller = await may_identify(request)
        form = _query(request, forms.HoldForm, strict=False)
        review_id = _names(request)["review_id"]
        person = await reviews.identity(review_id, reviewer=caller.client_id, fence=form.fence)
        shown = {"legal_name": person.legal_name, "dob": person.dob, "ssn_last4": person.ssn_last4}
        return _json(shown, {"cache-control": "no-store"})


def _parameters(form: type[BaseModel]) -> list[dict[str, Any]]:
    """Return a query's fields as OpenAPI parameters."""
    schema = form.model_json_schema()
    required, parts = schema.get("required", []), schema.get("$defs", {})
    return [
        {
            "name": name,
            "in": "query",
            "required": name in required,
            "description": field.get("description", ""),
            "schema": _plain(field, parts),
        }
        for name, field in schema["properties"].items()
    ]


def _plain(field: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return a field's schema without null, which a query cannot send, and without references."""
    [chosen] = [one for one in field.get("anyOf", [field]) if one.get("type") != "null"]
    if "$ref" in chosen:
        chosen = parts[chosen["$ref"].rpartition("/")[2]]
    return {name: value for name, value in chosen.items() if name not in {"title", "description"}}


_QUEUE = operation(
    summary="The queue of manual reviews",
    answers={200: Answer(description="A page of it", model=forms.QueueAnswer)},
    problems=[ValidationFailed],
    parameters=_parameters(forms.QueueForm),
    scope="review:read",
)
_STATS = operation(
    summary="How many reviews wait, and for how long",
    answers={200: Answer(description="A line for each priority", model=forms.QueueStatsAnswer)},
    scope="review:read",
)
_FILE = operation(
    summary="All that is needed to decide one review",
    answers={200: Answer(description="The file", model=forms.FileAnswer)},
    problems=[ReviewNotFound],
    scope="review:read",
)
_IDENTITY = operation(
    summary="Who the applicant is, for who holds the review; it is written down that this was shown",
    answers={200: Answer(description="The applicant", model=forms.IdentityAnswer)},
    problems=[ReviewNotFound, ReviewOver, ClaimLost, ValidationFailed],
    parameters=_parameters(forms.HoldForm),
    scope="review:identity",
)


def _names(request: Request) -> dict[str, str]:
    """Return the ids of the path; one that is none of ours is not found."""
    names: dict[str, str] = request.path_params
    if not all(_ID.fullmatch(name) for name in names.values()):
        raise ReviewNotFound("there is no review of this id")
    return names


def _query(request: Request, form: type[Form], *, strict: bool | None = None) -> Form:
    """Return the query as a form. Raises ValidationFailed, also for a parameter that is given twice."""
    given = request.query_params.multi_items()
    values = dict(given)
    if len(values) != len(given):
        raise ValidationFailed("a parameter is given twice", errors=[])
    return validate(form, values, strict=strict)


def wanted_of(form: forms.QueueForm) -> QueueQuery:
    """Return what a query of the queue asks for."""
    return QueueQuery(
        order=form.order,
        state=ReviewState(form.state) if form.state else None,
        priority=form.priority,
        cause=form.cause,
        is_claimed=form.claimed,
        claimed_by=form.claimed_by,
        has_new_facts=form.new_facts,
        is_overdue=form.overdue,
        after=form.after,
        limit=form.limit,
    )


def _json(value: Any, headers: Mapping[str, str] | None = None) -> Response:
    return Response(orjson.dumps(value), media_type="application/json", headers=headers)
