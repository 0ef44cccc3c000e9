"""What every travel partner has in common: who calls, what goes wrong before and after the work, and the answer.

What a partner says and in which format is its own file's. No partner remembers a request: what is sent twice is
booked twice, unless its file says otherwise.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from aiohttp import web

from faregate.sandbox.callbacks import half
from faregate.sandbox.faults import Fault, Faults, ProviderFaults, Stage
from faregate.sandbox.partners.bookings import CANCELLED, CONFIRMED, HELD, LIVE, Booking, Bookings
from faregate.sandbox.partners.offers import CURRENCY, SandboxOffer, read_offer
from faregate.sandbox.providers.base import Call, OrderNotUnderstood, Reply, Unauthorised

HOLD_S: Final = 1_200.0
"""How long a tentative booking lasts."""
EARLY_S: Final = 1.0
_NOT_DONE: Final = {
    Fault.UNAUTHORISED: 401,
    Fault.LIMITED: 429,
    Fault.UNAVAILABLE: 503,
    Fault.ERROR_BEFORE: 500,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A request as it arrived, with the parts of its path and its query."""

    call: Call
    path: Mapping[str, str]
    query: Mapping[str, str]


Work = Callable[[Asked], Awaitable[Reply]]
ReferenceOf = Callable[[Asked], str]
Handler = Callable[[web.Request], Awaitable[web.Response]]


class Refused(Exception):
    """A partner says no, for certain and without having done anything."""

    def __init__(self, status: int, code: str, **more: object) -> None:
        super().__init__(code)
        self.status, self.code, self.more = status, code, more


@dataclass(frozen=True, slots=True, kw_only=True)
class Backstage:
    """What partners share: their bookings, what goes wrong, and the time."""

    bookings: Bookings
    faults: Callable[[], Faults]
    now: Callable[[], float]
    struck: Callable[[str, Fault], None]
    called: Callable[[str], None]


