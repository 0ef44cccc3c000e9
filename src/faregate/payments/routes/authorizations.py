"""The routes of payments: authorise, read, capture, reverse, refund."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.admission import Overloaded
from faregate.infra.database import Connection, DatabaseUnavailable
from faregate.infra.http.acts import REPLAYED
from faregate.infra.http.authentication import Caller
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.client_limits import RateLimited
from faregate.infra.http.idempotency import fingerprint, read_key
from faregate.infra.http.idempotency_store import Attempt as KeyAttempt
from faregate.infra.http.idempotency_store import Fresh, KeyScope, StoredResponse, check_attempts
from faregate.infra.http.idempotent_route import response_of, to_http
from faregate.infra.http.openapi import Answer, link, operation
from faregate.infra.http.routing import make_router
from faregate.infra.security.pseudonym import AddressInvalid
from faregate.kernel.errors import FaregateError, InvalidError
from faregate.payments.api import METHOD, ROUTE, PaymentExists, PaymentsApi, payment_document
from faregate.payments.contracts.payments import Attempt, Payment
from faregate.payments.domain.cards import CardNumberInvalid
from faregate.payments.domain.lifecycle import (
    AuthorisationExpired,
    CaptureTooLarge,
    PaymentNotAuthorised,
    PaymentNotCaptured,
    PaymentNotFound,
    RefundTooLarge,
)
from faregate.payments.routes import forms
from faregate.payments.routes.edge import AUTHORISE_SCOPE, READ_SCOPE, WRITE_SCOPE, Id, PaymentsEdge
from faregate.payments.routes.forms import AuthorisationAnswer, AuthorisationForm

AHEAD: Final = timedelta(seconds=60)
FIRST: Final = datetime(1970, 1, 1, tzinfo=UTC)
ONE = ROUTE + "/{payment_id}"
_PAYMENT_ID = re.compile(r"pay_[0-9A-Z]{26}")


class AttemptInFuture(InvalidError):
    """The payment lies more than a minute in the future: one of the two clocks is wrong.

    Send it with the instant at which it was tried.
    """


class AttemptBeforeTime(InvalidError):
    """The payment lies before 1970."""


_LINKS = {
    name: link(f"{ONE}{path}", method=method, payment_id="payment_id")
    for name, path, method in (
        ("payment", "", "get"),
        ("capture", "/capture", "post"),
        ("reversal", "/reversal", "post"),
    )
}
_AUTHORISE = operation(
    summary="Decide a payment: authorised or declined",
    body=AuthorisationForm,
    examples={"online": forms.ATTEMPT_EXAMPLE},
    answers={
        201: Answer(
            description="Decided, and kept",
            model=AuthorisationAnswer,
            headers={"Location": "Where the payment is", **REPLAYED},
            links=_LINKS,
        )
    },
    problems=[
        CardNumberInvalid,
        AddressInvalid,
        AttemptInFuture,
        AttemptBeforeTime,
        PaymentExists,
        DatabaseUnavailable,
    ],
    scope=AUTHORISE_SCOPE,
    idempotent=True,
    limited=True,
)
_GET = operation(
    summary="How a payment stands, and what it was decided by",
    answers={200: Answer(description="As it is now", model=AuthorisationAnswer)},
    problems=[PaymentNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_CAPTURE = operation(
    summary="Take what is authorised, or a part of it; the rest is released",
    body=forms.CaptureForm,
    examples={"all": {}, "a part": {"amount_minor": 4_000}},
    answers={200: Answer(description="Captured", model=AuthorisationAnswer, headers=REPLAYED)},
    problems=[
        PaymentNotFound,
        PaymentNotAuthorised,
        AuthorisationExpired,
        CaptureTooLarge,
        DatabaseUnavailable,
    ],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_REVERSE = operation(
    summary="Withdraw an authorisation of which nothing was captured",
    answers={200: Answer(description="Withdrawn", model=AuthorisationAnswer, headers=REPLAYED)},
    problems=[PaymentNotFound, PaymentNotAuthorised, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_REFUND = operation(
    summary="Give back what was captured, or a part of it",
    body=forms.RefundForm,
    examples={"a part": {"amount_minor": 1_000}},
    answers={201: Answer(description="Given back", model=forms.RefundAnswer, headers=REPLAYED)},
    problems=[PaymentNotFound, PaymentNotCaptured, RefundTooLarge, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)


def authorisation_routes(*, edge: PaymentsEdge) -> APIRouter:
    """Return the routes of payments. Another client's payment is not found."""
    router = make_router(tags=["payments"])
    payments = edge.payments

    @router.post(ROUTE, **_AUTHORISE)
    async def authorise(request: Request) -> Response:
        caller = await edge.may_authorise(request)
        body = await read_json(request)
        key = read_key(request)
        form = validate(AuthorisationForm, body)
        now = edge.clock.now()
        _check_time(form, now=now)
        ip_token = None if form.ip is None else edge.pseudonyms.address(form.ip)
        token = await _token(payments, form)
        keyed = _keyed(caller, key, body, token)
        try:
            await edge.enter(request, caller)
        except (RateLimited, Overloaded) as refusal:
            return await _known(edge, keyed, refusal)
        answer = await payments.authorise(keyed, _attempt(form, token, ip_token, now=now))
        if isinstance(answer, Fresh):
            raise ValueError("a fresh attempt has an answer of its own")
        return to_http(answer) if isinstance(answer, StoredResponse) else response_of(answer)

    @router.get(ONE, **_GET)
    async def read(request: Request) -> Response:
        payment_id = _id(request)
        caller = await edge.reader(request)
        payment = await payments.payment(_payment(payment_id), client_id=caller.client_id)
        return Response(orjson.dumps(payment_document(payment)), media_type="application/json")

    _add_acts(router, edge)
    return router


