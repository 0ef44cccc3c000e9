"""Hotel C: JSON, signed by a hash over key, secret and time. A rate says whether it can be held.

A held itinerary is resumed or cancelled by links that came with it, and is rolled back by itself if nobody resumes
it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, ClassVar

from aiohttp import web

from faregate.sandbox.partners.base import Asked, Backstage, Refused, Twin
from faregate.sandbox.partners.bookings import HELD, LIVE, Booking
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

TOLERANCE_S = 300


class HotelC(Twin):
    """Search, look at a rate, book or hold an itinerary, resume and cancel it by its links."""

    name: ClassVar[str] = "hotel_c"

    def __init__(self, backstage: Backstage, *, api_key: str, secret: str) -> None:
        super().__init__(backstage)
        self._key, self._secret = api_key, secret

    def add_routes(self, app: web.Application) -> None:
        to = f"/{self.name}"
        held = self.reference_of_booking("itinerary")
        app.router.add_get(f"{to}/availability", self.reading(lambda _: "search", self._search))
        app.router.add_get(f"{to}/rates/{{rate}}", self.reading(lambda asked: asked.path["rate"], self._rate))
        app.router.add_post(f"{to}/itineraries", self.acting(_reference, self._create))
        app.router.add_get(
            f"{to}/itineraries",
            self.reading(lambda asked: asked.query.get("affiliate_reference_id", ""), self._find),
        )
        app.router.add_put(f"{to}/itineraries/{{itinerary}}", self.acting(held, self._resume))
        app.router.add_delete(f"{to}/itineraries/{{itinerary}}", self.acting(held, self._cancel))

    def authenticate(self, call: Call) -> None:
        scheme, _, given = call.headers.get("Authorization", "").partition(" ")
        parts = dict(part.split("=", 1) for part in given.split(",") if "=" in part)
        timestamp = parts.get("timestamp", "")
        if scheme != "EAN" or not timestamp.isdecimal() or abs(int(timestamp) - call.now) > TOLERANCE_S:
            raise Unauthorised("the time is missing or too far off")
        signature = hashlib.sha512(f"{self._key}{self._secret}{timestamp}".encode()).hexdigest()
        if not same(parts.get("apikey"), self._key) or not same(parts.get("signature"), signature):
            raise Unauthorised("wrong signature")

    def problem(self, status: int, code: str, **more: object) -> Reply:
        return json_reply({"type": code, **more}, status=status)

    def nonsense(self) -> Reply:
        return json_reply({"itineraries": "none"})

    async def _search(self, asked: Asked) -> Reply:
        query = asked.query
        if not query.get("destination") or not query.get("checkin") or not query.get("checkout"):
            raise Refused(400, "incomplete")
        found = offers_for(
            self.name,
            origin="",
            destination=query["destination"],
            on=query["checkin"],
            until=query["checkout"],
        )
        return json_reply({"rates": [self._shown_rate(offer) for offer in found]})

    async def _rate(self, asked: Asked) -> Reply:
        return json_reply({"rate": self._shown_rate(self.offer(asked.path["rate"]))})

    async def _create(self, asked: Asked) -> Reply:
        body = read_json(asked.call.body)
        booking = await self.book(
            text(body, "rate_id"),
            text(body, "affiliate_reference_id"),
            is_held=body.get("hold") is True,
            price_minor=number(body, "expected_total"),
        )
        return json_reply({"itinerary": self._shown(booking)}, status=201)

    async def _find(self, asked: Asked) -> Reply:
        reference = asked.query.get("affiliate_reference_id", "")
        found = self.backstage.bookings.of_reference(self.name, reference, now=self.now())
        shown = [self._shown(booking) for booking in found]
        return json_reply({"affiliate_reference_id": reference, "itineraries": shown})

    async def _resume(self, asked: Asked) -> Reply:
        booking = self._by_link(asked, "resume")
        total = number(read_json(asked.call.body), "expected_total")
        done = await self.confirm(booking.booking_id, price_minor=total)
        return json_reply({"itinerary": self._shown(done)})

    async def _cancel(self, asked: Asked) -> Reply:
        return json_reply(
            {"itinerary": self._shown(await self.cancel(self._by_link(asked, "cancel").booking_id))}
        )

    def _by_link(self, asked: Asked, what: str) -> Booking:
        booking = self.known(asked.path["itinerary"])
        if not same(asked.query.get("token"), self._token(booking, what)):
            raise Refused(403, "wrong_token")
        return booking

    def _token(self, booking: Booking, what: str) -> str:
        return hashlib.sha256(f"{self._secret}{booking.booking_id}{what}".encode()).hexdigest()[:32]

    def _shown(self, booking: Booking) -> Mapping[str, Any]:
        link = f"/itineraries/{booking.booking_id}?token="
        links = {}
        if booking.state == HELD:
            links["resume"] = {"method": "PUT", "href": link + self._token(booking, "resume")}
        if booking.state in LIVE:
            links["cancel"] = {"method": "DELETE", "href": link + self._token(booking, "cancel")}
        return {
            "itinerary_id": booking.booking_id,
            "affiliate_reference_id": booking.reference,
            "status": {"held": "pending", "expired": "rolled_back"}.get(booking.state, booking.state),
            "total": booking.price_minor,
            "currency": booking.currency,
            "hold_expires": _instant(booking.hold_until) if booking.hold_until else None,
            "cancel_penalty": booking.penalty_minor,
            "links": links,
        }

    def _shown_rate(self, offer: SandboxOffer) -> Mapping[str, Any]:
        return {
            "id": offer.id,
            "name": offer.title,
            "total": offer.price_minor,
            "currency": CURRENCY,
            "holdable": offer.is_holdable,
            "expires": _instant(self.now() + OFFER_LIFE_S),
            "cancel_penalty": offer.penalty_minor,
        }


def _reference(asked: Asked) -> str:
    return text(read_json(asked.call.body), "affiliate_reference_id")


def _instant(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat()
