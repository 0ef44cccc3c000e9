"""An API process: the routes of every context, or of those that it was started for, behind one app."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
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
from faregate.entrypoints.bootstrap.decisions import known_adapters
from faregate.entrypoints.bootstrap.fraud import fraud_api
from faregate.entrypoints.bootstrap.fraud_events import ingestion_on
from faregate.entrypoints.bootstrap.fraud_rules import rule_routers
from faregate.entrypoints.bootstrap.gateway import gateway_desk
from faregate.entrypoints.bootstrap.members import CONNECTIONS_MAX as MEMBERS_CONNECTIONS_MAX
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.own_key import keep_own_token
from faregate.entrypoints.bootstrap.payments import payments_api, scorer_token
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.review import count_reviews, review_api
from faregate.entrypoints.bootstrap.site import Site, key_rings
from faregate.entrypoints.bootstrap.travel import CONNECTIONS_MAX as TRAVEL_CONNECTIONS_MAX
from faregate.entrypoints.bootstrap.travel import travel_api
from faregate.entrypoints.bootstrap.webhooks import CONNECTIONS_MAX, webhooks_on
from faregate.fraud.api import FraudApi
from faregate.fraud.handlers.ingest import Ingestion
from faregate.fraud.routes import model_routes, scoring_routes
from faregate.fraud.routes.events import event_routes
from faregate.gateway.contracts import Adapter
from faregate.gateway.routes import gateway_routes
from faregate.infra.admission import Admission, LoopLag, Signal, Work
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
from faregate.infra.security.pseudonym import Pseudonyms
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.infra.token_bucket import TokenBuckets
from faregate.members.api import MembersApi
from faregate.members.routes import Edge, household_routes, member_routes
from faregate.payments.api import PaymentsApi
from faregate.payments.routes import (
    CARDS_SCOPE,
    POLICY_SCOPE,
    PaymentsEdge,
    authorisation_routes,
    card_routes,
    policy_routes,
)
from faregate.points.routes import ledger_routes
from faregate.travel.api import TravelApi
from faregate.travel.routes import travel_routes
from faregate.webhooks.routes import webhook_routes

TITLE = "faregate"
DESCRIPTION = (
    "Credit decisions, real-time fraud scoring and travel loyalty for card issuers.\n\n"
    "Every refusal is a problem (RFC 9457). A method that a path does not have is refused with 405 and `Allow`, "
    "a path that does not exist with 404; neither belongs to any operation below."
)


@dataclass(frozen=True, kw_only=True)
class Front:
    """What the routes of a process share: who asks, how much each client may, and how late the event loop is."""

    process: Process
    authenticator: Authenticator
    limits: ClientLimits
    lag: LoopLag


async def api_app(stack: AsyncExitStack, site: Site, contexts: Sequence[str] = ()) -> FastAPI:
    """Open an API process with the routes of these contexts, of all if none is named."""
    settings, process, lag = site.settings, Process(stack, site), LoopLag()
    await stack.enter_async_context(lag.measured())
    authenticator = Authenticator(database=await process.database("access", connections_max=4))
    front = Front(
        process=process,
        authenticator=authenticator,
        limits=await client_limits(stack, site, metrics=process.metrics),
        lag=lag,
    )
    routers = [router for name in contexts or OPENS for router in await OPENS[name](front)]
    return create_app(
        title=TITLE,
        version=faregate.__version__,
        description=DESCRIPTION,
        routers=routers,
        metrics=process.metrics,
        metrics_need=authenticator.require(METRICS_SCOPE),
        checks=process.checks,
        limits=Limits(
            body_bytes_max=settings.submit_body_bytes_max, request_s_max=settings.request_time_s_max
        ),
    )


def describe() -> dict[str, Any]:
    """Return the OpenAPI document of the API, without opening anything."""
    nothing: Any = None
    authenticator = Authenticator(database=nothing)
    reviews = ReviewApi(database=nothing, desk=nothing, repulls=nothing, vault=nothing)
    return create_app(
        title=TITLE,
        version=faregate.__version__,
        description=DESCRIPTION,
        routers=[
            *_credit_routers(nothing, authenticator, nothing, {}),
            webhook_routes(webhooks=nothing, authenticator=authenticator, gate=nothing),
            _review_router(reviews, authenticator),
            gateway_routes(desk=nothing, authenticator=authenticator),
            ledger_routes(points=nothing, authenticator=authenticator, gate=nothing),
            *_member_routers(MembersApi(database=nothing, desk=nothing), authenticator, nothing),
            _travel_router(
                TravelApi(database=nothing, redeeming=nothing, counter=nothing),
                authenticator,
                nothing,
                search_s=0.0,
            ),
            *_fraud_routers(nothing, nothing, authenticator, nothing),
            *rule_routers(nothing, authenticator=authenticator, gate=nothing),
            *_payment_routers(
                PaymentsApi(database=nothing, authoriser=nothing, acts=nothing, desk=nothing, policy=nothing),
                authenticator,
                nothing,
                nothing,
            ),
        ],
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


async def _credit(front: Front) -> list[APIRouter]:
    process = front.process
    credit = await credit_api(
        process.stack,
        process.site,
        database=await process.database("credit"),
        metrics=process.metrics,
        lag=front.lag,
    )
    sources = _callback_sources(process.site.settings, await process.once(known_adapters))
    gate = Gate(limits=front.limits, admission=credit.admission)
    return _credit_routers(credit, front.authenticator, gate, sources)


def _callback_sources(settings: Settings, known: Mapping[str, Adapter]) -> dict[str, CallbackSource]:
    return {
        "kyc": CallbackSource(
            adapter=known["kyc"], body_secrets=(settings.kyc_callback_secret.get_secret_value().encode(),)
        ),
        "income": CallbackSource(
            adapter=known["income"], webhook_secrets=(settings.income_callback_secret.get_secret_value(),)
        ),
    }


def _credit_routers(
    credit: CreditApi, authenticator: Authenticator, gate: Gate, sources: Mapping[str, CallbackSource]
) -> list[APIRouter]:
    clock = SystemClock()
    return [
        application_routes(credit=credit, authenticator=authenticator, gate=gate, clock=clock),
        audit_routes(credit=credit, authenticator=authenticator),
        notice_routes(credit=credit, authenticator=authenticator, gate=gate),
        callback_routes(credit=credit, sources=sources, clock=clock),
        ruleset_routes(credit=credit, authenticator=authenticator, clock=clock),
        redecision_routes(credit=credit, authenticator=authenticator, clock=clock),
    ]


async def _webhooks(front: Front) -> list[APIRouter]:
    process = front.process
    database = await process.database("webhooks", connections_max=CONNECTIONS_MAX)
    webhooks = webhooks_on(database, process.site.settings)
    admission = Admission(
        delay_s_max=process.site.settings.admission_delay_s_max,
        signals=[
            Signal(name="event_loop", delay_s=front.lag.standing_s, works=tuple(Work)),
            Signal(name="webhooks_database", delay_s=database.waited_s, works=(Work.LIST,)),
        ],
        metrics=process.metrics,
    )
    gate = Gate(limits=front.limits, admission=admission)
    return [webhook_routes(webhooks=webhooks, authenticator=front.authenticator, gate=gate)]


async def _review(front: Front) -> list[APIRouter]:
    process = front.process
    reviews = review_api(await process.database("credit"), process.site, await process.once(known_adapters))
    count_reviews(process.metrics, reviews)
    return [_review_router(reviews, front.authenticator)]


def _review_router(reviews: ReviewApi, authenticator: Authenticator) -> APIRouter:
    once = AnswerOnce(database=reviews.database, clock=SystemClock())
    return review_routes(reviews=reviews, authenticator=authenticator, once=once)


async def _gateway(front: Front) -> list[APIRouter]:
    process = front.process
    database = await process.database("gateway", connections_max=2)
    desk = await gateway_desk(process.stack, process.site, database=database)
    return [gateway_routes(desk=desk, authenticator=front.authenticator)]


async def _members(front: Front) -> list[APIRouter]:
    process = front.process
    database = await process.database("members", connections_max=MEMBERS_CONNECTIONS_MAX)
    members = members_on(database, process.site.settings)
    admission = Admission(
        delay_s_max=process.site.settings.admission_delay_s_max,
        signals=[
            Signal(name="event_loop", delay_s=front.lag.standing_s, works=tuple(Work)),
            Signal(
                name="members_database",
                delay_s=database.waited_s,
                works=(Work.SUBMIT, Work.DATABASE_READ),
            ),
        ],
        metrics=process.metrics,
    )
    gate = Gate(limits=front.limits, admission=admission)
    return _member_routers(members, front.authenticator, gate)


def _member_routers(members: MembersApi, authenticator: Authenticator, gate: Gate) -> list[APIRouter]:
    edge = Edge(members=members, authenticator=authenticator, gate=gate, clock=SystemClock())
    return [member_routes(edge=edge), household_routes(edge=edge)]


async def _points(front: Front) -> list[APIRouter]:
    process = front.process
    database = await process.database("points")
    points = await points_api(process.stack, process.site, database=database)
    admission = Admission(
        delay_s_max=process.site.settings.admission_delay_s_max,
        signals=[
            Signal(name="event_loop", delay_s=front.lag.standing_s, works=tuple(Work)),
            Signal(name="points_writer", delay_s=points.writer.delay_s, works=(Work.SUBMIT,)),
            Signal(name="points_database", delay_s=database.waited_s, works=(Work.READ, Work.LIST)),
        ],
        metrics=process.metrics,
    )
    gate = Gate(limits=front.limits, admission=admission)
    return [ledger_routes(points=points, authenticator=front.authenticator, gate=gate)]


async def _travel(front: Front) -> list[APIRouter]:
    process, settings = front.process, front.process.site.settings
    database = await process.database("travel", connections_max=TRAVEL_CONNECTIONS_MAX)
    travel = await travel_api(process, database=database)
    admission = Admission(
        delay_s_max=settings.admission_delay_s_max,
        signals=[
            Signal(name="event_loop", delay_s=front.lag.standing_s, works=tuple(Work)),
            Signal(
                name="travel_database", delay_s=database.waited_s, works=(Work.SUBMIT, Work.DATABASE_READ)
            ),
        ],
        metrics=process.metrics,
    )
    gate = Gate(limits=front.limits, admission=admission)
    return [_travel_router(travel, front.authenticator, gate, search_s=settings.travel_search_s)]


def _travel_router(
    travel: TravelApi, authenticator: Authenticator, gate: Gate, *, search_s: float
) -> APIRouter:
    return travel_routes(
        travel=travel, authenticator=authenticator, gate=gate, clock=SystemClock(), search_s=search_s
    )


async def _fraud(front: Front) -> list[APIRouter]:
    process, settings = front.process, front.process.site.settings
    fraud = await fraud_api(process, loop_lag=front.lag)
    admission = Admission(
        delay_s_max=settings.admission_delay_s_max,
        signals=[
            Signal(name="event_loop", delay_s=front.lag.standing_s, works=tuple(Work)),
            Signal(
                name="fraud_database",
                delay_s=fraud.database.waited_s,
                works=(Work.SUBMIT, Work.READ, Work.LIST),
            ),
        ],
        metrics=process.metrics,
    )
    gate = Gate(limits=front.limits, admission=admission)
    ingestion = ingestion_on(fraud.database, settings)
    return [
        *_fraud_routers(fraud, ingestion, front.authenticator, gate),
        *rule_routers(fraud.database, authenticator=front.authenticator, gate=gate),
    ]


def _fraud_routers(
    fraud: FraudApi, ingestion: Ingestion, authenticator: Authenticator, gate: Gate
) -> list[APIRouter]:
    return [
        scoring_routes(fraud=fraud, authenticator=authenticator, gate=gate, clock=SystemClock()),
        model_routes(fraud=fraud, authenticator=authenticator, clock=SystemClock()),
        event_routes(ingestion=ingestion, authenticator=authenticator, gate=gate),
    ]


async def _payments(front: Front) -> list[APIRouter]:
    process, settings = front.process, front.process.site.settings
    payments = await payments_api(process)
    if settings.scorer_key is None:
        await keep_own_token(await process.database("access"), scorer_token(settings))
    admission = Admission(
        delay_s_max=settings.admission_delay_s_max,
        signals=[
            Signal(name="event_loop", delay_s=front.lag.standing_s, works=tuple(Work)),
            Signal(
                name="payments_database",
                delay_s=payments.database.waited_s,
                works=(Work.SUBMIT, Work.DATABASE_READ),
            ),
            Signal(name="payments_writer", delay_s=payments.authoriser.writes.delay_s, works=(Work.SUBMIT,)),
        ],
        metrics=process.metrics,
    )
    gate = Gate(limits=front.limits, admission=admission)
    pseudonyms = Pseudonyms(ring=key_rings(settings)["blind_index"])
    return _payment_routers(payments, front.authenticator, gate, pseudonyms)


def _payment_routers(
    payments: PaymentsApi, authenticator: Authenticator, gate: Gate, pseudonyms: Pseudonyms
) -> list[APIRouter]:
    def edge(**scopes: str) -> PaymentsEdge:
        return PaymentsEdge(
            payments=payments,
            authenticator=authenticator,
            gate=gate,
            clock=SystemClock(),
            pseudonyms=pseudonyms,
            **scopes,
        )

    return [
        authorisation_routes(edge=edge()),
        card_routes(edge=edge(write_scope=CARDS_SCOPE)),
        policy_routes(edge=edge(write_scope=POLICY_SCOPE)),
    ]


OPENS: Mapping[str, Callable[[Front], Awaitable[list[APIRouter]]]] = {
    "credit": _credit,
    "webhooks": _webhooks,
    "review": _review,
    "gateway": _gateway,
    "members": _members,
    "points": _points,
    "travel": _travel,
    "fraud": _fraud,
    "payments": _payments,
}
