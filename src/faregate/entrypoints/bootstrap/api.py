"""The API process: the routes of every context behind one app."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, FastAPI

import faregate
from faregate.credit.api import CreditApi, ReviewApi
from faregate.credit.routes import (
    CallbackSource,
    application_routes,
    audit_routes,
    callback_routes,
    notice_routes,
    redecision_routes,
    review_routes,
    ruleset_routes,
)
from faregate.entrypoints.bootstrap.credit import credit_api
from faregate.entrypoints.bootstrap.gateway import gateway_desk
from faregate.entrypoints.bootstrap.providers import adapters, provider_session
from faregate.entrypoints.bootstrap.review import count_reviews, review_api
from faregate.entrypoints.bootstrap.site import Site, database_check
from faregate.entrypoints.bootstrap.webhooks import webhooks_api
from faregate.gateway.desk import GatewayDesk
from faregate.gateway.routes import gateway_routes
from faregate.infra.admission import LoopLag
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.http.app import create_app
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.client_limits import READ, SUBMIT, ClientLimits
from faregate.infra.http.edge import Limits
from faregate.infra.http.gate import Gate
from faregate.infra.http.health import METRICS_SCOPE
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.infra.rate import Rate
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.token_bucket import TokenBuckets
from faregate.webhooks.api import Webhooks
from faregate.webhooks.routes import webhook_routes

TITLE = "faregate"
DESCRIPTION = (
    "Credit decisions, real-time fraud scoring and travel loyalty for card issuers.\n\n"
    "Every refusal is a problem (RFC 9457). A method that a path does not have is refused with 405 and `Allow`, "
    "a path that does not exist with 404; neither belongs to any operation below."
)


async def api_app(stack: AsyncExitStack, site: Site) -> FastAPI:
    """Open the API process: the routes of every context behind one app."""
    settings = site.settings
    metrics, lag = Metrics(), LoopLag()
    await stack.enter_async_context(lag.measured())
    credit = await credit_api(stack, site, metrics=metrics, lag=lag)
    gate = Gate(limits=await client_limits(stack, site, metrics=metrics), admission=credit.admission)
    webhooks, desk = await webhooks_api(stack, site), await gateway_desk(stack, site)
    access = await site.database(stack, "access", connections_max=4)
    authenticator = Authenticator(database=access)
    known = adapters(settings, await provider_session(stack))
    sources = {
        "kyc": CallbackSource(
            adapter=known["kyc"], body_secrets=(settings.kyc_callback_secret.get_secret_value().encode(),)
        ),
        "income": CallbackSource(
            adapter=known["income"], webhook_secrets=(settings.income_callback_secret.get_secret_value(),)
        ),
    }
    reviews = review_api(credit, site, known)
    count_reviews(metrics, reviews)
    return create_app(
        title=TITLE,
        version=faregate.__version__,
        description=DESCRIPTION,
        routers=_routers(credit, reviews, webhooks, desk, authenticator, gate, sources),
        metrics=metrics,
        metrics_need=authenticator.require(METRICS_SCOPE),
        checks={"database": database_check(credit.database)},
        limits=Limits(
            body_bytes_max=settings.submit_body_bytes_max, request_s_max=settings.request_time_s_max
        ),
    )


def describe() -> dict[str, Any]:
    """Return the OpenAPI document of the API, without opening anything."""
    nothing: Any = None
    authenticator = Authenticator(database=nothing)
    return create_app(
        title=TITLE,
        version=faregate.__version__,
        description=DESCRIPTION,
        routers=_routers(nothing, _described_reviews(), nothing, nothing, authenticator, nothing, {}),
        metrics_need=authenticator.require(METRICS_SCOPE),
    ).openapi()


async def client_limits(stack: AsyncExitStack, site: Site, *, metrics: Metrics) -> ClientLimits:
    """Open the limits of clients, with buckets that all API processes share."""
    settings, cache = site.settings, await Cache.open(site.valkey_url)
    stack.push_async_callback(cache.close)
    return ClientLimits(
        defaults=default_limits(settings), buckets=TokenBuckets(cache=cache, name="api"), metrics=metrics
    )


def default_limits(settings: Settings) -> Mapping[str, Rate]:
    """Return what holds for a client that has no limits of its own, by policy."""
    return {
        SUBMIT: Rate(per_s=settings.submit_rate_per_s, burst=settings.submit_burst),
        READ: Rate(per_s=settings.read_rate_per_s, burst=settings.read_burst),
    }


def _described_reviews() -> ReviewApi:
    nothing: Any = None
    return ReviewApi(database=nothing, desk=nothing, repulls=nothing, vault=nothing)


def _routers(
    credit: CreditApi,
    reviews: ReviewApi,
    webhooks: Webhooks,
    desk: GatewayDesk,
    authenticator: Authenticator,
    gate: Gate,
    sources: Mapping[str, CallbackSource],
) -> list[APIRouter]:
    clock = SystemClock()
    return [
        application_routes(credit=credit, authenticator=authenticator, gate=gate, clock=clock),
        audit_routes(credit=credit, authenticator=authenticator),
        notice_routes(credit=credit, authenticator=authenticator, gate=gate),
        callback_routes(credit=credit, sources=sources, clock=clock),
        ruleset_routes(credit=credit, authenticator=authenticator, clock=clock),
        redecision_routes(credit=credit, authenticator=authenticator, clock=clock),
        webhook_routes(webhooks=webhooks, authenticator=authenticator, gate=gate),
        review_routes(
            reviews=reviews,
            authenticator=authenticator,
            once=AnswerOnce(database=reviews.database, clock=clock),
        ),
        gateway_routes(desk=desk, authenticator=authenticator),
    ]
