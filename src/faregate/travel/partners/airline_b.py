"""Airline B: XML in the style of NDC, signed over the exact bytes. The price is checked again before it is paid."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from html import escape
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import aiohttp
from defusedxml.ElementTree import fromstring
from yarl import URL

from faregate.gateway.exchange import Answer, expect_reference
from faregate.kernel.clock import Clock
from faregate.kernel.outcome import Done, Outcome, Unknown
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

NAME: Final = "airline_b"


class AirlineB(PartnerAdapter):
    """Speaks airline B's protocol. Its deadlines are in the local time of an airport, and in UTC from here on."""

    about = PartnerCapabilities(
        partner=NAME,
        title="Airline B",
        kind=TravelKind.FLIGHT,
        protocol="xml",
        authentication="hmac over time and body",
        is_holdable=True,
        lapses=True,
        cancels_in_two_steps=False,
        finds_by_reference=True,
        deduplicates=False,
        checks_price=True,
        deadline_zone="airport",
    )

    def __init__(
        self, *, session: aiohttp.ClientSession, base_url: str, secret: str, clock: Clock, **options: float
    ) -> None:
        super().__init__(session=session, base_url=base_url, **options)
        self._secret, self._clock = secret.encode(), clock

    def headers(self, method: str, url: URL, body: bytes) -> Mapping[str, str]:  # noqa: ARG002 - one address
        """Sign the bytes that are sent, after they were serialised."""
        timestamp = str(int(self._clock.now().timestamp()))
        signed = hmac.new(self._secret, timestamp.encode() + b"\n" + body, hashlib.sha256).hexdigest()
        return {"Content-Type": "application/xml", "X-Timestamp": timestamp, "X-Signature": signed}

    async def offers(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Shop."""
        sent = await self._send(
            "AirShoppingRQ",
            timeout_s=timeout_s,
            Origin=query.origin,
            Destination=query.destination,
            DepartureDate=query.on.isoformat(),
        )
        root = self.read(sent, lambda body: _root(body, "AirShoppingRS"))
        return [_offer(one) for one in root.findall("Offer")]

    async def offer(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Price an offer."""
        sent = await self._send("OfferPriceRQ", timeout_s=timeout_s, OfferID=offer_id)
        return _offer(_child(self.read(sent, lambda body: _root(body, "OfferPriceRS")), "Offer"))

    async def act(self, act: Act, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Create an order, pay for it at the price that it has now, or cancel it."""
        if act is Act.CONFIRM:
            return await self._confirm(reference, subject, timeout_s=timeout_s / 2)
        if act in (Act.RELEASE, Act.CANCEL):
            sent = await self._send(
                "OrderCancelRQ",
                timeout_s=timeout_s,
                OrderID=subject["booking_id"],
                ExpectedPenalty=subject["penalty_minor"],
            )
            return self.acted(sent, lambda body: cancelled(_viewed(body, reference)))
        sent = await self._send(
            "OrderCreateRQ",
            timeout_s=timeout_s,
            OfferID=subject["offer_id"],
            ClientReference=reference,
            Payment="later" if act is Act.PLACE else "now",
            ExpectedTotal=subject["price_minor"],
            Passenger=subject["traveller"]["name"],
        )
        return self.acted(sent, lambda body: _viewed(body, reference))

    async def bookings(self, reference: str, *, timeout_s: float) -> Sequence[Booking] | Unknown:
        """Retrieve orders by our reference."""
        sent = await self._send("OrderRetrieveRQ", timeout_s=timeout_s, ClientReference=reference)

        def read(body: bytes) -> Sequence[Booking]:
            root = _root(body, "OrderListRS")
            orders = root.findall("Order")
            if {_text(one, "ClientReference") for one in (root, *orders)} != {reference}:
                raise ValueError("the answer is about another booking")
            return [_booking(order) for order in orders]

        return self.found(sent, read)

    def refusal(self, body: bytes) -> tuple[str, int | None]:
        """Return the code of a refusal and the price that it names."""
        root = _root(body, "Error")
        price = root.findtext("price_minor")
        return _text(root, "Code"), None if price is None else int(price)

    async def _confirm(self, reference: str, subject: Mapping[str, Any], *, timeout_s: float) -> Outcome:
        """Ask for the price; pay it if it is the one that was agreed."""
        order, agreed = subject["booking_id"], subject["price_minor"]
        sent = await self._send("OrderReshopRQ", timeout_s=timeout_s, OrderID=order)
        price = _price(sent)
        if price is None:
            return not_begun(sent)
        if price > agreed:
            return Done({"state": BookingState.PRICE_CHANGED.value, "price_minor": price})
        sent = await self._send("OrderChangeRQ", timeout_s=timeout_s, OrderID=order, Amount=price)
        return self.acted(sent, lambda body: _viewed(body, reference))

    async def _send(self, message: str, *, timeout_s: float, **fields: Any) -> Sent:
        inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items())
        body = f"<{message}>{inner}</{message}>".encode()
        return await self.ask("POST", "/ndc", timeout_s=timeout_s, body=body)


def _offer(root: Element) -> Offer:
    return Offer(
        partner=NAME,
        offer_id=_text(root, "OfferID"),
        kind=TravelKind.FLIGHT,
        title=_text(root, "Name"),
        price_minor=int(_text(root, "Total")),
        currency=_text(root, "Currency"),
        expires_at=_aware(datetime.fromisoformat(_text(root, "Expires"))),
        is_holdable=_text(root, "PayLater") == "true",
        penalty_minor=int(_text(root, "CancelPenalty")),
    )


def _booking(root: Element) -> Booking:
    return Booking(
        state=BookingState(_text(root, "Status")),
        booking_id=_text(root, "OrderID"),
        price_minor=int(_text(root, "Total")),
        currency=_text(root, "Currency"),
        hold_until=_deadline(root.find("TicketingDeadline")),
        penalty_minor=int(_text(root, "CancelPenalty")),
    )


def _deadline(found: Element | None) -> datetime | None:
    """Return an instant of a local time and the zone that it is in. Raises ValueError for a zone that is none."""
    if found is None:
        return None
    try:
        zone = ZoneInfo(found.get("zone", ""))
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ValueError("the deadline has no zone") from error
    return datetime.fromisoformat(found.text or "").replace(tzinfo=zone).astimezone(UTC)


def _viewed(body: bytes, reference: str) -> Booking:
    order = _child(_root(body, "OrderViewRS"), "Order")
    expect_reference(_text(order, "ClientReference"), ours=reference)
    return _booking(order)


def _price(sent: Sent) -> int | None:
    if not isinstance(sent, Answer) or sent.status != 200:
        return None
    try:
        return int(_text(_root(sent.body, "OrderReshopRS"), "Total"))
    except ValueError:
        return None


def _aware(instant: datetime) -> datetime:
    if instant.tzinfo is None:
        raise ValueError("an instant without a zone")
    return instant


def _child(root: Element, name: str) -> Element:
    found = root.find(name)
    if found is None:
        raise ValueError(f"{name} is missing")
    return found


def _text(root: Element, name: str) -> str:
    found = root.findtext(name)
    if not found:
        raise ValueError(f"{name} is missing")
    return found


def _root(body: bytes, tag: str) -> Element:
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except ParseError as error:
        raise ValueError("the body is no XML") from error
    if root.tag != tag:
        raise ValueError(f"the document is no {tag}")
    return root