class Twin(ABC):
    """One partner of the world."""

    name: ClassVar[str]

    def __init__(self, backstage: Backstage) -> None:
        self.backstage = backstage

    @abstractmethod
    def add_routes(self, app: web.Application) -> None:
        """Serve this partner under its name."""

    @abstractmethod
    def authenticate(self, call: Call) -> None:
        """Raise `Unauthorised` unless the caller proves who it is."""

    @abstractmethod
    def problem(self, status: int, code: str, **more: object) -> Reply:
        """Word a refusal."""

    @abstractmethod
    def nonsense(self) -> Reply:
        """Word a success of another shape than documented."""

    def now(self) -> float:
        """Return the present instant in Unix seconds."""
        return self.backstage.now()

    # ── the life of a booking

    async def book(self, offer_id: str, reference: str, *, is_held: bool, price_minor: int | None) -> Booking:
        """Make a booking. Raises `Refused` where it is not offered, or not at this price."""
        offer = self.offer(offer_id, reference)
        if is_held and not offer.is_holdable:
            raise Refused(422, "not_holdable")
        price = self.price_of(offer, reference)
        if not is_held and price_minor is not None and price > price_minor:
            raise Refused(422, "price_changed", price_minor=price)
        lasts = EARLY_S if self.meets(Fault.PARTNER_HOLD_ENDS_EARLY, reference) else HOLD_S
        bookings = self.backstage.bookings
        return await bookings.put(
            Booking(
                partner=self.name,
                reference=reference,
                booking_id=bookings.new_id(self.name),
                offer_id=offer_id,
                state=HELD if is_held else CONFIRMED,
                price_minor=price,
                currency=CURRENCY,
                penalty_minor=offer.penalty_minor,
                hold_until=self.now() + lasts if is_held else None,
                paid_minor=0 if is_held else price,
            )
        )

    async def confirm(self, booking_id: str, *, price_minor: int) -> Booking:
        """Confirm a tentative booking at a price. One that is confirmed stays so. Raises `Refused`."""
        booking = self.known(booking_id)
        if booking.state == CONFIRMED:
            return booking
        if booking.state != HELD:
            raise Refused(409, "hold_expired")
        price = await self.price_now(booking)
        if price != price_minor:
            raise Refused(422, "price_changed", price_minor=price)
        done = replace(booking, state=CONFIRMED, price_minor=price, paid_minor=price, hold_until=None)
        return await self.backstage.bookings.put(done)

    async def cancel(self, booking_id: str) -> Booking:
        """Cancel a booking; a confirmed one costs its penalty. What is over already stays so. Raises `Refused`."""
        booking = self.known(booking_id)
        if booking.state not in LIVE:
            return booking
        if self.meets(Fault.PARTNER_CANCEL_REFUSED, booking.reference):
            raise Refused(409, "cancel_refused")
        penalty = booking.penalty_minor if booking.state == CONFIRMED else 0
        return await self.backstage.bookings.put(replace(booking, state=CANCELLED, penalty_minor=penalty))

    def known(self, booking_id: str) -> Booking:
        """Return a booking of this partner. Raises `Refused`."""
        booking = self.backstage.bookings.get(booking_id, now=self.now())
        if booking is None or booking.partner != self.name:
            raise Refused(404, "no_such_booking")
        return booking

    def offer(self, offer_id: str, reference: str = "") -> SandboxOffer:
        """Return an offer. Raises `Refused` for one that is gone."""
        offer = read_offer(offer_id)
        if offer is None or self.meets(Fault.PARTNER_OFFER_GONE, reference or offer_id):
            raise Refused(410, "offer_gone")
        return offer

    def price_of(self, offer: SandboxOffer, reference: str) -> int:
        """Return what an offer costs now."""
        is_dearer = not offer.is_holdable and self.meets(Fault.PARTNER_PRICE_CHANGED, reference)
        return offer.price_minor * 11 // 10 if is_dearer else offer.price_minor

    async def price_now(self, booking: Booking) -> int:
        """Return what a tentative booking costs now: it stays at a price to which it once rose."""
        if self.meets(Fault.PARTNER_PRICE_CHANGED, booking.reference):
            dearer = replace(booking, price_minor=booking.price_minor * 11 // 10)
            booking = await self.backstage.bookings.put(dearer)
        return booking.price_minor

    def reference_of_booking(self, name: str) -> ReferenceOf:
        """Return what finds the reference of the booking whose id stands in a part of the path."""
        return lambda asked: self.known(asked.path[name]).reference

    def meets(self, fault: Fault, reference: str) -> bool:
        """Whether a call about a reference meets this fault of the business."""
        is_struck = self.backstage.faults().draw_one(fault, provider=self.name, reference=reference)
        if is_struck:
            self.backstage.struck(self.name, fault)
        return is_struck

    # ── a call

    def acting(self, reference_of: ReferenceOf, work: Work) -> Handler:
        """Return the handler of an act: faults may come before and after the work."""

        async def handler(request: web.Request) -> web.Response:
            self.backstage.called(self.name)
            asked = await _asked(request, self.now())
            try:
                self.authenticate(asked.call)
                reference = reference_of(asked)
            except Unauthorised:
                return _response(self.problem(401, "unauthorised"))
            except OrderNotUnderstood:
                return _response(self.problem(400, "not_understood"))
            except Refused as refused:
                return _response(self.problem(refused.status, refused.code, **refused.more))
            fault = self._drawn(Stage.SUBMIT, reference)
            if fault is None and self.meets(Fault.PARTNER_ACCEPTED_ONLY, reference):
                fault = Fault.PARTNER_ACCEPTED_ONLY
            refusal = await self._before_work(request, fault)
            return refusal or await self._after_work(
                request, await self._worked(work, asked, reference), fault
            )

        return handler

    def reading(self, reference_of: ReferenceOf, work: Work) -> Handler:
        """Return the handler of a question: it changes nothing."""

        async def handler(request: web.Request) -> web.Response:
            asked = await _asked(request, self.now())
            try:
                self.authenticate(asked.call)
                reference = reference_of(asked)
            except Unauthorised:
                return _response(self.problem(401, "unauthorised"))
            except OrderNotUnderstood:
                return _response(self.problem(400, "not_understood"))
            except Refused as refused:
                return _response(self.problem(refused.status, refused.code, **refused.more))
            fault = self._drawn(Stage.LOOK_UP, reference)
            if fault is Fault.LOOK_UP_HANG:
                await asyncio.sleep(self._behaviour().hold_s)
            if fault in (Fault.LOOK_UP_HANG, Fault.LOOK_UP_DROP):
                return _dropped(request)
            if fault is Fault.LOOK_UP_ERROR:
                return _response(self.problem(500, fault.value))
            answer = await self._worked(work, asked, reference)
            return _response(half(answer) if fault is Fault.LOOK_UP_MALFORMED else answer)

        return handler

    async def _worked(self, work: Work, asked: Asked, reference: str) -> Reply:
        try:
            answer = await work(asked)
        except OrderNotUnderstood:
            return self.problem(400, "not_understood")
        except Refused as refused:
            return self.problem(refused.status, refused.code, **refused.more)
        latency = self._behaviour().latency
        if latency.median_ms:
            unit = self.backstage.faults().unit("latency", provider=self.name, reference=reference)
            await asyncio.sleep(latency.seconds(unit))
        return answer

    async def _before_work(self, request: web.Request, fault: Fault | None) -> web.Response | None:
        if fault is Fault.HANG_BEFORE:
            await asyncio.sleep(self._behaviour().hold_s)
        if fault in (Fault.HANG_BEFORE, Fault.DROP_BEFORE):
            return _dropped(request)
        if fault is Fault.LATE_WORK:
            await asyncio.sleep(self._behaviour().late_work_s)
        if fault is None or fault not in _NOT_DONE:
            return None
        response = _response(self.problem(_NOT_DONE[fault], fault.value))
        if fault in (Fault.LIMITED, Fault.UNAVAILABLE):
            response.headers["Retry-After"] = str(self._behaviour().retry_after_s)
        return response

    async def _after_work(self, request: web.Request, answer: Reply, fault: Fault | None) -> web.Response:
        if fault is Fault.HANG_AFTER:
            await asyncio.sleep(self._behaviour().hold_s)
        if fault in (Fault.HANG_AFTER, Fault.DROP_AFTER):
            return _dropped(request)
        if fault is Fault.ERROR_AFTER:
            return _response(self.problem(500, fault.value))
        if fault is Fault.PARTNER_ACCEPTED_ONLY:
            return web.Response(status=202)
        if fault is Fault.WRONG_SCHEMA and answer.status < 300:
            return _response(self.nonsense())
        return _response(half(answer) if fault is Fault.MALFORMED else answer)

    def _drawn(self, stage: Stage, reference: str) -> Fault | None:
        fault = self.backstage.faults().draw(stage, provider=self.name, reference=reference)
        if fault is not None:
            self.backstage.struck(self.name, fault)
        return fault

    def _behaviour(self) -> ProviderFaults:
        return self.backstage.faults().plan.of(self.name)


async def _asked(request: web.Request, now: float) -> Asked:
    call = Call(
        method=request.method,
        path=request.raw_path,
        headers=request.headers,
        body=await request.read(),
        now=now,
    )
    return Asked(call=call, path=dict(request.match_info), query=dict(request.query))


def _response(reply: Reply) -> web.Response:
    headers = {"Content-Type": reply.content_type, **reply.headers}
    return web.Response(status=reply.status, body=reply.body, headers=headers)


def _dropped(request: web.Request) -> web.Response:
    """Cut the connection. The response that is returned reaches nobody."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response(status=500)
