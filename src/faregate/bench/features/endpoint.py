"""A small server that answers the features of a payment over HTTP: ours in a form that can be held against a peer's.

python -m faregate.bench.features.endpoint SOCKET PORT
"""

from __future__ import annotations

import asyncio
import sys
from datetime import datetime
from typing import Any

import orjson
from fastapi import APIRouter
from pydantic import AwareDatetime, BaseModel, ConfigDict
from starlette.requests import Request
from starlette.responses import Response

from faregate.bench.features.workload import Asked
from faregate.features.keeping import live_features
from faregate.features.online import OnlineFeatures
from faregate.infra.cache import Cache
from faregate.infra.http.app import create_app
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.routing import make_router
from faregate.infra.http.server import listen, serving

PATH = "/features"


class PaymentForm(BaseModel):
    """A payment whose features are wanted."""

    model_config = ConfigDict(extra="forbid")

    payment_id: str
    at: AwareDatetime
    amount_minor: int
    merchant: str
    merchant_category: int
    card_token: str
    member_id: str
    terminal_id: str
    device_id: str
    ip_token: str
    country: str

    def asked(self) -> Asked:
        """Return the payment."""
        at: datetime = self.at
        return Asked(**self.model_dump(exclude={"at"}), at=at)


def routes(features: OnlineFeatures) -> APIRouter:
    """Return the one route: a payment has its effect, and its features are the answer."""
    router = make_router()

    @router.post(PATH)
    async def of_payment(request: Request) -> Response:
        payment = validate(PaymentForm, await read_json(request)).asked()
        observed = await features.observe(payment.fact())
        answer: dict[str, Any] = {"status": observed.status.name, "features": dict(observed.values or {})}
        return Response(orjson.dumps(answer), media_type="application/json")

    return router


async def serve(socket: str, port: int) -> None:
    """Serve until the process is ended."""
    cache = await Cache.open(f"unix://{socket}", request_timeout_ms=5_000)
    features = live_features(cache)
    await features.load()
    app = create_app(title="features", version="1", routers=[routes(features)])
    async with serving(app, listener=listen(port=port)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], int(sys.argv[2])))
