"""The routes of travel: search, quote, redeem, follow, answer, cancel, and what operators do with what is stuck."""

from __future__ import annotations

import re
from collections.abc import Sequence

from fastapi import APIRouter
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection, DatabaseUnavailable
from faregate.infra.http.acts import REPLAYED, ActEdge, to_json
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.gate import Gate
from faregate.infra.http.openapi import Answer, link, operation
from faregate.infra.http.routing import make_router
from faregate.kernel.clock import Clock
from faregate.travel.api import TravelApi
from faregate.travel.contracts.partners import Offer, OfferGone, PartnerUnavailable
from faregate.travel.contracts.redemptions import MembersUnavailable, Traveller
from faregate.travel.handlers.redeem import (
    CannotBeCancelled,
    MemberMayNotTravel,
    NothingIsStuck,
    NothingToAnswer,
    PartnerNotFound,
    PriceRose,
    StayEndsBeforeItBegins,
    TripInvalid,
)
from faregate.travel.handlers.transfers import TransferPartnerNotFound
from faregate.travel.routes import forms
from faregate.travel.store.redemptions import RedemptionNotFound
from faregate.travel.store.transfers import TransferNotFound

READ_SCOPE, WRITE_SCOPE, OPERATE_SCOPE = "travel:read", "travel:write", "travel:operate"
BASE = "/api/travel"
ALL = f"{BASE}/redemptions"
ONE = ALL + "/{redemption_id}"
_ID = re.compile(forms.REDEMPTION_ID_PATTERN.strip("^$"))
_TRANSFER_ID = re.compile(forms.TRANSFER_ID_PATTERN.strip("^$"))
_RECEIPT = {
    202: Answer(
        description="It goes on by itself",
        model=forms.RedemptionReceiptAnswer,
        headers=REPLAYED,
        links={
            "redemption": link(ONE, redemption_id="redemption_id"),
            "cancel": link(ONE + "/cancel", method="post", redemption_id="redemption_id"),
        },
    )
}

