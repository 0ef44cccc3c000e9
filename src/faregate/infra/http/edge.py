"""The one middleware: request id, trace, size and time limits, metrics, access log, last resort for errors.

One pure ASGI middleware and not six, because each of them would cost every request.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass

import structlog
from opentelemetry.trace import SpanKind
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from faregate.infra.http.body import BODY_BYTES_MAX, BodyTooLarge
from faregate.infra.http.problems import (
    REQUEST_ID,
    InternalError,
    RequestTimedOut,
    RouteNotFound,
    problem_response,
)
from faregate.infra.telemetry.logs import current_request_id, log_request
from faregate.infra.telemetry.metrics import HttpMetrics
from faregate.infra.telemetry.tracing import root_context, start_span
from faregate.kernel.errors import FaregateError

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_OWN_ID = re.compile(r"[a-z]{2,8}_[0-9A-Z]{26}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_UNMATCHED = "unmatched"  # one label and no path: what a client makes up is neither counted nor logged
_ADDED_HEADERS = "faregate.added_headers"
_QUIET_ROUTES = frozenset({"/healthz", "/readyz", "/metrics"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one request may take. The time runs until the answer begins."""

    body_bytes_max: int = BODY_BYTES_MAX
    request_s_max: float = 10.0


def add_header(request: Request, name: str, value: str) -> None:
    """Add a header field to whatever answer this request will get, a problem included."""
    added = request.scope.setdefault(_ADDED_HEADERS, [])
    added.append((name.lower().encode(), value.encode("latin-1")))


@dataclass(frozen=True, slots=True, kw_only=True)
class Edge:
    """What the middleware needs, the same for all requests."""

    app: ASGIApp
    metrics: HttpMetrics
    limits: Limits = Limits()
    access_log: bool = True
    random: Callable[[int], bytes] = os.urandom

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request; let everything else (lifespan) pass."""
        if scope["type"] == "http":
            await _Exchange(self, scope, receive, send).run()
        else:
            await self.app(scope, receive, send)


class _Exchange:
    """One request on its way through."""

    __slots__ = (
        "_body_bytes",
        "_deadline",
        "_declared_bytes",
        "_edge",
        "_receive",
        "_request_id",
        "_scope",
        "_send",
        "_status",
        "_traceparent",
    )

    def __init__(self, edge: Edge, scope: Scope, receive: Receive, send: Send) -> None:
        self._edge, self._scope, self._receive, self._send = edge, scope, receive, send
        self._status = 0  # none sent yet
        self._body_bytes = self._declared_bytes = 0
        self._traceparent: str | None = None
        self._request_id = b""
        self._deadline: asyncio.Timeout | None = None
        self._read_headers()

    async def run(self) -> None:
        """Answer it, whatever happens, and tell metrics and log."""
        begin_s = time.perf_counter()
        request_id = self._request_id.decode()
        self._scope[REQUEST_ID] = request_id
        token = current_request_id.set(request_id)
        parent = root_context(self._traceparent, random=self._edge.random)
        attributes: dict[str, str | bool | int | float] = {"http.request.method": self._scope["method"]}
        try:
            with start_span(parent, "http request", kind=SpanKind.SERVER, attributes=attributes) as span:
                try:
                    await self._answer()
                finally:
                    if span.is_recording():
                        span.update_name(f"{self._scope['method']} {self._route()}")
                        span.set_attribute("http.response.status_code", self._status)
                    self._tell(time.perf_counter() - begin_s)
        finally:
            current_request_id.reset(token)

    def _read_headers(self) -> None:
        for name, value in self._scope["headers"]:
            if name == b"content-length" and value.isdigit():
                self._declared_bytes = int(value)
            elif name == b"traceparent":
                self._traceparent = value.decode("latin-1")
            elif name == b"x-request-id" and _REQUEST_ID.fullmatch(value):
                self._request_id = value
        if not self._request_id:
            self._request_id = b"req_" + self._edge.random(10).hex().encode()

    async def _answer(self) -> None:
        limit_s = self._edge.limits.request_s_max
        try:
            if "\0" in self._scope["path"]:  # no id has one, and PostgreSQL refuses to be asked
                raise RouteNotFound("no route has this path")
            async with asyncio.timeout(limit_s) as self._deadline:
                await self._edge.app(self._scope, self._read, self._write)
        except TimeoutError as error:
            if self._deadline is not None and self._deadline.expired():
                structlog.get_logger().warning("request timed out", route=self._route(), limit_s=limit_s)
                await self._fail(RequestTimedOut(f"no answer within {limit_s:g} s", retry_after_s=1))
            else:
                await self._crashed(error)
        except FaregateError as error:
            await self._fail(error)
        except Exception as error:  # noqa: BLE001  # the last resort: the client gets a problem, the log the crash
            await self._crashed(error)

    async def _crashed(self, error: Exception) -> None:
        structlog.get_logger().error("request crashed", route=self._route(), exc_info=error)
        await self._fail(InternalError("the request could not be answered"))

    async def _fail(self, error: FaregateError) -> None:
        if self._status:  # an answer has begun; only breaking it off tells the client that it is not whole
            raise error
        self._deadline = None  # it has passed or no longer counts: the problem itself must get out
        await problem_response(error, self._scope)(self._scope, self._receive, self._write)

    async def _read(self) -> Message:
        limit = self._edge.limits.body_bytes_max
        if self._declared_bytes > limit:
            raise BodyTooLarge(f"a body may have {limit} bytes", bytes_max=limit)
        message = await self._receive()
        if message["type"] == "http.request":
            self._body_bytes += len(message.get("body", b""))
            if self._body_bytes > limit:
                raise BodyTooLarge(f"a body may have {limit} bytes", bytes_max=limit)
        return message

    async def _write(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self._status = message["status"]
            added = self._scope.get(_ADDED_HEADERS, ())
            own = (b"x-request-id", self._request_id)
            message["headers"] = [*message.get("headers", ()), own, *added]
            if self._deadline is not None:
                self._deadline.reschedule(None)
        await self._send(message)

    def _route(self) -> str:
        route = self._scope.get("route")
        return getattr(route, "path", _UNMATCHED)

    def _own_path(self, route: str) -> str | None:
        """The path, if nothing in it is of the client's making: whatever else stands for an id may be a person."""
        given = self._scope.get("path_params", {}).values()
        is_own = route != _UNMATCHED and all(_OWN_ID.fullmatch(str(value)) for value in given)
        return self._scope["path"] if is_own else None

    def _tell(self, duration_s: float) -> None:
        route, method = self._route(), self._scope["method"]
        self._edge.metrics.observe(
            method=method if method in _METHODS else "OTHER",
            route=route,
            status=self._status,
            duration_s=duration_s,
        )
        if self._edge.access_log and (route not in _QUIET_ROUTES or self._status >= 500):
            log_request(
                method=method,
                route=route,
                path=self._own_path(route),
                status=self._status,
                duration_s=duration_s,
            )
