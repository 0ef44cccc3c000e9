"""Hotel D: JSON and an API key. It books at once, after its rate was checked, and is slow.

Neither 400 nor 500 says whether it booked, so nothing is sent again before it was looked for by our reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Final

import aiohttp
import orjson
from pydantic import ConfigDict, Field
from pydantic.alias_generators import to_camel
from yarl import URL

from faregate.gateway.exchange import Documented, expect_reference
from faregate.kernel.clock import Clock
from faregate.kernel.errors import FaregateError
from faregate.kernel.outcome import Done, NotDone, Outcome, Unknown
from faregate.travel.contracts.partners import (
    Act,
    Booking,
    BookingState,
    Offer,
    OfferGone,
    PartnerCapabilities,
    SearchQuery,
    TravelKind,
)
from faregate.travel.partners.common import LIVE, PartnerAdapter, cancelled, judged, not_begun

NAME: Final = "hotel_d"
RATE_LIFE: Final = timedelta(minutes=15)
"""Its rates have no expiry of their own: they are checked before they are booked."""


class _Camel(Documented):
    model_config = ConfigDict(alias_generator=to_camel)


class _Rate(_Camel):
    rate_key: str
    name: str
    net: int = Field(ge=0)
    currency: str
    cancellation_amount: int = Field(ge=0)

    def clean(self, *, now: datetime) -> Offer:
        return Offer(
            partner=NAME,
            offer_id=self.rate_key,
            kind=TravelKind.HOTEL,
            title=self.name,
            price_minor=self.net,
            currency=self.currency,
            expires_at=now + RATE_LIFE,
            is_holdable=False,
            penalty_minor=self.cancellation_amount,
        )


class _Booked(_Camel):
    reference: str
    client_reference: str
    status: str
    total_net: int = Field(ge=0)
    currency: str
    cancellation_amount: int = Field(ge=0)

    def clean(self) -> Booking:
        return Booking(
            state=BookingState(self.status.lower()),
            booking_id=self.reference,
            price_minor=self.total_net,
            currency=self.currency,
            penalty_minor=self.cancellation_amount,
        )


class _Rates(_Camel):
    rates: Sequence[_Rate]


class _OneRate(_Camel):
    rate: _Rate


class _OneBooking(_Camel):
    booking: _Booked


class _Bookings(_Camel):
    client_reference: str
    bookings: Sequence[_Booked]


class _Fault(Documented):
    code: str
    price_minor: int | None = None


class _Refusal(Documented):
    error: _Fault


class HotelD(PartnerAdapter):
    """Speaks hotel D's protocol."""

    about = PartnerCapabilities(
        partner=NAME,
        title="Hotel D",
        kind=TravelKind.HOTEL,
        protocol="json",
        authentication="api key",
        is_holdable=False,
        lapses=False,
        cancels_in_two_steps=False,
        finds_by_reference=True,
        deduplicates=False,
        checks_price=True,
        timeout_floor_s=60.0,
    )
    do_not_resend = frozenset({202, 400, 500, 502, 504})

    def __init__(
        self, *, session: aiohttp.ClientSession, base_url: str, api_key: str, clock: Clock, **options: float
    ) -> None:
        super().__init__(session=session, base_url=base_url, **options)
        self._clock = clock
        self._headers = {"Api-Key": api_key, "Content-Type": "application/json"}

    def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:  # noqa: ARG002 - a key is enough
        """Return the key."""
        return self._headers

    async def offers(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Search."""
        until = query.until or query.on + timedelta(days=1)
        wanted = {
            "destination": query.destination,
            "checkIn": query.on.isoformat(),
            "checkOut": until.isoformat(),
        }
        sent = await self.ask("POST", "/availability", timeout_s=timeout_s, body=orjson.dumps(wanted))
        return [
            rate.clean(now=self._clock.now()) for rate in self.read(sent, _Rates.model_validate_json).rates
        ]

    async def offer(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Check a rate."""
        body = orjson.dumps({"rateKey": offer_id})
        sent = await self.ask("POST", "/check-rates", timeout_s=timeout_s, body=body)
        return self.read(sent, _OneRate.model_validate_json).rate.clean(now=self._clock.now())

    async def act(self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Book or cancel; there is nothing to hold."""
        if act in (Act.PLACE, Act.CONFIRM):
            return NotDone("not_holdable")
        if act is Act.BOOK:
            return await self._book(reference, subject, timeout_s=timeout_s)
        return await self._cancel(act, reference, subject, timeout_s=timeout_s / 2)

    async def bookings(self, reference: str, *, timeout_s: float) -> Sequence[Booking] | Unknown:
        """List bookings by our reference."""
        sent = await self.ask("GET", "/bookings", timeout_s=timeout_s, clientReference=reference)

        def read(body: bytes) -> Sequence[Booking]:
            listed = _Bookings.model_validate_json(body)
            if {listed.client_reference, *(one.client_reference for one in listed.bookings)} != {reference}:
                raise ValueError("the answer is about another booking")
            return [one.clean() for one in listed.bookings]

        return self.found(sent, read)

    def refusal(self, body: bytes) -> tuple[str, int | None]:
        """Return the code of a refusal and the price that it names."""
        error = _Refusal.model_validate_json(body).error
        return error.code, error.price_minor

    async def _book(self, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Check the rate, then book it, unless it costs more than agreed."""
        try:
            checked = await self.quote(subject["offer_id"], timeout_s=timeout_s / 4)
        except OfferGone:
            return NotDone("offer_gone")
        except FaregateError as error:
            return not_begun(error)
        if checked.price_minor > subject["price_minor"]:
            return Done({"state": BookingState.PRICE_CHANGED.value, "price_minor": checked.price_minor})
        body = {
            "rateKey": subject["offer_id"],
            "clientReference": reference,
            "holder": subject["traveller"],
            "net": subject["price_minor"],
        }
        sent = await self.ask("POST", "/bookings", timeout_s=timeout_s * 3 / 4, body=orjson.dumps(body))
        return self.acted(sent, lambda body: _booked(body, reference))

    async def _cancel(
        self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float
    ) -> Outcome:
        """Look what it costs; if that is not more than agreed, cancel."""
        found = await self.bookings(reference, timeout_s=timeout_s)
        if isinstance(found, Unknown):
            return not_begun(found)
        if len(found) != 1 or found[0].state not in LIVE:
            return judged(act, found)  # it is over already
        if found[0].penalty_minor > subject["penalty_minor"]:
            return NotDone("penalty_changed")
        sent = await self.ask("DELETE", f"/bookings/{subject['booking_id']}", timeout_s=timeout_s)
        return self.acted(sent, lambda body: cancelled(_booked(body, reference)))


def _booked(body: bytes, reference: str) -> Booking:
    booking = _OneBooking.model_validate_json(body).booking
    expect_reference(booking.client_reference, ours=reference)
    return booking.clean()