_PARTNERS = operation(
    summary="What each partner can do",
    answers={200: Answer(description="Every partner", model=forms.PartnersAnswer)},
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_FOUND = {200: Answer(description="What was found by the deadline", model=forms.FoundOffersAnswer)}
_SEARCH_FLIGHTS = operation(
    summary="Ask every airline at once; whoever does not answer in time is named",
    body=forms.FlightSearchForm,
    examples={"to Zurich": forms.FLIGHT_EXAMPLE},
    answers=_FOUND,
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_SEARCH_HOTELS = operation(
    summary="Ask every hotel at once; whoever does not answer in time is named",
    body=forms.HotelSearchForm,
    examples={"in Zurich": forms.HOTEL_EXAMPLE},
    answers=_FOUND,
    problems=[StayEndsBeforeItBegins, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_QUOTE = operation(
    summary="Look at an offer again",
    body=forms.QuoteForm,
    examples={"a flight": {"partner": "airline_a", "offer_id": forms.OFFER_ID_EXAMPLE}},
    answers={200: Answer(description="The offer as it stands now", model=forms.OfferAnswer)},
    problems=[PartnerNotFound, OfferGone, PartnerUnavailable, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_REDEEM = operation(
    summary="Book a trip with points: all of it or nothing",
    body=forms.RedeemForm,
    examples={"a flight": forms.REDEEM_EXAMPLE},
    answers=_RECEIPT,
    problems=[
        MemberMayNotTravel,
        TripInvalid,
        PartnerNotFound,
        OfferGone,
        PriceRose,
        PartnerUnavailable,
        MembersUnavailable,
        DatabaseUnavailable,
    ],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_GET = operation(
    summary="A redemption with its time line",
    answers={200: Answer(description="As it stands now", model=forms.RedemptionAnswer)},
    problems=[RedemptionNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_OF_MEMBER = operation(
    summary="The latest hundred redemptions of a member, the newest first",
    answers={200: Answer(description="Without their time lines", model=forms.RedemptionsAnswer)},
    problems=[DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_ANSWER = operation(
    summary="Say yes or no to a new price",
    body=forms.AnswerForm,
    examples={"yes": {"leg": 1, "price_minor": 23650, "accept": True}},
    answers=_RECEIPT,
    problems=[RedemptionNotFound, NothingToAnswer, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_CANCEL = operation(
    summary="Take a redemption back, at the partners' terms",
    answers=_RECEIPT,
    problems=[RedemptionNotFound, CannotBeCancelled, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_TRANSFER = operation(
    summary="Turn points into the units of a partner that is told by file",
    body=forms.PointsTransferForm,
    examples={
        "to miles": {
            "member_id": forms.MEMBER_EXAMPLE,
            "partner": "skymiles",
            "account": "EM123456",
            "points": 3000,
        }
    },
    answers={
        202: Answer(
            description="It goes on by itself",
            model=forms.PointsTransferReceiptAnswer,
            headers=REPLAYED,
            links={"transfer": link(BASE + "/transfers/{transfer_id}", transfer_id="transfer_id")},
        )
    },
    problems=[TransferPartnerNotFound, DatabaseUnavailable],
    scope=WRITE_SCOPE,
    idempotent=True,
    limited=True,
)
_GET_TRANSFER = operation(
    summary="A transfer of points",
    answers={200: Answer(description="As it stands now", model=forms.PointsTransferAnswer)},
    problems=[TransferNotFound, DatabaseUnavailable],
    scope=READ_SCOPE,
    limited=True,
)
_ATTENTION = operation(
    summary="The redemptions that wait for a person, those first that wait longest",
    answers={200: Answer(description="With their time lines", model=forms.RedemptionsAnswer)},
    problems=[DatabaseUnavailable],
    scope=OPERATE_SCOPE,
)
_RETRY = operation(
    summary="Let what is stuck be tried again",
    answers={202: Answer(description="It goes on by itself", model=forms.RedemptionReceiptAnswer)},
    problems=[RedemptionNotFound, NothingIsStuck, DatabaseUnavailable],
    scope=OPERATE_SCOPE,
)


def travel_routes(
    *, travel: TravelApi, authenticator: Authenticator, gate: Gate, clock: Clock, search_s: float
) -> APIRouter:
    """Return the routes of travel. A search answers after `search_s` seconds with what it has."""
    router = make_router(tags=["travel"])
    edge = ActEdge(
        database=travel.database,
        authenticator=authenticator,
        gate=gate,
        clock=clock,
        read_scope=READ_SCOPE,
        write_scope=WRITE_SCOPE,
    )
    reads, acts = _Reads(travel, edge, search_s=search_s), _Acts(travel, edge)
    operators = _Operators(travel, authenticator)
    router.get(f"{BASE}/partners", **_PARTNERS)(reads.partners)
    router.post(f"{BASE}/flight-searches", **_SEARCH_FLIGHTS)(reads.flights)
    router.post(f"{BASE}/hotel-searches", **_SEARCH_HOTELS)(reads.hotels)
    router.post(f"{BASE}/quotes", **_QUOTE)(reads.quote)
    router.post(ALL, **_REDEEM)(acts.redeem)
    router.get(ONE, **_GET)(reads.get)
    router.get(BASE + "/members/{member_id}/redemptions", **_OF_MEMBER)(reads.of_member)
    router.post(ONE + "/answer", **_ANSWER)(acts.answer)
    router.post(ONE + "/cancel", **_CANCEL)(acts.cancel)
    router.post(f"{BASE}/transfers", **_TRANSFER)(acts.transfer)
    router.get(BASE + "/transfers/{transfer_id}", **_GET_TRANSFER)(reads.transfer)
    router.get("/internal/travel/attention", **_ATTENTION)(operators.attention)
    router.post("/internal/travel/redemptions/{redemption_id}/retry", **_RETRY)(operators.retry)
    return router


class _Reads:
    """The endpoints that change nothing of ours."""

    def __init__(self, travel: TravelApi, edge: ActEdge, *, search_s: float) -> None:
        self._travel, self._edge, self._search_s = travel, edge, search_s

    async def partners(self, request: Request) -> Response:
        await self._edge.reader(request)
        about = self._travel.partners
        return to_json(forms.PartnersAnswer(partners=[forms.PartnerAnswer.of(one) for one in about]))

    async def flights(self, request: Request) -> Response:
        return await self._search(request, forms.FlightSearchForm)

    async def hotels(self, request: Request) -> Response:
        return await self._search(request, forms.HotelSearchForm)

    async def _search(
        self, request: Request, form: type[forms.FlightSearchForm] | type[forms.HotelSearchForm]
    ) -> Response:
        await self._edge.reader(request)
        asked = validate(form, await read_json(request))
        found = await self._travel.search(asked.query(), member_id=asked.member_id, within_s=self._search_s)
        return to_json(
            forms.FoundOffersAnswer(offers=[self._offer(one) for one in found.offers], missing=found.missing)
        )

    async def quote(self, request: Request) -> Response:
        await self._edge.reader(request)
        form = validate(forms.QuoteForm, await read_json(request))
        return to_json(self._offer(await self._travel.quote(form.partner, form.offer_id)))

    async def get(self, request: Request) -> Response:
        await self._edge.reader(request)
        return to_json(forms.RedemptionAnswer.of(await self._travel.get(redemption_id_of(request))))

    async def of_member(self, request: Request) -> Response:
        await self._edge.reader(request)
        found = await self._travel.of_member(str(request.path_params["member_id"]))
        return to_json(forms.RedemptionsAnswer(redemptions=[forms.RedemptionAnswer.of(one) for one in found]))

    async def transfer(self, request: Request) -> Response:
        await self._edge.reader(request)
        given = str(request.path_params["transfer_id"])
        if not _TRANSFER_ID.fullmatch(given):
            raise TransferNotFound("there is no transfer of this id")
        return to_json(forms.PointsTransferAnswer.of(await self._travel.transfer(given)))

    def _offer(self, offer: Offer) -> forms.OfferAnswer:
        return forms.OfferAnswer.of(offer, points=self._travel.points_for(offer.price_minor))


class _Acts:
    """The endpoints that change something. Each answers a key once."""

    def __init__(self, travel: TravelApi, edge: ActEdge) -> None:
        self._travel, self._edge = travel, edge

    async def redeem(self, request: Request) -> Response:
        asked: list[tuple[Traveller, Sequence[Offer]]] = []

        async def prepare(form: forms.RedeemForm) -> None:
            asked.append(await self._travel.prepare(form.wanted()))

        async def work(conn: Connection, form: forms.RedeemForm, _: str) -> BaseModel:
            traveller, offers = asked[0]
            begun = await self._travel.begin(conn, form.wanted(), traveller=traveller, offers=offers)
            return forms.RedemptionReceiptAnswer(redemption_id=begun)

        return await self._edge.once(request, forms.RedeemForm, work, status=202, prepare=prepare)

    async def answer(self, request: Request) -> Response:
        redemption_id = redemption_id_of(request)

        async def work(conn: Connection, form: forms.AnswerForm, _: str) -> BaseModel:
            await self._travel.answer(
                conn, redemption_id, leg=form.leg, price_minor=form.price_minor, is_yes=form.accept
            )
            return forms.RedemptionReceiptAnswer(redemption_id=redemption_id)

        return await self._edge.once(request, forms.AnswerForm, work, status=202)

    async def transfer(self, request: Request) -> Response:
        async def work(conn: Connection, form: forms.PointsTransferForm, _: str) -> BaseModel:
            begun = await self._travel.begin_transfer(conn, form.wanted())
            return forms.PointsTransferReceiptAnswer(transfer_id=begun)

        return await self._edge.once(request, forms.PointsTransferForm, work, status=202)

    async def cancel(self, request: Request) -> Response:
        async def work(conn: Connection, _: str) -> BaseModel:
            redemption_id = redemption_id_of(request)
            await self._travel.cancel(conn, redemption_id)
            return forms.RedemptionReceiptAnswer(redemption_id=redemption_id)

        return await self._edge.once_without_body(request, work, status=202)


class _Operators:
    """What people do with redemptions that are stuck."""

    def __init__(self, travel: TravelApi, authenticator: Authenticator) -> None:
        self._travel = travel
        self._may_operate = authenticator.require(OPERATE_SCOPE)

    async def attention(self, request: Request) -> Response:
        await self._may_operate(request)
        found = await self._travel.needing_attention()
        return to_json(forms.RedemptionsAnswer(redemptions=[forms.RedemptionAnswer.of(one) for one in found]))

    async def retry(self, request: Request) -> Response:
        await self._may_operate(request)
        redemption_id = redemption_id_of(request)
        async with self._travel.database.transaction() as conn:
            await self._travel.try_again(conn, redemption_id)
        return Response(
            forms.RedemptionReceiptAnswer(redemption_id=redemption_id).model_dump_json(),
            status_code=202,
            media_type="application/json",
        )


def redemption_id_of(request: Request) -> str:
    """Return the redemption that the path names. Raises RedemptionNotFound."""
    given = str(request.path_params["redemption_id"])
    if not _ID.fullmatch(given):
        raise RedemptionNotFound("there is no redemption of this id")
    return given