def _add_acts(router: APIRouter, edge: PaymentsEdge) -> None:
    acts = edge.payments.acts

    @router.post(ONE + "/capture", **_CAPTURE)
    async def capture(request: Request) -> Response:
        payment_id = _id(request)

        async def work(conn: Connection, form: forms.CaptureForm, by: str) -> AuthorisationAnswer:
            done = await acts.capture(
                conn, _payment(payment_id), amount_minor=form.amount_minor, client_id=_client(by)
            )
            return _answer(done)

        return await edge.once(request, forms.CaptureForm, work)

    @router.post(ONE + "/reversal", **_REVERSE)
    async def reverse(request: Request) -> Response:
        payment_id = _id(request)

        async def work(conn: Connection, by: str) -> AuthorisationAnswer:
            return _answer(await acts.reverse(conn, _payment(payment_id), client_id=_client(by)))

        return await edge.once_without_body(request, work)

    @router.post(ONE + "/refunds", **_REFUND)
    async def refund(request: Request) -> Response:
        payment_id = _id(request)

        async def work(conn: Connection, form: forms.RefundForm, by: str) -> forms.RefundAnswer:
            done, refund_id = await acts.refund(
                conn, _payment(payment_id), amount_minor=form.amount_minor, client_id=_client(by), by=by
            )
            return forms.RefundAnswer(refund_id=refund_id, payment=_answer(done))

        return await edge.once(request, forms.RefundForm, work, status=201)


def _check_time(form: AuthorisationForm, *, now: datetime) -> None:
    if form.occurred_at is None:
        return
    if form.occurred_at > now + AHEAD:
        raise AttemptInFuture("occurred_at lies more than a minute ahead")
    if form.occurred_at < FIRST:
        raise AttemptBeforeTime("occurred_at lies before 1970")


async def _token(payments: PaymentsApi, form: AuthorisationForm) -> str | None:
    """Return the card that is meant, None if there is no such card. Its number goes no further than this."""
    if form.card_number is not None:
        return await payments.token_of(form.card_number)
    if form.member_id is not None:
        return await payments.paying_card(form.member_id, form.currency)
    return form.card_token


def _keyed(caller: Caller, key: str, body: Any, token: str | None) -> KeyAttempt:
    """Return the request under its key. What is hashed names the card by its token: a number would be found again."""
    content = {**body, "card_number": token} if "card_number" in body else body
    scope = KeyScope(caller.client_id, METHOD, ROUTE, key)
    return KeyAttempt(scope, fingerprint(method=METHOD, route=ROUTE, body=content))


async def _known(edge: PaymentsEdge, keyed: KeyAttempt, refusal: FaregateError) -> Response:
    """Answer a known key although the client or the service is at its limit."""
    async with edge.database.transaction() as conn:
        [state] = await check_attempts(conn, [keyed])
    if isinstance(state, Fresh):
        raise refusal
    return response_of(state)


def _attempt(form: AuthorisationForm, token: str | None, ip_token: str | None, *, now: datetime) -> Attempt:
    return Attempt(
        card_token=token,
        member_id=form.member_id,
        amount_minor=form.amount_minor,
        currency=form.currency,
        merchant=form.merchant,
        merchant_category=form.merchant_category,
        channel=form.channel,
        country=form.country,
        terminal_id=form.terminal_id,
        device_id=form.device_id,
        ip=form.ip,
        ip_token=ip_token,
        occurred_at=form.occurred_at or now,
    )


def _answer(payment: Payment) -> AuthorisationAnswer:
    return AuthorisationAnswer.model_validate(payment_document(payment))


def _id(request: Request) -> Id:
    """Return the payment that the path names, as the first thing of all."""
    return Id.of(request, "payment_id", _PAYMENT_ID)


def _payment(payment_id: Id) -> str:
    if payment_id.given is None:
        raise PaymentNotFound("there is no payment of this id")
    return payment_id.given


def _client(by: str) -> str:
    return by.removeprefix("client:")
