"""Hotel D: JSON and an API key. It books at once, after a check of the rate; there is no hold.

400 and 500 say nothing of the work: whoever sends the same request again may book twice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from aiohttp import web

from faregate.sandbox.partners.base import Asked, Backstage, Twin
from faregate.sandbox.partners.bookings import Booking
from faregate.sandbox.partners.offers import CURRENCY, offers_for
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


class HotelD(Twin):
    """Search, check a rate, book, cancel, list by one's own reference."""

    name: ClassVar[str] = "hotel_d"

    def __init__(self, backstage: Backstage, *, api_key: str) -> None:
        super().__init__(backstage)
        self._api_key = api_key

    def add_routes(self, app: web.Application) -> None:
        to = f"/{self.name}"
        app.router.add_post(f"{to}/availability", self.reading(lambda _: "search", self._search))
        app.router.add_post(f"{to}/check-rates", self.reading(_rate, self._check))
        app.router.add_post(f"{to}/bookings", self.acting(_reference, self._book))
        app.router.add_get(
            f"{to}/bookings", self.reading(lambda asked: asked.query.get("clientReference", ""), self._list)
        )
        app.router.add_delete(
            f"{to}/bookings/{{booking}}", self.acting(self.reference_of_booking("booking"), self._cancel)
        )

    def authenticate(self, call: Call) -> None:
        if not same(call.headers.get("Api-Key"), self._api_key):
            raise Unauthorised("wrong or missing key")

    def problem(self, status: int, code: str, **more: object) -> Reply:
        return json_reply({"error": {"code": code, **more}}, status=status)

    def nonsense(self) -> Reply:
        return json_reply({"auditData": {}, "hotels": 3})

    async def _search(self, asked: Asked) -> Reply:
        body = read_json(asked.call.body)
        found = offers_for(
            self.name,
            origin="",
            destination=text(body, "destination"),
            on=text(body, "checkIn"),
            until=text(body, "checkOut"),
            instant_only=True,
        )
        rates = [
            {
                "rateKey": offer.id,
                "name": offer.title,
                "net": offer.price_minor,
                "currency": CURRENCY,
                "rateType": "RECHECK",
                "cancellationAmount": offer.penalty_minor,
            }
            for offer in found
        ]
        return json_reply({"rates": rates})

    async def _check(self, asked: Asked) -> Reply:
        offer = self.offer(text(read_json(asked.call.body), "rateKey"))
        rate = {
            "rateKey": offer.id,
            "name": offer.title,
            "net": self.price_of(offer, offer.id),
            "currency": CURRENCY,
            "rateType": "BOOKABLE",
            "cancellationAmount": offer.penalty_minor,
        }
        return json_reply({"rate": rate})

    async def _book(self, asked: Asked) -> Reply:
        body = read_json(asked.call.body)
        booking = await self.book(
            text(body, "rateKey"),
            text(body, "clientReference"),
            is_held=False,
            price_minor=number(body, "net"),
        )
        return json_reply({"booking": _shown(booking)})

    async def _list(self, asked: Asked) -> Reply:
        reference = asked.query.get("clientReference", "")
        found = self.backstage.bookings.of_reference(self.name, reference, now=self.now())
        return json_reply({"clientReference": reference, "bookings": [_shown(booking) for booking in found]})

    async def _cancel(self, asked: Asked) -> Reply:
        return json_reply({"booking": _shown(await self.cancel(asked.path["booking"]))})


def _rate(asked: Asked) -> str:
    return text(read_json(asked.call.body), "rateKey")


def _reference(asked: Asked) -> str:
    return text(read_json(asked.call.body), "clientReference")


def _shown(booking: Booking) -> Mapping[str, Any]:
    return {
        "reference": booking.booking_id,
        "clientReference": booking.reference,
        "status": booking.state.upper(),
        "totalNet": booking.price_minor,
        "currency": booking.currency,
        "cancellationAmount": booking.penalty_minor,
    }
