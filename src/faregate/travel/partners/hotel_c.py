"""Hotel C: JSON, signed by a hash over key, secret and time. Itineraries are held and resumed by links that expire."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, Final

import aiohttp
import orjson
from pydantic import AwareDatetime, Field
from yarl import URL

from faregate.gateway.exchange import Documented, expect_reference
from faregate.kernel.clock import Clock
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
from faregate.travel.partners.common import PartnerAdapter, cancelled, judged, not_begun

NAME: Final = "hotel_c"
_STATES = {
    "pending": BookingState.HELD,
    "confirmed": BookingState.CONFIRMED,
    "cancelled": BookingState.CANCELLED,
    "rolled_back": BookingState.EXPIRED,
}


class _Rate(Documented):
    id: str
    name: str
    total: int = Field(ge=0)
    currency: str
    holdable: bool
    expires: AwareDatetime = Field(strict=False)
    cancel_penalty: int = Field(ge=0)

    def clean(self) -> Offer:
        return Offer(
            partner=NAME,
            offer_id=self.id,
            kind=TravelKind.HOTEL,
            title=self.name,
            price_minor=self.total,
            currency=self.currency,
            expires_at=self.expires,
            is_holdable=self.holdable,
            penalty_minor=self.cancel_penalty,
        )


class _Link(Documented):
    href: str


class _Itinerary(Documented):
    itinerary_id: str
    affiliate_reference_id: str
    status: str
    total: int = Field(ge=0)
    currency: str
    hold_expires: AwareDatetime | None = Field(strict=False)
    cancel_penalty: int = Field(ge=0)
    links: Mapping[str, _Link]

    def clean(self) -> Booking:
        if self.status not in _STATES:
            raise ValueError("no documented status")
        return Booking(
            state=_STATES[self.status],
            booking_id=self.itinerary_id,
            price_minor=self.total,
            currency=self.currency,
            hold_until=self.hold_expires,
            penalty_minor=self.cancel_penalty,
        )


class _Rates(Documented):
    rates: Sequence[_Rate]


class _OneRate(Documented):
    rate: _Rate


class _One(Documented):
    itinerary: _Itinerary


class _Refusal(Documented):
    type: str
    price_minor: int | None = None


class _List(Documented):
    affiliate_reference_id: str
    itineraries: Sequence[_Itinerary]


class HotelC(PartnerAdapter):
    """Speaks hotel C's protocol. The links are asked for when they are needed: they are as good as a password."""

    about = PartnerCapabilities(
        partner=NAME,
        title="Hotel C",
        kind=TravelKind.HOTEL,
        protocol="json",
        authentication="sha-512 over key, secret and time",
        is_holdable=True,
        lapses=True,
        cancels_in_two_steps=False,
        finds_by_reference=True,
        deduplicates=False,
        checks_price=False,
    )

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        api_key: str,
        secret: str,
        clock: Clock,
        **options: float,
    ) -> None:
        super().__init__(session=session, base_url=base_url, **options)
        self._key, self._secret, self._clock = api_key, secret, clock

    def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:  # noqa: ARG002 - only time is signed
        """Sign the time."""
        timestamp = str(int(self._clock.now().timestamp()))
        signature = hashlib.sha512(f"{self._key}{self._secret}{timestamp}".encode()).hexdigest()
        given = f"apikey={self._key},signature={signature},timestamp={timestamp}"
        return {"Authorization": f"EAN {given}", "Content-Type": "application/json"}

    async def offers(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Search."""
        until = query.until or query.on + timedelta(days=1)
        sent = await self.ask(
            "GET",
            "/availability",
            timeout_s=timeout_s,
            destination=query.destination,
            checkin=query.on.isoformat(),
            checkout=until.isoformat(),
        )
        return [rate.clean() for rate in self.read(sent, _Rates.model_validate_json).rates]

    async def offer(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Look at one rate."""
        sent = await self.ask("GET", f"/rates/{offer_id}", timeout_s=timeout_s)
        return self.read(sent, _OneRate.model_validate_json).rate.clean()

    async def act(self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Hold or book; resume and cancel by the links of the itinerary."""
        if act in (Act.PLACE, Act.BOOK):
            body = {
                "affiliate_reference_id": reference,
                "hold": act is Act.PLACE,
                "rate_id": subject["offer_id"],
                "guest": subject["traveller"],
                "expected_total": subject["price_minor"],
            }
            sent = await self.ask("POST", "/itineraries", timeout_s=timeout_s, body=orjson.dumps(body))
            return self.acted(sent, lambda told: _itinerary(told, reference))
        return await self._by_link(act, reference, subject, timeout_s=timeout_s / 2)

    async def bookings(self, reference: str, *, timeout_s: float) -> Sequence[Booking] | Unknown:
        """List itineraries by our reference."""
        listed = await self._list(reference, timeout_s=timeout_s)
        return listed if isinstance(listed, Unknown) else [one.clean() for one in listed]

    def refusal(self, body: bytes) -> tuple[str, int | None]:
        """Return the code of a refusal and the price that it names."""
        said = _Refusal.model_validate_json(body)
        return said.type, said.price_minor

    async def _by_link(
        self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float
    ) -> Outcome:
        listed = await self._list(reference, timeout_s=timeout_s)
        if isinstance(listed, Unknown):
            return not_begun(listed)
        name, method = ("resume", "PUT") if act is Act.CONFIRM else ("cancel", "DELETE")
        if len(listed) != 1 or name not in listed[0].links:
            return judged(act, [one.clean() for one in listed])  # it is over, or done already
        found = listed[0].clean()
        if found.state is BookingState.CONFIRMED and found.penalty_minor > subject["penalty_minor"]:
            return NotDone("penalty_changed")
        body = orjson.dumps({"expected_total": subject["price_minor"]}) if act is Act.CONFIRM else b""
        sent = await self.ask(method, listed[0].links[name].href, timeout_s=timeout_s, body=body)
        if act is Act.CONFIRM:
            return self.acted(sent, lambda told: _itinerary(told, reference))
        return self.acted(sent, lambda told: cancelled(_itinerary(told, reference)))

    async def _list(self, reference: str, *, timeout_s: float) -> Sequence[_Itinerary] | Unknown:
        sent = await self.ask("GET", "/itineraries", timeout_s=timeout_s, affiliate_reference_id=reference)
        read: list[_Itinerary] = []

        def listed(body: bytes) -> Sequence[Booking]:
            found = _List.model_validate_json(body)
            references = {one.affiliate_reference_id for one in found.itineraries}
            if {found.affiliate_reference_id, *references} != {reference}:
                raise ValueError("the answer is about another booking")
            read.extend(found.itineraries)
            return [one.clean() for one in found.itineraries]

        answer = self.found(sent, listed)
        return answer if isinstance(answer, Unknown) else read


def _itinerary(body: bytes, reference: str) -> Booking:
    itinerary = _One.model_validate_json(body).itinerary
    expect_reference(itinerary.affiliate_reference_id, ours=reference)
    return itinerary.clean()
