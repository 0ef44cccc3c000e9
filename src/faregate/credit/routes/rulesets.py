"""The routes of operators for rulesets: look, check, publish, activate, roll back, try. None is for clients."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import CreditApi, NothingTried, NotTriedOnApplications, Period
from faregate.credit.routes import ruleset_forms as forms
from faregate.credit.routes.once import Once
from faregate.infra.database import Connection
from faregate.infra.http.authentication import Authenticator, Requirement
from faregate.infra.http.body import ValidationFailed, read_json, validate
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.kernel.clock import Clock
from faregate.rules.checks import RulesetRefused
from faregate.rules.contracts import Traffic
from faregate.rules.ruleset import RulesetLabelInvalid
from faregate.rules.store import (
    ActivationInThePast,
    CodeSetTaken,
    NoActiveRuleset,
    NothingToRollBackTo,
    NotTheActiveVersion,
    RulesetVersionNotFound,
    RulesetVersionTaken,
)

READ, MANAGE = "rules:read", "rules:manage"
_ALL = "/internal/rulesets"
_LABEL, _NAME = _ALL + "/{label}", _ALL + "/{name}"
_UNKNOWN = [RulesetLabelInvalid, RulesetVersionNotFound]
_NAMELESS = [RulesetLabelInvalid, NoActiveRuleset]
_REASON = {"a reason": {"reason": "income limit raised, ticket 4711"}}

Query = TypeVar("Query", bound=BaseModel)

_LIST = operation(
    summary="Published rulesets, newest first",
    answers={200: Answer(description="All versions", model=forms.VersionListAnswer)},
    problems=[ValidationFailed],
    parameters=forms.parameters_of(forms.NameQuery),
    scope=READ,
)
_SHOW = operation(
    summary="A ruleset as it was published",
    answers={200: Answer(description="The document", model=forms.DocumentAnswer)},
    problems=_UNKNOWN,
    scope=READ,
)
_CHECK = operation(
    summary="All that can be said against a ruleset; nothing is kept",
    body=forms.CheckForm,
    answers={200: Answer(description="The findings", model=forms.CheckAnswer)},
    scope=READ,
)
_PUBLISH = operation(
    summary="Publish a ruleset; a published version never changes",
    body=forms.PublishForm,
    answers={201: Answer(description="Published, not active", model=forms.PublishedAnswer)},
    problems=[RulesetRefused, RulesetVersionTaken, CodeSetTaken],
    scope=MANAGE,
    idempotent=True,
)
_DIFF = operation(
    summary="What differs from another version to this one",
    answers={200: Answer(description="Row by row", model=forms.DiffAnswer)},
    problems=[*_UNKNOWN, ValidationFailed],
    parameters=forms.parameters_of(forms.AgainstQuery),
    scope=READ,
)
_ACTIVATE = operation(
    summary="Let a version decide, from now on",
    body=forms.ReasonForm,
    examples=_REASON,
    answers={200: Answer(description="What decides now", model=forms.TrafficAnswer)},
    problems=[*_UNKNOWN, ActivationInThePast],
    scope=MANAGE,
    idempotent=True,
)
_ROLL_BACK = operation(
    summary="Let the version before the active one decide again, in one step",
    body=forms.RollBackForm,
    examples={"only version 2": {"reason": "it denies everything", "expected": "card-eligibility-2"}},
    answers={200: Answer(description="What was rolled back", model=forms.RolledBackAnswer)},
    problems=[RulesetLabelInvalid, NotTheActiveVersion, NothingToRollBackTo],
    scope=MANAGE,
    idempotent=True,
)
_TRAFFIC = operation(
    summary="What decides, watches and challenges now",
    answers={200: Answer(description="The versions", model=forms.TrafficAnswer)},
    problems=_NAMELESS,
    scope=READ,
)
_HISTORY = operation(
    summary="What was done, by whom and why, newest first",
    answers={200: Answer(description="A page", model=forms.HistoryAnswer)},
    problems=[RulesetLabelInvalid, ValidationFailed],
    parameters=forms.parameters_of(forms.HistoryQuery),
    scope=READ,
)
_DECISIONS = operation(
    summary="The decisions that a version made",
    answers={200: Answer(description="A page", model=forms.TouchedAnswer)},
    problems=[RulesetLabelInvalid, ValidationFailed],
    parameters=forms.parameters_of(forms.PageQuery),
    scope=READ,
)
_SHADOW = operation(
    summary="Let a version watch: it is evaluated beside the active one and decides nothing",
    body=forms.ReasonForm,
    examples=_REASON,
    answers={200: Answer(description="What watches now", model=forms.TrafficAnswer)},
    problems=[*_UNKNOWN, NoActiveRuleset, NotTriedOnApplications],
    scope=MANAGE,
    idempotent=True,
)
_SHADOW_REPORT = operation(
    summary="How far the shadow agrees, and where not",
    answers={
        200: Answer(description="Rates, matrix, differing applications", model=forms.RulesetReportAnswer)
    },
    problems=[*_NAMELESS, NothingTried, NotTriedOnApplications, ValidationFailed],
    parameters=forms.parameters_of(forms.ShadowQuery),
    scope=READ,
)
_SPLIT = operation(
    summary="Let a version decide a share of the applications, always the same ones",
    body=forms.SplitForm,
    examples={"five percent": {"reason": "a trial", "basis_points": 500}},
    answers={200: Answer(description="What challenges now", model=forms.TrafficAnswer)},
    problems=[*_UNKNOWN, NoActiveRuleset, NotTriedOnApplications],
    scope=MANAGE,
    idempotent=True,
)
_SPLIT_REPORT = operation(
    summary="What each arm of the split decided",
    answers={200: Answer(description="A line for each arm and version", model=forms.RulesetReportAnswer)},
    problems=[*_NAMELESS, NothingTried, NotTriedOnApplications, ValidationFailed],
    parameters=forms.parameters_of(forms.TrialQuery),
    scope=READ,
)
_STOP = operation(
    summary="End it: nothing watches, or nothing challenges, any more",
    body=forms.ReasonForm,
    examples=_REASON,
    answers={200: Answer(description="What is left", model=forms.TrafficAnswer)},
    problems=_NAMELESS,
    scope=MANAGE,
    idempotent=True,
)
_BACKTEST = operation(
    summary="What a version would have decided, on a part of the past",
    answers={200: Answer(description="Matrix, rates, reasons, a sample", model=forms.RulesetReportAnswer)},
    problems=[*_UNKNOWN, NotTriedOnApplications, ValidationFailed],
    parameters=forms.parameters_of(forms.BacktestQuery),
    scope=READ,
)


def ruleset_routes(*, credit: CreditApi, authenticator: Authenticator, clock: Clock) -> APIRouter:
    """Return the routes of operators for rulesets."""
    router = make_router(tags=["rulesets"])
    looks, acts = _Looks(credit, authenticator), _Acts(credit, authenticator, clock)
    router.get(_ALL, **_LIST)(looks.list)
    router.post(_ALL, **_PUBLISH)(acts.publish)
    router.post(_ALL + "/check", **_CHECK)(looks.check)
    router.get(_LABEL, **_SHOW)(looks.show)
    router.get(_LABEL + "/diff", **_DIFF)(looks.diff)
    router.get(_LABEL + "/decisions", **_DECISIONS)(looks.decisions)
    router.get(_LABEL + "/backtest", **_BACKTEST)(looks.backtest)
    router.post(_LABEL + "/activate", **_ACTIVATE)(acts.activate)
    router.post(_LABEL + "/shadow", **_SHADOW)(acts.shadow)
    router.post(_LABEL + "/split", **_SPLIT)(acts.split)
    router.get(_NAME + "/traffic", **_TRAFFIC)(looks.traffic)
    router.get(_NAME + "/history", **_HISTORY)(looks.history)
    router.post(_NAME + "/rollback", **_ROLL_BACK)(acts.roll_back)
    router.get(_NAME + "/shadow/report", **_SHADOW_REPORT)(looks.shadow_report)
    router.post(_NAME + "/shadow/stop", **_STOP)(acts.stop_shadow)
    router.get(_NAME + "/split/report", **_SPLIT_REPORT)(looks.split_report)
    router.post(_NAME + "/split/stop", **_STOP)(acts.stop_split)
    return router


class _Looks:
    """The endpoints that change nothing."""

    def __init__(self, credit: CreditApi, authenticator: Authenticator) -> None:
        self._credit = credit
        self._may_read: Requirement = authenticator.require(READ)

    async def _query(self, request: Request, query: type[Query]) -> Query:
        await self._may_read(request)
        return validate(query, dict(request.query_params))

    async def list(self, request: Request) -> Response:
        query = await self._query(request, forms.NameQuery)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            found = await desk.versions(conn, name=query.name)
        return _json(forms.VersionListAnswer(rulesets=[forms.VersionAnswer.model_validate(v) for v in found]))

    async def show(self, request: Request) -> Response:
        await self._may_read(request)
        label, desk = request.path_params["label"], self._credit.rules
        async with desk.database.connection() as conn:
            document = await desk.document(conn, label)
        return _json(forms.DocumentAnswer(label=label, document=dict(document)))

    async def check(self, request: Request) -> Response:
        await self._may_read(request)
        form = validate(forms.CheckForm, await read_json(request))
        findings = forms.FindingAnswer.all_of(self._credit.rules.check(form.document))
        is_sound = not any(finding.severity == "error" for finding in findings)
        return _json(forms.CheckAnswer(may_be_published=is_sound, findings=findings))

    async def diff(self, request: Request) -> Response:
        query = await self._query(request, forms.AgainstQuery)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            diff = await desk.diff(conn, query.against, request.path_params["label"])
        return _json(forms.DiffAnswer.model_validate(diff.document()))

    async def traffic(self, request: Request) -> Response:
        await self._may_read(request)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            return _json(forms.TrafficAnswer.model_validate(await desk.traffic(conn, _name(request))))

    async def history(self, request: Request) -> Response:
        query = await self._query(request, forms.HistoryQuery)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            found = await desk.history(conn, _name(request), before_id=query.before, limit=query.limit)
        entries = [forms.HistoryEntry.model_validate(entry) for entry in found]
        following = entries[-1].id if len(entries) == query.limit else None
        return _json(forms.HistoryAnswer(entries=entries, next=following))

    async def decisions(self, request: Request) -> Response:
        query = await self._query(request, forms.PageQuery)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            label = request.path_params["label"]
            found = await desk.touched(conn, label, after=query.after_decision, limit=query.limit)
        entries = [forms.TouchedEntry.model_validate(decision) for decision in found]
        last = entries[-1] if len(entries) == query.limit else None
        following = f"{last.application_id}/{last.version}" if last else None
        return _json(forms.TouchedAnswer(decisions=entries, next=following))

    async def shadow_report(self, request: Request) -> Response:
        query = await self._query(request, forms.ShadowQuery)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            report = await desk.shadow_report(
                conn,
                _name(request),
                label=query.version,
                since=query.since,
                limit=query.limit,
                after_id=query.after,
            )
        return _json(forms.RulesetReportAnswer(ruleset_version=report.about, report=dict(report.document)))

    async def split_report(self, request: Request) -> Response:
        query = await self._query(request, forms.TrialQuery)
        desk = self._credit.rules
        async with desk.database.connection() as conn:
            report = await desk.split_report(conn, _name(request), label=query.version, since=query.since)
        return _json(forms.RulesetReportAnswer(ruleset_version=report.about, report=dict(report.document)))

    async def backtest(self, request: Request) -> Response:
        query = await self._query(request, forms.BacktestQuery)
        period = Period.of(
            since=query.since,
            until=query.until,
            basis_points=query.basis_points,
            decisions_max=query.limit,
        )
        label, desk = request.path_params["label"], self._credit.rules
        async with desk.database.connection() as conn:
            candidate = await desk.compiled(conn, label)
        found = await desk.backtest(candidate, period=period)
        return _json(forms.RulesetReportAnswer(ruleset_version=label, report=found.document()))


class _Acts:
    """The endpoints that change something: each answers a key once, and keeps who and why."""

    def __init__(self, credit: CreditApi, authenticator: Authenticator, clock: Clock) -> None:
        self._credit = credit
        self._once = Once(credit=credit, may=authenticator.require(MANAGE), clock=clock)

    async def publish(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.PublishForm, actor: str) -> BaseModel:
            published = await self._credit.rules.publish(conn, form.document, actor=actor, reason=form.reason)
            return forms.PublishedAnswer(
                label=published.version.label,
                **asdict(published.version),
                findings=forms.FindingAnswer.all_of(published.findings),
            )

        return await self._once(request, forms.PublishForm, work, status=201)

    async def activate(self, request: Request) -> Response:
        return await self._set(request, "label", self._credit.rules.activate)

    async def roll_back(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.RollBackForm, actor: str) -> BaseModel:
            desk = self._credit.rules
            done = await desk.roll_back(
                conn, _name(request), expected=form.expected, actor=actor, reason=form.reason
            )
            label = f"{done.name}-{done.from_version}"
            counts = await desk.touched_counts(conn, label, since=done.since)
            return forms.RolledBackAnswer.model_validate({**asdict(done), "decisions": counts})

        return await self._once(request, forms.RollBackForm, work)

    async def shadow(self, request: Request) -> Response:
        return await self._set(request, "label", self._credit.rules.start_shadow)

    async def stop_shadow(self, request: Request) -> Response:
        return await self._set(request, "name", self._credit.rules.stop_shadow)

    async def split(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.SplitForm, actor: str) -> BaseModel:
            traffic = await self._credit.rules.set_split(
                conn,
                request.path_params["label"],
                basis_points=form.basis_points,
                actor=actor,
                reason=form.reason,
            )
            return forms.TrafficAnswer.model_validate(traffic)

        return await self._once(request, forms.SplitForm, work)

    async def stop_split(self, request: Request) -> Response:
        return await self._set(request, "name", self._credit.rules.stop_split)

    async def _set(self, request: Request, part: str, act: Callable[..., Awaitable[Traffic]]) -> Response:
        """Do what needs nothing but a version or a name, and a reason; answer with what decides now."""

        async def work(conn: Connection, form: forms.ReasonForm, actor: str) -> BaseModel:
            traffic = await act(conn, request.path_params[part], actor=actor, reason=form.reason)
            return forms.TrafficAnswer.model_validate(traffic)

        return await self._once(request, forms.ReasonForm, work)


def _name(request: Request) -> str:
    return str(request.path_params["name"])


def _json(value: BaseModel | Any) -> Response:
    return Response(orjson.dumps(value.model_dump(mode="json")), media_type="application/json")
