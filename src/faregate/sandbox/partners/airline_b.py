"""Airline B: XML in the style of NDC, every request signed over its time and the exact bytes of its body.

All messages go to one address; the root says which one it is. A ticket must be paid by a deadline in the local time
of the airport of departure, and the price is checked again before it is.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from html import escape
from typing import ClassVar
from xml.etree.ElementTree import Element, ParseError
from zoneinfo import ZoneInfo

from aiohttp import web
from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from faregate.sandbox.partners.base import Asked, Backstage, Refused, Twin
from faregate.sandbox.partners.bookings import CONFIRMED, HELD, Booking
from faregate.sandbox.partners.offers import CURRENCY, OFFER_LIFE_S, SandboxOffer, offers_for, read_offer
from faregate.sandbox.providers.base import Call, OrderNotUnderstood, Reply, Unauthorised, same

TOLERANCE_S = 300
ZONES = {
    "ZRH": "Europe/Zurich",
    "LHR": "Europe/London",
    "JFK": "America/New_York",
    "NRT": "Asia/Tokyo",
    "SYD": "Australia/Sydney",
}
_READS = frozenset({"AirShoppingRQ", "OfferPriceRQ", "OrderRetrieveRQ", "OrderReshopRQ"})


class AirlineB(Twin):
    """Shop, price an offer or an order, create, pay, cancel and retrieve orders."""

    name: ClassVar[str] = "airline_b"

    def __init__(self, backstage: Backstage, *, secret: str) -> None:
        super().__init__(backstage)
        self._secret = secret.encode()

    def add_routes(self, app: web.Application) -> None:
        acting, reading = self.acting(self._about, self._answer), self.reading(self._about, self._answer)

        async def dispatch(request: web.Request) -> web.Response:
            is_read = _tag(await request.read()) in _READS
            return await (reading if is_read else acting)(request)

        app.router.add_post(f"/{self.name}/ndc", dispatch)

    def authenticate(self, call: Call) -> None:
        timestamp = call.headers.get("X-Timestamp", "")
        if not timestamp.isdecimal() or abs(int(timestamp) - call.now) > TOLERANCE_S:
            raise Unauthorised("the time is missing or too far off")
        signed = hmac.new(self._secret, timestamp.encode() + b"\n" + call.body, hashlib.sha256).hexdigest()
        if not same(call.headers.get("X-Signature"), signed):
            raise Unauthorised("wrong signature")

    def problem(self, status: int, code: str, **more: object) -> Reply:
        inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in more.items())
        return _xml(f"<Error><Code>{code}</Code>{inner}</Error>", status=status)

    def nonsense(self) -> Reply:
        return _xml("<Pong/>")

    async def _answer(self, asked: Asked) -> Reply:
        root = _root(asked.call.body)
        messages: Mapping[str, Callable[[Element], Awaitable[Reply]]] = {
            "AirShoppingRQ": self._shop,
            "OfferPriceRQ": self._price_offer,
            "OrderCreateRQ": self._create,
            "OrderReshopRQ": self._price_order,
            "OrderChangeRQ": self._pay,
            "OrderCancelRQ": self._cancel,
            "OrderRetrieveRQ": self._retrieve,
        }
        if root.tag not in messages:
            raise OrderNotUnderstood("no such message")
        return await messages[root.tag](root)

    def _about(self, asked: Asked) -> str:
        """Return the reference of the booking that a message is about, which is what faults are scripted for."""
        root = _root(asked.call.body)
        order = root.findtext("OrderID")
        return self.known(order).reference if order else root.findtext("ClientReference") or "search"

    async def _shop(self, root: Element) -> Reply:
        found = offers_for(
            self.name,
            origin=_text(root, "Origin"),
            destination=_text(root, "Destination"),
            on=_text(root, "DepartureDate"),
            until="",
        )
        return _xml(f"<AirShoppingRS>{''.join(map(self._shown_offer, found))}</AirShoppingRS>")

    async def _price_offer(self, root: Element) -> Reply:
        return _xml(f"<OfferPriceRS>{self._shown_offer(self.offer(_text(root, 'OfferID')))}</OfferPriceRS>")

    async def _create(self, root: Element) -> Reply:
        booking = await self.book(
            _text(root, "OfferID"),
            _text(root, "ClientReference"),
            is_held=_text(root, "Payment") == "later",
            price_minor=int(_text(root, "ExpectedTotal")),
        )
        return _xml(f"<OrderViewRS>{_shown(booking)}</OrderViewRS>")

    async def _price_order(self, root: Element) -> Reply:
        booking = self.known(_text(root, "OrderID"))
        price = await self.price_now(booking) if booking.state == HELD else booking.price_minor
        return _xml(f"<OrderReshopRS><Total>{price}</Total><Currency>{CURRENCY}</Currency></OrderReshopRS>")

    async def _pay(self, root: Element) -> Reply:
        done = await self.confirm(_text(root, "OrderID"), price_minor=int(_text(root, "Amount")))
        return _xml(f"<OrderViewRS>{_shown(done)}</OrderViewRS>")

    async def _cancel(self, root: Element) -> Reply:
        booking = self.known(_text(root, "OrderID"))
        expected = int(_text(root, "ExpectedPenalty"))
        if booking.state == CONFIRMED and booking.penalty_minor > expected:
            raise Refused(422, "penalty_changed", Penalty=booking.penalty_minor)
        return _xml(f"<OrderViewRS>{_shown(await self.cancel(booking.booking_id))}</OrderViewRS>")

    async def _retrieve(self, root: Element) -> Reply:
        reference = _text(root, "ClientReference")
        found = self.backstage.bookings.of_reference(self.name, reference, now=self.now())
        shown = "".join(map(_shown, found))
        return _xml(
            f"<OrderListRS><ClientReference>{escape(reference)}</ClientReference>{shown}</OrderListRS>"
        )

    def _shown_offer(self, offer: SandboxOffer) -> str:
        expires = datetime.fromtimestamp(self.now() + OFFER_LIFE_S, UTC).isoformat()
        return (
            f"<Offer><OfferID>{escape(offer.id)}</OfferID><Name>{escape(offer.title)}</Name>"
            f"<Total>{offer.price_minor}</Total><Currency>{CURRENCY}</Currency><Expires>{expires}</Expires>"
            f"<PayLater>{str(offer.is_holdable).lower()}</PayLater>"
            f"<CancelPenalty>{offer.penalty_minor}</CancelPenalty></Offer>"
        )


def _shown(booking: Booking) -> str:
    deadline = ""
    if booking.state == HELD and booking.hold_until is not None:
        offer = read_offer(booking.offer_id)
        zone = ZONES.get(offer.origin if offer else "", "UTC")
        local = datetime.fromtimestamp(booking.hold_until, ZoneInfo(zone)).replace(tzinfo=None)
        deadline = f'<TicketingDeadline zone="{zone}">{local.isoformat()}</TicketingDeadline>'
    return (
        f"<Order><OrderID>{booking.booking_id}</OrderID>"
        f"<ClientReference>{escape(booking.reference)}</ClientReference><Status>{booking.state}</Status>"
        f"<Total>{booking.price_minor}</Total><Currency>{booking.currency}</Currency>"
        f"<CancelPenalty>{booking.penalty_minor}</CancelPenalty>{deadline}</Order>"
    )


def _tag(body: bytes) -> str:
    try:
        return _root(body).tag
    except OrderNotUnderstood:
        return ""


def _root(body: bytes) -> Element:
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except (ParseError, DefusedXmlException) as error:
        raise OrderNotUnderstood("the body is no XML") from error
    return root


def _text(root: Element, name: str) -> str:
    found = root.findtext(name)
    if not found:
        raise OrderNotUnderstood(f"{name} is missing")
    return found


def _xml(document: str, *, status: int = 200) -> Reply:
    return Reply(status=status, body=document.encode(), content_type="application/xml")
