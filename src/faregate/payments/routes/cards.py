"""The routes of cards: issue, read, block, limits, numbers."""

from __future__ import annotations

import re

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection, DatabaseUnavailable
from faregate.infra.http.acts import REPLAYED, to_json
from faregate.infra.http.body import ValidationFailed, validate
from faregate.infra.http.openapi import Answer, link, operation, query_parameters
from faregate.infra.http.routing import make_router
from faregate.payments.contracts.cards import NewCard
from faregate.payments.domain.cards import (
    CardActRefused,
    CardNotFound,
    CardNumberInvalid,
    CardNumberTaken,
    LimitsInvalid,
    checked_number,
)
from faregate.payments.routes import forms
from faregate.payments.routes.edge import CARDS_SCOPE, READ_SCOPE, Id, PaymentsEdge
from faregate.payments.routes.forms import CardAnswer

ALL = "/api/payments/cards"
ONE = ALL + "/{card_token}"
_TOKEN = re.compile(forms.CARD_TOKEN_PATTERN.removeprefix("^").removesuffix("$"))
_NOW = {200: Answer(description="As it is now", model=CardAnswer, headers=REPLAYED)}

_ISSUE = operation(
    summary="Issue a card to a member",
    body=forms.CardForm,
    examples={"by product": {"member_id": "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R", "product": "cashback_card"}},
    answers={
        201: Answer(
            description="Issued",
            model=CardAnswer,
            headers=REPLAYED,
            links={"card": link(ONE, card_token="card_token")},  # noqa: S106 - the name of a field
        )
    },
    problems=[LimitsInvalid, DatabaseUnavailable],
    scope=CARDS_SCOPE,
    idempotent=True,
    limited=True,
)
_LIST = operation(
    summary="A member's cards, oldest first",
    answers={200: Answer(description="All of them", model=forms.CardsAnswer)},
    problems=[ValidationFailed, DatabaseUnavailable],
    parameters=query_parameters(forms.CardsQuery),
    scope=READ_SCOPE,
    limited=True,
)
_GET = operation(
    summary="A card",
    answers={200: Answer(description="As it is now", model=CardAnswer)},
    problems=[CardNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_RECORD = operation(
    summary="What was done to a card, oldest first",
    answers={200: Answer(description="All of it", model=forms.CardRecordAnswer)},
    problems=[CardNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_STATUS = operation(
    summary="Block, unblock or close a card",
    body=forms.CardStatusForm,
    examples={"stolen": {"act": "block", "reason": "reported as stolen"}},
    answers=_NOW,
    problems=[CardNotFound, CardActRefused, DatabaseUnavailable],
    scope=CARDS_SCOPE,
    idempotent=True,
    limited=True,
)
_LIMITS = operation(
    summary="Replace a card's limits",
    body=forms.LimitsForm,
    examples={"in dollars": forms.LIMITS_EXAMPLE},
    answers=_NOW,
    problems=[CardNotFound, LimitsInvalid, DatabaseUnavailable],
    scope=CARDS_SCOPE,
    idempotent=True,
    limited=True,
)
_NUMBER = operation(
    summary="Give a card its number, or another one; it is kept nowhere",
    body=forms.CardNumberForm,
    examples={"of the test range": {"card_number": "9999990000000006"}},
    answers=_NOW,
    problems=[CardNotFound, CardNumberInvalid, CardNumberTaken, DatabaseUnavailable],
    scope=CARDS_SCOPE,
    idempotent=True,
    limited=True,
)


def card_routes(*, edge: PaymentsEdge) -> APIRouter:
    """Return the routes of cards."""
    router = make_router(tags=["cards"])
    payments, desk = edge.payments, edge.payments.desk

    @router.post(ALL, **_ISSUE)
    async def issue(request: Request) -> Response:
        async def work(conn: Connection, form: forms.CardForm, by: str) -> CardAnswer:
            new = NewCard(
                member_id=form.member_id,
                product=form.product,
                limits=None if form.limits is None else [limit.limit() for limit in form.limits],
            )
            return CardAnswer.of(await desk.issue(conn, new, by=by))

        return await edge.once(request, forms.CardForm, work, status=201)

    @router.get(ALL, **_LIST)
    async def of_member(request: Request) -> Response:
        await edge.reader(request)
        query = validate(forms.CardsQuery, dict(request.query_params), strict=False)
        found = await payments.cards(query.member_id)
        return to_json(forms.CardsAnswer(cards=[CardAnswer.of(card) for card in found]))

    @router.get(ONE, **_GET)
    async def read(request: Request) -> Response:
        token = _token(request)
        await edge.reader(request)
        return to_json(CardAnswer.of(await payments.card(_card(token))))

    @router.get(ONE + "/record", **_RECORD)
    async def record(request: Request) -> Response:
        token = _token(request)
        await edge.reader(request)
        card = await payments.card(_card(token))
        entries = [forms.CardRecordEntryAnswer.of(entry) for entry in await payments.card_record(card.token)]
        return to_json(forms.CardRecordAnswer(entries=entries))

    _add_changes(router, edge)
    return router


def _add_changes(router: APIRouter, edge: PaymentsEdge) -> None:
    desk = edge.payments.desk

    @router.post(ONE + "/status", **_STATUS)
    async def set_status(request: Request) -> Response:
        token = _token(request)

        async def work(conn: Connection, form: forms.CardStatusForm, by: str) -> CardAnswer:
            done = await desk.set_status(conn, _card(token), form.act, reason=form.reason, by=by)
            return CardAnswer.of(done)

        return await edge.once(request, forms.CardStatusForm, work)

    @router.post(ONE + "/limits", **_LIMITS)
    async def set_limits(request: Request) -> Response:
        token = _token(request)

        async def work(conn: Connection, form: forms.LimitsForm, by: str) -> CardAnswer:
            limits = [limit.limit() for limit in form.limits]
            return CardAnswer.of(await desk.set_limits(conn, _card(token), limits, by=by))

        return await edge.once(request, forms.LimitsForm, work)

    @router.post(ONE + "/number", **_NUMBER)
    async def give_number(request: Request) -> Response:
        token = _token(request)

        async def work(conn: Connection, form: forms.CardNumberForm, by: str) -> CardAnswer:
            number = checked_number(form.card_number)
            return CardAnswer.of(await desk.give_number(conn, _card(token), number, by=by))

        return await edge.once(
            request, forms.CardNumberForm, work, hashed=lambda form: desk.stand_in(form.card_number)
        )


def _token(request: Request) -> Id:
    """Return the card that the path names, as the first thing of all."""
    return Id.of(request, "card_token", _TOKEN)


def _card(token: Id) -> str:
    if token.given is None:
        raise CardNotFound("there is no card of this token")
    return token.given
