"""The routes with which clients manage their webhook endpoints. Another client's endpoint is not found."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Sequence

import orjson
from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.admission import Work
from faregate.infra.database import Connection
from faregate.infra.http.authentication import Authenticator, Caller
from faregate.infra.http.body import ValidationFailed, read_json, validate
from faregate.infra.http.client_limits import READ, SUBMIT
from faregate.infra.http.gate import Gate
from faregate.infra.http.idempotency_store import StoredResponse
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.infra.http.openapi import Answer, operation
from faregate.infra.http.routing import make_router
from faregate.webhooks.api import (
    DeliveryNotFound,
    EndpointIsDisabled,
    EndpointNotFound,
    EndpointUrlRefused,
    EventTypeUnknown,
    TooManyEndpoints,
    Webhooks,
)
from faregate.webhooks.contracts import Delivery, EndpointWithSecret
from faregate.webhooks.forms import (
    DELIVERY_PARAMETERS,
    ENDPOINT_EXAMPLE,
    DeliveryAnswer,
    DeliveryListAnswer,
    DeliveryQuery,
    EndpointAnswer,
    EndpointChangesForm,
    EndpointForm,
    EndpointListAnswer,
    EndpointSecretAnswer,
)

SCOPE = "webhooks:manage"
_ALL = "/api/webhook-endpoints"
_ONE = _ALL + "/{endpoint_id}"
_DELIVERIES = _ONE + "/deliveries"
_ID = re.compile(r"[a-z]{3}_[0-9A-Za-z]{1,64}")
_JSON = (("content-type", "application/json"),)
_REPLAYED = {"Idempotent-Replayed": "`true` for a repeated request"}

_CREATE = operation(
    summary="Subscribe an endpoint to events; the answer shows its secret once",
    body=EndpointForm,
    examples={"decisions": ENDPOINT_EXAMPLE},
    answers={201: Answer(description="Subscribed", model=EndpointSecretAnswer, headers=_REPLAYED)},
    problems=[EndpointUrlRefused, EventTypeUnknown, TooManyEndpoints],
    scope=SCOPE,
    idempotent=True,
    limited=True,
)
_LIST = operation(
    summary="Your endpoints, oldest first",
    answers={200: Answer(description="All of them", model=EndpointListAnswer)},
    scope=SCOPE,
    limited=True,
)
_GET = operation(
    summary="One endpoint",
    answers={200: Answer(description="As it is now", model=EndpointAnswer)},
    problems=[EndpointNotFound],
    scope=SCOPE,
    limited=True,
)
_CHANGE = operation(
    summary="Change an endpoint, or start and stop its deliveries",
    body=EndpointChangesForm,
    examples={"stop": {"enabled": False}},
    answers={200: Answer(description="As it is now", model=EndpointAnswer)},
    problems=[EndpointNotFound, EndpointUrlRefused, EventTypeUnknown],
    scope=SCOPE,
    limited=True,
)
_DELETE = operation(
    summary="Unsubscribe: the endpoint goes with its secrets and deliveries",
    answers={204: Answer(description="It is gone")},
    problems=[EndpointNotFound],
    scope=SCOPE,
    limited=True,
)
_ROTATE = operation(
    summary="A new secret; the one before signs along for a while",
    answers={
        200: Answer(description="The secret, shown once", model=EndpointSecretAnswer, headers=_REPLAYED)
    },
    problems=[EndpointNotFound],
    scope=SCOPE,
    idempotent=True,
    limited=True,
)
_TEST = operation(
    summary="Send a test message",
    answers={202: Answer(description="On its way", model=DeliveryAnswer, headers=_REPLAYED)},
    problems=[EndpointNotFound, EndpointIsDisabled],
    scope=SCOPE,
    idempotent=True,
    limited=True,
)
_LIST_DELIVERIES = operation(
    summary="What was sent to an endpoint in the last 30 days, newest first",
    answers={200: Answer(description="A page", model=DeliveryListAnswer)},
    problems=[EndpointNotFound, ValidationFailed],
    parameters=DELIVERY_PARAMETERS,
    scope=SCOPE,
    limited=True,
)
_RESEND = operation(
    summary="Send a message again, with its id and a new schedule",
    answers={202: Answer(description="On its way", model=DeliveryAnswer, headers=_REPLAYED)},
    problems=[EndpointNotFound, EndpointIsDisabled, DeliveryNotFound],
    scope=SCOPE,
    idempotent=True,
    limited=True,
)


def webhook_routes(*, webhooks: Webhooks, authenticator: Authenticator, gate: Gate) -> APIRouter:
    """Return the routes of clients."""
    router = make_router(tags=["webhooks"])
    edge = _Edge(webhooks, authenticator, gate)
    router.post(_ALL, **_CREATE)(edge.create)
    router.get(_ALL, **_LIST)(edge.list)
    router.get(_ONE, **_GET)(edge.get)
    router.patch(_ONE, **_CHANGE)(edge.change)
    router.delete(_ONE, **_DELETE)(edge.delete)
    router.post(_ONE + "/rotate-secret", **_ROTATE)(edge.rotate)
    router.post(_ONE + "/test", **_TEST)(edge.test)
    router.get(_DELIVERIES, **_LIST_DELIVERIES)(edge.deliveries)
    router.post(_DELIVERIES + "/{message_id}/resend", **_RESEND)(edge.resend)
    return router


class _Edge:
    """The endpoints of the routes."""

    def __init__(self, webhooks: Webhooks, authenticator: Authenticator, gate: Gate) -> None:
        self._webhooks = webhooks
        self._may_manage = authenticator.require(SCOPE)
        self._gate = gate

    async def _caller(self, request: Request) -> Caller:
        """Return who asks, once the client's limit and the state of the service allow it."""
        caller = await self._may_manage(request)
        policy = READ if request.method == "GET" else SUBMIT
        await self._gate.enter(request, caller=caller, policy=policy, work=Work.LIST)
        return caller

    async def create(self, request: Request) -> Response:
        caller = await self._caller(request)
        body = await read_json(request)
        draft = validate(EndpointForm, body).draft()

        async def work(conn: Connection) -> EndpointWithSecret:
            return await self._webhooks.create(conn, draft, client_id=caller.client_id)

        return await self._show_secret_once(request, caller, body, work, status=201)

    async def list(self, request: Request) -> Response:
        caller = await self._caller(request)
        found = await self._webhooks.endpoints(client_id=caller.client_id)
        return _json(EndpointListAnswer(endpoints=[EndpointAnswer.of(endpoint) for endpoint in found]))

    async def get(self, request: Request) -> Response:
        caller = await self._caller(request)
        found = await self._webhooks.endpoint(_endpoint_id(request), client_id=caller.client_id)
        return _json(EndpointAnswer.of(found))

    async def change(self, request: Request) -> Response:
        caller = await self._caller(request)
        form = validate(EndpointChangesForm, await read_json(request))
        changed = await self._webhooks.change(
            _endpoint_id(request), form.changes(), client_id=caller.client_id
        )
        return _json(EndpointAnswer.of(changed))

    async def delete(self, request: Request) -> Response:
        caller = await self._caller(request)
        await self._webhooks.delete(_endpoint_id(request), client_id=caller.client_id)
        return Response(status_code=204)

    async def rotate(self, request: Request) -> Response:
        caller = await self._caller(request)
        endpoint_id = _endpoint_id(request)

        async def work(conn: Connection) -> EndpointWithSecret:
            return await self._webhooks.rotate_secret(conn, endpoint_id, client_id=caller.client_id)

        return await self._show_secret_once(request, caller, _named(request), work, status=200)

    async def test(self, request: Request) -> Response:
        caller = await self._caller(request)
        endpoint_id = _endpoint_id(request)

        async def work(conn: Connection) -> StoredResponse:
            return _accepted(await self._webhooks.send_test(conn, endpoint_id, client_id=caller.client_id))

        return await self._answer_once(request, caller, _named(request), work)

    async def deliveries(self, request: Request) -> Response:
        caller = await self._caller(request)
        wanted = validate(DeliveryQuery, dict(request.query_params))
        found = await self._webhooks.deliveries(
            _endpoint_id(request),
            client_id=caller.client_id,
            state=wanted.state,
            after=wanted.after,
            limit=wanted.limit,
        )
        return _json(_page(found, limit=wanted.limit))

    async def resend(self, request: Request) -> Response:
        caller = await self._caller(request)
        endpoint_id, message_id = _endpoint_id(request), _message_id(request)

        async def work(conn: Connection) -> StoredResponse:
            sent = await self._webhooks.resend(conn, endpoint_id, message_id, client_id=caller.client_id)
            return _accepted(sent)

        return await self._answer_once(request, caller, _named(request), work)

    async def _answer_once(
        self,
        request: Request,
        caller: Caller,
        body: object,
        work: Callable[[Connection], Awaitable[StoredResponse]],
    ) -> Response:
        answer_once = AnswerOnce(database=self._webhooks.database, clock=self._webhooks.clock)
        return await answer_once(request, caller=caller, body=body, work=work)

    async def _show_secret_once(
        self,
        request: Request,
        caller: Caller,
        body: object,
        work: Callable[[Connection], Awaitable[EndpointWithSecret]],
        *,
        status: int,
    ) -> Response:
        """Answer once, and keep the answer without its secret: what is kept under a key is not encrypted."""
        made: list[EndpointWithSecret] = []

        async def work_without_secret(conn: Connection) -> StoredResponse:
            made.append(await work(conn))
            return StoredResponse(status, _with_secret(made[0], None), _JSON)

        response = await self._answer_once(request, caller, body, work_without_secret)
        if not made:
            return response
        return Response(
            _with_secret(made[0], made[0].secret), status_code=status, media_type="application/json"
        )


