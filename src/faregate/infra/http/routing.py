"""Routers for contexts: FastAPI's routes that read JSON strictly, and a short way for the busiest ones.

An endpoint whose only parameter is the request skips FastAPI's own solving of parameters (half of the
framework's cost); it reads, checks and answers by itself, and `openapi.operation` documents it.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from enum import Enum
from typing import Any

from fastapi import APIRouter
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from faregate.infra.http.body import check_media_type, parse_json

Endpoint = Callable[[Request], Awaitable[Response]]


def make_router(*, prefix: str = "", tags: Sequence[str] = ()) -> APIRouter:
    """Return a router whose routes read JSON strictly. `create_app` takes no other kind."""
    shown: list[str | Enum] = list(tags)
    return APIRouter(prefix=prefix, tags=shown, route_class=StrictRoute)


class StrictRoute(APIRoute):
    """A route that refuses wrong media types, duplicate keys and NaN before FastAPI sees the body."""

    def __init__(self, path: str, endpoint: Callable[..., Any], **settings: Any) -> None:
        super().__init__(path, endpoint, **settings)
        if _takes_request_only(endpoint) and not self.dependencies:
            self.app = _short_way(endpoint)

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return FastAPI's handler behind ours."""
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Response:
            strict = _StrictRequest(request.scope, request.receive)
            if self.body_field is not None and await strict.body():
                check_media_type(strict)
                strict.value = parse_json(await strict.body())
            return await handle(strict)

        return handle_strictly


class _StrictRequest(Request):
    """A request whose body was parsed already."""

    value: Any = None

    async def json(self) -> Any:
        return self.value


def _takes_request_only(endpoint: Callable[..., Any]) -> bool:
    parameters = list(inspect.signature(endpoint, eval_str=True).parameters.values())
    return len(parameters) == 1 and parameters[0].annotation is Request


def _short_way(endpoint: Endpoint) -> ASGIApp:
    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        response = await endpoint(Request(scope, receive))
        await response(scope, receive, send)

    return answer
