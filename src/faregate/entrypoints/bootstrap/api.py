"""The API process: the routes of every context behind one app."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AsyncExitStack
from typing import Any

from fastapi import APIRouter, FastAPI

import faregate
from faregate.credit.api import CreditApi
from faregate.credit.routes import CallbackSource, application_routes, audit_routes, callback_routes
from faregate.entrypoints.bootstrap.credit import credit_api
from faregate.entrypoints.bootstrap.providers import adapters, provider_session
from faregate.entrypoints.bootstrap.site import Site, database_check
from faregate.entrypoints.bootstrap.webhooks import webhooks_api
from faregate.infra.clock import SystemClock
from faregate.infra.http.app import create_app
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.edge import Limits
from faregate.infra.http.health import METRICS_SCOPE
from faregate.webhooks.api import Webhooks
from faregate.webhooks.routes import webhook_routes

TITLE = "faregate"
DESCRIPTION = "Credit decisions, real-time fraud scoring and travel loyalty for card issuers."


async def api_app(stack: AsyncExitStack, site: Site) -> FastAPI:
    """Open the API process: the routes of every context behind one app."""
    settings = site.settings
    credit = await credit_api(stack, site)
    webhooks = await webhooks_api(stack, site)
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
    return create_app(
        title=TITLE,
        version=faregate.__version__,
        description=DESCRIPTION,
        routers=_routers(credit, webhooks, authenticator, sources),
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
        routers=_routers(nothing, nothing, authenticator, {}),
        metrics_need=authenticator.require(METRICS_SCOPE),
    ).openapi()


def _routers(
    credit: CreditApi,
    webhooks: Webhooks,
    authenticator: Authenticator,
    sources: Mapping[str, CallbackSource],
) -> list[APIRouter]:
    clock = SystemClock()
    return [
        application_routes(credit=credit, authenticator=authenticator, clock=clock),
        audit_routes(credit=credit, authenticator=authenticator),
        callback_routes(credit=credit, sources=sources, clock=clock),
        webhook_routes(webhooks=webhooks, authenticator=authenticator),
    ]
