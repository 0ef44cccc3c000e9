"""The app factory: one FastAPI app out of routers, with problems, limits, health and documentation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import psycopg
import structlog
from fastapi import APIRouter, FastAPI
from fastapi.exceptions import RequestValidationError
from fastapi.telemetry import TelemetryConfig
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp

from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.authentication import Requirement
from faregate.infra.http.body import validation_failed
from faregate.infra.http.edge import Edge, Limits
from faregate.infra.http.health import Check, health_router
from faregate.infra.http.openapi import Answer, describe_api, operation
from faregate.infra.http.problems import (
    MethodNotAllowed,
    ProblemUnknown,
    RequestRefused,
    RouteNotFound,
    problem_page,
    problem_response,
)
from faregate.infra.http.routing import StrictRoute, make_router
from faregate.infra.telemetry.metrics import HttpMetrics, Metrics
from faregate.kernel.errors import FaregateError

# FastAPI's own spans and metrics are off: `Edge` makes ours, and theirs cost every request a look-up.
_NO_TELEMETRY: TelemetryConfig = {"tracing": False, "metrics": False, "logs": False}

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    *,
    title: str,
    version: str,
    routers: Sequence[APIRouter],
    description: str = "",
    lifespan: Lifespan | None = None,
    checks: Mapping[str, Check] | None = None,
    metrics: Metrics | None = None,
    metrics_need: Requirement | None = None,
    limits: Limits | None = None,
    access_log: bool = True,
) -> FastAPI:
    """Return the app. Routers come from `make_router`, with their dependencies already in their closures.

    `checks` are what `/readyz` asks; `metrics_need` puts a scope on `/metrics`.
    """
    metrics = metrics or Metrics()
    app = FastAPI(
        title=title,
        version=version,
        description=description,
        lifespan=lifespan,
        redirect_slashes=False,
        telemetry=_NO_TELEMETRY,
    )
    health = health_router(checks=checks or {}, metrics=metrics, metrics_need=metrics_need)
    app.router.routes[:0] = _routes_of([*routers, health, _problem_router()])
    app.add_middleware(_edge, metrics=HttpMetrics(metrics), limits=limits or Limits(), access_log=access_log)
    _handle_errors(app)
    app.openapi = lambda: _document_once(app)  # type: ignore[method-assign]  # FastAPI's documented way
    return app


def _edge(app: ASGIApp, /, **settings: Any) -> Edge:
    return Edge(app=app, **settings)


def _routes_of(routers: Sequence[APIRouter]) -> list[BaseRoute]:
    """The routes themselves, for the front of the app's own list: `include_router` costs a request ~70 µs."""
    routes = [route for router in routers for route in router.routes]
    for route in routes:
        if not isinstance(route, StrictRoute):
            raise TypeError(f"routers come from make_router; {route} does not")
    return routes


def _problem_router() -> APIRouter:
    router = make_router(tags=["operations"])
    page = Answer(description="A page for people", media_type="text/html")
    documented = operation(
        summary="What a problem means and what to do", answers={200: page}, problems=[ProblemUnknown]
    )
    router.get("/problems/{slug}", **documented)(problem_page)
    return router


def _document_once(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        app.openapi_schema = describe_api(app)
    return app.openapi_schema


def _handle_errors(app: FastAPI) -> None:
    @app.exception_handler(FaregateError)
    async def expected(request: Request, error: FaregateError) -> Response:
        return problem_response(error, request.scope)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return problem_response(validation_failed(error.errors()), request.scope)

    @app.exception_handler(psycopg.OperationalError)
    async def database_down(request: Request, error: psycopg.OperationalError) -> Response:
        structlog.get_logger().warning("database failed", error=type(error).__name__, sqlstate=error.sqlstate)
        unavailable = DatabaseUnavailable("the database did not answer", retry_after_s=1)
        return problem_response(unavailable, request.scope)

    @app.exception_handler(HTTPException)
    async def by_framework(request: Request, error: HTTPException) -> Response:
        response = problem_response(_framework_error(error), request.scope)
        response.headers.update(error.headers or {})
        if error.status_code == 405:
            response.headers["Allow"] = ", ".join(sorted(_methods_of(request)))
        return response


def _methods_of(request: Request) -> set[str]:
    """The methods of a path, over all its routes: the framework only knows those of the first.

    Where a path is written out and is also another one's parameter, it is the one that is written out.
    """
    routes = [route for route in request.app.routes if isinstance(route, Route)]
    matching = [route for route in routes if route.path_regex.match(request.scope["path"])]
    nearest = min(matching, key=lambda route: len(route.param_convertors)).path
    return {method for route in matching if route.path == nearest for method in route.methods or ()}


def _framework_error(error: HTTPException) -> FaregateError:
    if error.status_code == 404:
        return RouteNotFound("no route has this path")
    if error.status_code == 405:
        return MethodNotAllowed("the path exists, but not with this method")
    return RequestRefused(str(error.detail))
