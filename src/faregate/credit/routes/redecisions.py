"""The routes of operators for deciding again what a replaced ruleset decided: report, look, apply."""

from __future__ import annotations

import re

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import (
    CreditApi,
    RedecisionNotFound,
    ReportNotComplete,
    ReportOutdated,
    RulesetStillActive,
)
from faregate.credit.contracts import Redecision
from faregate.credit.routes import ruleset_forms as forms
from faregate.credit.routes.once import Once
from faregate.infra.database import Connection
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import ValidationFailed, validate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.kernel.clock import Clock
from faregate.rules.ruleset import RulesetLabelInvalid
from faregate.rules.store import NoActiveRuleset, RulesetVersionNotFound

READ, MANAGE = "rules:read", "rules:manage"
_OF_VERSION = "/internal/rulesets/{label}/redecisions"
_ONE = "/internal/redecisions/{redecision_id}"
_APPLIED_AT_ONCE = 50
"""Less than a command applies: an API process has other requests to answer meanwhile."""
_ID = re.compile(r"red_[0-9A-Z]{26}")

_BEGIN = operation(
    summary="Report what the active version makes of another version's decisions; nothing is changed",
    body=forms.ReasonForm,
    answers={201: Answer(description="The report, or its first page", model=forms.RedecisionAnswer)},
    problems=[RulesetLabelInvalid, RulesetVersionNotFound, NoActiveRuleset, RulesetStillActive],
    scope=MANAGE,
    idempotent=True,
)
_GO_ON = operation(
    summary="Add the next page to a report that is not complete",
    body=forms.ReasonForm,
    answers={200: Answer(description="The report as it is now", model=forms.RedecisionAnswer)},
    problems=[RedecisionNotFound],
    scope=MANAGE,
    idempotent=True,
)
_APPLY = operation(
    summary="Apply a report to its next applications; send again until nothing is pending",
    body=forms.ReasonForm,
    examples={"a reason": {"reason": "version 2 took dollars for cents"}},
    answers={200: Answer(description="What this batch did", model=forms.AppliedAnswer)},
    problems=[RedecisionNotFound, ReportNotComplete, ReportOutdated, NoActiveRuleset],
    scope=MANAGE,
    idempotent=True,
)
_SHOW = operation(
    summary="A report: what would change, and what was applied",
    answers={200: Answer(description="What it adds up to", model=forms.RedecisionAnswer)},
    problems=[RedecisionNotFound],
    scope=READ,
)
_ITEMS = operation(
    summary="The applications of a report, one by one",
    answers={200: Answer(description="A page", model=forms.RedecisionItemsAnswer)},
    problems=[RedecisionNotFound, ValidationFailed],
    parameters=forms.parameters_of(forms.ItemsQuery),
    scope=READ,
)


def redecision_routes(*, credit: CreditApi, authenticator: Authenticator, clock: Clock) -> APIRouter:
    """Return the routes of operators for reports."""
    router = make_router(tags=["rulesets"])
    edge = _Edge(credit, authenticator, clock)
    router.post(_OF_VERSION, **_BEGIN)(edge.begin)
    router.get(_ONE, **_SHOW)(edge.show)
    router.get(_ONE + "/items", **_ITEMS)(edge.items)
    router.post(_ONE + "/report", **_GO_ON)(edge.go_on)
    router.post(_ONE + "/apply", **_APPLY)(edge.apply)
    return router


class _Edge:
    """The endpoints of the routes."""

    def __init__(self, credit: CreditApi, authenticator: Authenticator, clock: Clock) -> None:
        self._credit = credit
        self._may_read = authenticator.require(READ)
        self._once = Once(credit=credit, may=authenticator.require(MANAGE), clock=clock)

    async def begin(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.ReasonForm, actor: str) -> BaseModel:
            redecider = self._credit.rules.redecider
            label = request.path_params["label"]
            begun = await redecider.begin(conn, ruleset_version=label, actor=actor, reason=form.reason)
            return await self._answer(conn, await redecider.report_page(conn, begun.id))

        return await self._once(request, forms.ReasonForm, work, status=201)

    async def go_on(self, request: Request) -> Response:
        async def work(conn: Connection, _: forms.ReasonForm, __: str) -> BaseModel:
            report = await self._credit.rules.redecider.report_page(conn, _id(request))
            return await self._answer(conn, report)

        return await self._once(request, forms.ReasonForm, work)

    async def apply(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.ReasonForm, actor: str) -> BaseModel:
            done = await self._credit.rules.redecider.apply_batch(
                conn, _id(request), actor=actor, reason=form.reason, limit=_APPLIED_AT_ONCE
            )
            return forms.AppliedAnswer.model_validate(done)

        return await self._once(request, forms.ReasonForm, work)

    async def show(self, request: Request) -> Response:
        await self._may_read(request)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            report = await desk.redecider.report(conn, _id(request))
            return _json(await self._answer(conn, report))

    async def items(self, request: Request) -> Response:
        await self._may_read(request)
        query = validate(forms.ItemsQuery, dict(request.query_params))
        desk, redecision_id = self._credit.rules, _id(request)
        async with desk.database.connection() as conn:
            await desk.redecider.report(conn, redecision_id)
            found = await desk.redecider.items(
                conn,
                redecision_id,
                only_changed=query.only_changed,
                after_id=query.after,
                limit=query.limit,
            )
        items = [forms.RedecisionItemAnswer.model_validate(item) for item in found]
        following = items[-1].application_id if len(items) == query.limit else None
        return _json(forms.RedecisionItemsAnswer(items=items, next=following))

    async def _answer(self, conn: Connection, report: Redecision) -> forms.RedecisionAnswer:
        counts = await self._credit.rules.redecider.counts(conn, report.id)
        return forms.RedecisionAnswer.of(report, counts)


def _id(request: Request) -> str:
    given = str(request.path_params["redecision_id"])
    if not _ID.fullmatch(given):
        raise RedecisionNotFound("there is no report of this id")
    return given


def _json(value: BaseModel) -> Response:
    return Response(orjson.dumps(value.model_dump(mode="json")), media_type="application/json")
