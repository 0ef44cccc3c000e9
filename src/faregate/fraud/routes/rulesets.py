"""The routes of operators for rules of fraud that are tried. They are published under `/internal/rulesets`."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.fraud.handlers.desks import FraudDesks
from faregate.fraud.handlers.trying import BEGINNING, END, NothingWatched, NotOfFraud, Period
from faregate.fraud.routes import rule_forms as forms
from faregate.infra.http.acts import to_json
from faregate.infra.http.authentication import Authenticator, Requirement
from faregate.infra.http.body import ValidationFailed, validate
from faregate.infra.http.openapi import Answer, operation, query_parameters
from faregate.infra.http.routing import make_router
from faregate.rules.ruleset import RulesetLabelInvalid
from faregate.rules.store import RulesetVersionNotFound

SCOPE = "rules:read"
_ALL = "/internal/fraud/rulesets"
_UNKNOWN = [RulesetLabelInvalid, RulesetVersionNotFound, NotOfFraud]

_SHADOW = operation(
    summary="How far the rules that watch agree with those that decide, and where not",
    parameters=query_parameters(forms.FraudShadowQuery),
    answers={200: Answer(description="Rate, matrix, what differs", model=forms.FraudRulesReport)},
    problems=[*_UNKNOWN, NothingWatched, ValidationFailed],
    scope=SCOPE,
)
_SHARES = operation(
    summary="What each version decided, and which of that turned out to be fraud",
    parameters=query_parameters(forms.PeriodQuery),
    answers={200: Answer(description="By version, action and truth", model=forms.FraudRulesReport)},
    problems=[ValidationFailed],
    scope=SCOPE,
)
_BACKTEST = operation(
    summary="What a version makes of decided payments: confusion by number and by amount",
    parameters=query_parameters(forms.FraudBacktestQuery),
    answers={200: Answer(description="Matrix, rates, rules", model=forms.FraudRulesReport)},
    problems=[*_UNKNOWN, ValidationFailed],
    scope=SCOPE,
)


def rule_routes(*, desks: FraudDesks, authenticator: Authenticator) -> APIRouter:
    """Return the routes for rules that are tried."""
    router = make_router(tags=["rulesets"])
    edge = _Edge(desks, authenticator.require(SCOPE))
    router.get(_ALL + "/shadow", **_SHADOW)(edge.shadow)
    router.get(_ALL + "/decided", **_SHARES)(edge.decided)
    router.get(_ALL + "/{label}/backtest", **_BACKTEST)(edge.backtest)
    return router


class _Edge:
    """The endpoints: they change nothing."""

    def __init__(self, desks: FraudDesks, may: Requirement) -> None:
        self._desks, self._may = desks, may

    async def shadow(self, request: Request) -> Response:
        await self._may(request)
        query = validate(forms.FraudShadowQuery, dict(request.query_params))
        async with self._desks.database.connection() as conn:
            found = await self._desks.trials.shadow_report(
                conn,
                label=query.version,
                since=query.since or BEGINNING,
                until=query.until or END,
                now=self._desks.clock.now(),
            )
        return to_json(forms.FraudRulesReport(report=dict(found)))

    async def decided(self, request: Request) -> Response:
        await self._may(request)
        query = validate(forms.PeriodQuery, dict(request.query_params))
        async with self._desks.database.connection() as conn:
            found = await self._desks.trials.share_report(
                conn, since=query.since or BEGINNING, until=query.until or END
            )
        return to_json(forms.FraudRulesReport(report=dict(found)))

    async def backtest(self, request: Request) -> Response:
        await self._may(request)
        query = validate(forms.FraudBacktestQuery, dict(request.query_params))
        async with self._desks.database.connection() as conn:
            ruleset = await self._desks.trials.ruleset(conn, str(request.path_params["label"]))
        period = Period(since=query.since or BEGINNING, until=query.until or END, payments_max=query.limit)
        found = await self._desks.trials.on_decisions(
            ruleset, period=period, only_labelled=query.only_labelled
        )
        return to_json(forms.FraudRulesReport(report=dict(found)))
