"""Airline A: JSON and a bearer token. Offers expire, orders can be held, cancelling takes a quote and its confirmation.

202 and 500 say nothing of the work. 503 comes before it, and so does 502 with the code `order_not_created`.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import count
from typing import Any, ClassVar

from aiohttp import web

from faregate.sandbox.partners.base import Asked, Backstage, Refused, Twin
from faregate.sandbox.partners.bookings import CONFIRMED, HELD, Booking
from faregate.sandbox.partners.offers import CURRENCY, OFFER_LIFE_S, SandboxOffer, offers_for
from faregate.sandbox.providers.base import (
    Call,
    Reply,
    Unauthorised,
    json_reply,
    number,
    read_json,
    same,
    text,
)

QUOTE_LIFE_S = 600


class AirlineA(Twin):
    """Search, look at an offer, hold an order, pay for it, cancel it in two steps, find it by one's own reference."""

    name: ClassVar[str] = "airline_a"

    def __init__(self, backstage: Backstage, *, token: str) -> None:
        super().__init__(backstage)
        self._authorization = f"Bearer {token}"
        self._quotes: dict[str, tuple[str, int, float]] = {}
        self._latest: dict[str, str] = {}
        self._numbers = count(1)

    def add_routes(self, app: web.Application) -> None:
        to = f"/{self.name}"
        order = self.reference_of_booking("order")
        app.router.add_post(f"{to}/offer-requests", self.reading(lambda _: "search", self._search))
        app.router.add_get(
            f"{to}/offers/{{offer}}", self.reading(lambda asked: asked.path["offer"], self._offer)
        )
        app.router.add_post(f"{to}/orders", self.acting(_reference, self._order))
        app.router.add_get(
            f"{to}/orders", self.reading(lambda asked: asked.query.get("client_reference", ""), self._find)
        )
        app.router.add_post(f"{to}/orders/{{order}}/payments", self.acting(order, self._pay))
        app.router.add_post(f"{to}/order-cancellations", self.reading(self._of_order, self._quote_cancel))
        app.router.add_post(
            f"{to}/order-cancellations/{{quote}}/confirm", self.acting(self._of_quote, self._cancel)
        )

    def authenticate(self, call: Call) -> None:
        if not same(call.headers.get("Authorization"), self._authorization):
            raise Unauthorised("wrong or missing token")

    def problem(self, status: int, code: str, **more: object) -> Reply:
        return json_reply({"error": code, **more}, status=status)

    def nonsense(self) -> Reply:
        return json_reply({"ok": True, "data": [1, 2, 3]})

    async def _search(self, asked: Asked) -> Reply:
        body = read_json(asked.call.body)
        found = offers_for(
            self.name,
            origin=text(body, "origin"),
            destination=text(body, "destination"),
            on=text(body, "departure_date"),
            until="",
        )
        return json_reply({"offers": [self._shown(offer) for offer in found]})

    async def _offer(self, asked: Asked) -> Reply:
        return json_reply({"offer": self._shown(self.offer(asked.path["offer"]))})

    async def _order(self, asked: Asked) -> Reply:
        body = read_json(asked.call.body)
        if body.get("type") not in ("hold", "instant"):
            raise Refused(422, "type_missing")
        booking = await self.book(
            text(body, "offer_id"),
            text(body, "client_reference"),
            is_held=body["type"] == "hold",
            price_minor=number(body, "amount_minor"),
        )
        return json_reply({"order": _order(booking)}, status=201)

    async def _find(self, asked: Asked) -> Reply:
        reference = asked.query.get("client_reference", "")
        found = self.backstage.bookings.of_reference(self.name, reference, now=self.now())
        return json_reply({"client_reference": reference, "orders": [_order(booking) for booking in found]})

    async def _pay(self, asked: Asked) -> Reply:
        amount = number(read_json(asked.call.body), "amount_minor")
        return json_reply({"order": _order(await self.confirm(asked.path["order"], price_minor=amount))})

    async def _quote_cancel(self, asked: Asked) -> Reply:
        booking = self.known(text(read_json(asked.call.body), "order_id"))
        penalty = booking.penalty_minor if booking.state == CONFIRMED else 0
        quote = f"ocq-{next(self._numbers):06d}"
        self._quotes[quote] = (booking.booking_id, penalty, self.now() + QUOTE_LIFE_S)
        self._latest[booking.booking_id] = quote
        return json_reply(
            {
                "cancellation": {
                    "id": quote,
                    "order_id": booking.booking_id,
                    "penalty_minor": penalty,
                    "refund_minor": max(0, booking.paid_minor - penalty),
                    "expires_at": _instant(self.now() + QUOTE_LIFE_S),
                }
            },
            status=201,
        )

    async def _cancel(self, asked: Asked) -> Reply:
        booking_id, penalty, until = self._quotes[asked.path["quote"]]
        if self._latest[booking_id] != asked.path["quote"] or self.now() >= until:
            raise Refused(422, "quote_outdated")
        done = await self.cancel(booking_id)
        return json_reply(
            {"cancellation": {"order_id": booking_id, "penalty_minor": penalty}, "order": _order(done)}
        )

    def _of_order(self, asked: Asked) -> str:
        return self.known(text(read_json(asked.call.body), "order_id")).reference

    def _of_quote(self, asked: Asked) -> str:
        if asked.path["quote"] not in self._quotes:
            raise Refused(404, "no_such_quote")
        return self.known(self._quotes[asked.path["quote"]][0]).reference

    def _shown(self, offer: SandboxOffer) -> Mapping[str, Any]:
        return {
            "id": offer.id,
            "title": offer.title,
            "total_minor": offer.price_minor,
            "currency": CURRENCY,
            "expires_at": _instant(self.now() + OFFER_LIFE_S),
            "requires_instant_payment": not offer.is_holdable,
            "cancellation_penalty_minor": offer.penalty_minor,
        }


def _reference(asked: Asked) -> str:
    return text(read_json(asked.call.body), "client_reference")


def _order(booking: Booking) -> Mapping[str, Any]:
    until = booking.hold_until
    return {
        "id": booking.booking_id,
        "client_reference": booking.reference,
        "status": booking.state,
        "total_minor": booking.price_minor,
        "currency": booking.currency,
        "payment_required_by": _instant(until) if booking.state == HELD and until else None,
        "price_guaranteed_until": _instant(until - 60) if booking.state == HELD and until else None,
        "penalty_minor": booking.penalty_minor,
    }


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
