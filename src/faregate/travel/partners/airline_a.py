"""Airline A: JSON and a bearer token. Orders are held, then paid; a cancellation is quoted, then confirmed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import aiohttp
import orjson
from pydantic import AwareDatetime, Field
from yarl import URL

from faregate.gateway.exchange import Answer, Documented, expect_reference
from faregate.kernel.outcome import NotDone, Outcome, Unknown
from faregate.travel.contracts.partners import (
    Act,
    Booking,
    BookingState,
    Offer,
    PartnerCapabilities,
    SearchQuery,
    TravelKind,
)
from faregate.travel.partners.common import PartnerAdapter, Sent, cancelled, not_begun

NAME: Final = "airline_a"


class _Offer(Documented):
    id: str
    title: str
    total_minor: int = Field(ge=0)
    currency: str
    expires_at: AwareDatetime = Field(strict=False)
    requires_instant_payment: bool
    cancellation_penalty_minor: int = Field(ge=0)

    def clean(self) -> Offer:
        return Offer(
            partner=NAME,
            offer_id=self.id,
            kind=TravelKind.FLIGHT,
            title=self.title,
            price_minor=self.total_minor,
            currency=self.currency,
            expires_at=self.expires_at,
            is_holdable=not self.requires_instant_payment,
            penalty_minor=self.cancellation_penalty_minor,
        )


class _Order(Documented):
    id: str
    client_reference: str
    status: BookingState = Field(strict=False)
    total_minor: int = Field(ge=0)
    currency: str
    payment_required_by: AwareDatetime | None = Field(strict=False)
    price_guaranteed_until: AwareDatetime | None = Field(strict=False)
    penalty_minor: int = Field(ge=0)

    def clean(self) -> Booking:
        ends: list[datetime] = [end for end in (self.payment_required_by, self.price_guaranteed_until) if end]
        return Booking(
            state=self.status,
            booking_id=self.id,
            price_minor=self.total_minor,
            currency=self.currency,
            hold_until=min(ends, default=None),
            penalty_minor=self.penalty_minor,
        )


class _Offers(Documented):
    offers: Sequence[_Offer]


class _OneOffer(Documented):
    offer: _Offer


class _OneOrder(Documented):
    order: _Order


class _Orders(Documented):
    client_reference: str
    orders: Sequence[_Order]


class _Cancellation(Documented):
    id: str
    penalty_minor: int = Field(ge=0)


class _Quoted(Documented):
    cancellation: _Cancellation


class _Refusal(Documented):
    error: str
    price_minor: int | None = None


class AirlineA(PartnerAdapter):
    """Speaks airline A's protocol. A price is guaranteed for a shorter time than the order: the earlier end counts."""

    about = PartnerCapabilities(
        partner=NAME,
        title="Airline A",
        kind=TravelKind.FLIGHT,
        protocol="json",
        authentication="bearer token",
        is_holdable=True,
        lapses=True,
        cancels_in_two_steps=True,
        finds_by_reference=True,
        deduplicates=False,
        checks_price=False,
    )

    def __init__(
        self, *, session: aiohttp.ClientSession, base_url: str, token: str, **options: float
    ) -> None:
        super().__init__(session=session, base_url=base_url, **options)
        self._headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}

    def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:  # noqa: ARG002 - a token is enough
        """Return the token."""
        return self._headers

    async def offers(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Search."""
        wanted = {
            "origin": query.origin,
            "destination": query.destination,
            "departure_date": query.on.isoformat(),
        }
        sent = await self.ask("POST", "/offer-requests", timeout_s=timeout_s, body=orjson.dumps(wanted))
        return [one.clean() for one in self.read(sent, _Offers.model_validate_json).offers]

    async def offer(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Look at one offer."""
        sent = await self.ask("GET", f"/offers/{offer_id}", timeout_s=timeout_s)
        return self.read(sent, _OneOffer.model_validate_json).offer.clean()

    async def act(self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Hold, pay, buy at once, or cancel."""
        if act in (Act.RELEASE, Act.CANCEL):
            return await self._cancel(reference, subject, timeout_s=timeout_s / 2)
        price = subject["price_minor"]
        if act is Act.CONFIRM:
            path, body = f"/orders/{subject['booking_id']}/payments", {"amount_minor": price}
        else:
            path, body = (
                "/orders",
                {
                    "type": "hold" if act is Act.PLACE else "instant",
                    "offer_id": subject["offer_id"],
                    "client_reference": reference,
                    "passenger": subject["traveller"],
                    "amount_minor": price,
                },
            )
        sent = await self.ask("POST", path, timeout_s=timeout_s, body=orjson.dumps(body))
        if isinstance(sent, Answer) and sent.status == 502 and self._says_not_created(sent):
            return NotDone("order_not_created", retryable=True)
        return self.acted(sent, lambda answer: _order(answer, reference))

    async def bookings(self, reference: str, *, timeout_s: float) -> Sequence[Booking] | Unknown:
        """List orders by our reference."""
        sent = await self.ask("GET", "/orders", timeout_s=timeout_s, client_reference=reference)

        def read(body: bytes) -> Sequence[Booking]:
            listed = _Orders.model_validate_json(body)
            if {listed.client_reference, *(one.client_reference for one in listed.orders)} != {reference}:
                raise ValueError("the answer is about another booking")
            return [one.clean() for one in listed.orders]

        return self.found(sent, read)

    def refusal(self, body: bytes) -> tuple[str, int | None]:
        """Return the code of a refusal and the price that it names."""
        said = _Refusal.model_validate_json(body)
        return said.error, said.price_minor

    async def _cancel(self, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Ask what it costs; if that is not more than agreed, confirm that very quote, which is the latest."""
        body = orjson.dumps({"order_id": subject["booking_id"]})
        sent = await self.ask("POST", "/order-cancellations", timeout_s=timeout_s, body=body)
        quote = _quote_of(sent)
        if quote is None:
            return not_begun(sent)
        if quote.penalty_minor > subject["penalty_minor"]:
            return NotDone("penalty_changed")
        path = f"/order-cancellations/{quote.id}/confirm"
        sent = await self.ask("POST", path, timeout_s=timeout_s, body=b"{}")
        return self.acted(sent, lambda answer: cancelled(_order(answer, reference)))

    def _says_not_created(self, sent: Answer) -> bool:
        try:
            return self.refusal(sent.body)[0] == "order_not_created"
        except ValueError:
            return False


def _order(body: bytes, reference: str) -> Booking:
    order = _OneOrder.model_validate_json(body).order
    expect_reference(order.client_reference, ours=reference)
    return order.clean()


def _quote_of(sent: Sent) -> _Cancellation | None:
    if not isinstance(sent, Answer) or sent.status != 201:
        return None
    try:
        return _Quoted.model_validate_json(sent.body).cancellation
    except ValueError:
        return None
