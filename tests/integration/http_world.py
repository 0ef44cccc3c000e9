"""A small application on real HTTP, with which the tests of the HTTP layer talk."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import aiohttp
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel, ConfigDict, Field
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from faregate.infra.database import DatabaseUnavailable
from faregate.infra.http.app import create_app
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.edge import Limits
from faregate.infra.http.health import Check
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.infra.http.server import serving
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.telemetry.tracing import current_traceparent
from faregate.kernel.errors import ConflictError


class Colour(BaseModel):
    name: str


class Order(BaseModel):
    model_config = ConfigDict(extra="forbid")
    amount: Annotated[int, Field(ge=1)]
    colour: Colour | None = None


class OrderTaken(BaseModel):
    order_id: str


class OrderClosed(ConflictError):
    """The order was closed before."""


ORDER = {"amount": 3, "colour": {"name": "red"}}
DOCUMENTED = operation(
    summary="Order",
    answers={202: Answer(description="Taken", model=OrderTaken, example={"order_id": "o_1"})},
    problems=[OrderClosed],
    body=Order,
    examples={"red": ORDER},
    scope="credit:submit",
    idempotent=True,
)


def orders() -> APIRouter:
    router = make_router(tags=["orders"])

    @router.post("/orders", **DOCUMENTED)
    async def order(request: Request) -> Response:
        body = validate(Order, await read_json(request))
        return Response(body.model_dump_json(), status_code=202, media_type="application/json")

    @router.post("/typed-orders/{shop}")
    async def typed_order(shop: int, order: Order) -> dict[str, Any]:
        return {"shop": shop, "amount": order.amount}

    @router.get("/orders/{order_id}")
    async def one(request: Request) -> Response:
        raise OrderClosed("the order was closed", order_id=request.path_params["order_id"])

    @router.delete("/orders/{order_id}")
    async def cancel(request: Request) -> Response:
        raise OrderClosed("the order was closed", order_id=request.path_params["order_id"])

    @router.post("/orders/open")
    async def reopen(_: Request) -> Response:
        return Response(status_code=204)

    @router.get("/trace")
    async def trace(_: Request) -> Response:
        return Response(current_traceparent() or "")

    return router


def failures() -> APIRouter:
    router = make_router()

    @router.get("/crash")
    async def crash(_: Request) -> Response:
        raise ZeroDivisionError("Jane Doe")

    @router.get("/hang")
    async def hang(_: Request) -> Response:
        await asyncio.Event().wait()
        return Response()

    @router.get("/no-database")
    async def no_database(_: Request) -> Response:
        raise DatabaseUnavailable("gone", retry_after_s=1)

    @router.get("/break-off")
    async def break_off(_: Request) -> Response:
        async def some() -> AsyncIterator[bytes]:
            yield b"x" * 10
            raise OrderClosed("too late for a problem")

        return StreamingResponse(some())

    return router


def make_app(
    *, limits: Limits | None = None, checks: dict[str, Check] | None = None, metrics: Metrics | None = None
) -> FastAPI:
    return create_app(
        title="Orders",
        version="1",
        routers=[orders(), failures()],
        limits=limits,
        checks=checks,
        metrics=metrics,
    )


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[aiohttp.ClientSession]:
    async with serving(app) as url, aiohttp.ClientSession(url) as client:
        yield client