def _endpoint_id(request: Request) -> str:
    given = request.path_params["endpoint_id"]
    if not _ID.fullmatch(given):
        raise EndpointNotFound("there is no webhook endpoint of this id")
    return str(given)


def _message_id(request: Request) -> str:
    given = request.path_params["message_id"]
    if not _ID.fullmatch(given):
        raise DeliveryNotFound("the endpoint has no message of this id")
    return str(given)


def _named(request: Request) -> dict[str, str]:
    """What a request without a body is about: its path, which belongs to what a key stands for."""
    return dict(request.path_params)


def _with_secret(made: EndpointWithSecret, secret: str | None) -> bytes:
    shown = EndpointAnswer.of(made.endpoint).model_dump(mode="json")
    return orjson.dumps({**shown, "secret": secret})


def _accepted(delivery: Delivery) -> StoredResponse:
    return StoredResponse(202, DeliveryAnswer.of(delivery).model_dump_json().encode(), _JSON)


def _page(found: Sequence[Delivery], *, limit: int) -> DeliveryListAnswer:
    return DeliveryListAnswer(
        deliveries=[DeliveryAnswer.of(delivery) for delivery in found],
        next=found[-1].message_id if len(found) == limit else None,
    )


def _json(value: BaseModel) -> Response:
    return Response(value.model_dump_json(), media_type="application/json")
