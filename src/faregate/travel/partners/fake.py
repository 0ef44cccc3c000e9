"""A partner without a network, for tests of what stands on adapters. It keeps a real one's promises.

`bookings` is the truth; `mishaps` are what the next calls of an act meet instead of going well. HTTP, formats and
signatures do not belong here.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import no_callback
from faregate.kernel.clock import Clock
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
from faregate.travel.domain.references import read_request_id

_LIVE = (BookingState.HELD, BookingState.CONFIRMED)


class Mishap(StrEnum):
    """What happens to one call instead of an answer."""

    UNAVAILABLE = "unavailable"
    REFUSED = "refused"
    LOST_BEFORE = "lost_before"
    LOST_AFTER = "lost_after"
    DEARER = "dearer"


class FakePartner:
    """Books in memory. Offers are named `o-` and their price; those of an instant partner cannot be held."""

    def __init__(
        self,
        *,
        name: str,
        kind: TravelKind = TravelKind.FLIGHT,
        is_holdable: bool = True,
        clock: Clock,
        hold_s: float = 600.0,
        look_up_lag_s: float = 0.0,
    ) -> None:
        self.about = PartnerCapabilities(
            partner=name,
            title=name.replace("_", " ").title(),
            kind=kind,
            protocol="none",
            authentication="none",
            is_holdable=is_holdable,
            lapses=is_holdable,
            cancels_in_two_steps=False,
            finds_by_reference=True,
            deduplicates=False,
            checks_price=False,
            timeout_floor_s=0.0,
        )
        self.capabilities = Capabilities(
            provider=name,
            asynchronous=False,
            deduplicates=False,
            look_up_lag_s_max=look_up_lag_s,
            timeout_s=2.0,
            callback=False,
            polls=False,
        )
        self.bookings: dict[str, Booking] = {}
        self.made: list[str] = []
        self.mishaps: dict[Act, deque[Mishap]] = {act: deque() for act in Act}
        self.is_blind = False
        self.before: Callable[[Act], None] = lambda _: None
        self._clock = clock
        self._hold_s = hold_s

    async def search(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:  # noqa: ARG002
        """Offer three prices."""
        return [self._offer(f"o-{price}") for price in (10_000, 20_000, 30_000)]

    async def quote(self, offer_id: str, *, timeout_s: float) -> Offer:  # noqa: ARG002
        """Return an offer of ours."""
        if not offer_id.startswith("o-"):
            raise OfferGone(f"{self.about.title} does not offer this any more")
        return self._offer(offer_id)

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Do what is asked, unless the next mishap comes first."""
        asked = read_request_id(request.provider_request_id)
        self.before(asked.act)
        await asyncio.sleep(0)
        waiting = self.mishaps[asked.act]
        match waiting.popleft() if waiting else None:
            case Mishap.UNAVAILABLE:
                return NotDone("unavailable", retryable=True)
            case Mishap.REFUSED:
                return NotDone("refused")
            case Mishap.LOST_BEFORE:
                return Unknown("timed_out")
            case Mishap.LOST_AFTER:
                self._do(asked.act, asked.booking, request.subject)
                return Unknown("connection_lost")
            case Mishap.DEARER:
                return self._dearer(asked.booking, request.subject)
        return self._do(asked.act, asked.booking, request.subject)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:  # noqa: ARG002
        """Say what became of a request."""
        if self.is_blind:
            return Unknown("unavailable")
        asked = read_request_id(provider_request_id)
        booking = self._as_of_now(asked.booking)
        state = booking.state if booking else None
        if asked.act in (Act.RELEASE, Act.CANCEL):
            is_over = state not in _LIVE
            return Done({"state": "cancelled"}) if is_over else NotDone("not_found", retryable=True)
        if booking is None or (asked.act is Act.CONFIRM and state is BookingState.HELD):
            return NotDone("not_found", retryable=True)
        return Done(booking.facts()) if state in _LIVE else NotDone("expired")

    def read_callback(self, body: Mapping[str, Any]) -> Callback:  # noqa: ARG002 - the protocol's method
        """Refuse: it never calls back."""
        raise no_callback(self.about.partner)

    def live(self) -> Sequence[str]:
        """Return the references of the bookings that stand."""
        return [
            reference
            for reference in self.bookings
            if (booking := self._as_of_now(reference)) is not None and booking.state in _LIVE
        ]

    def lapse(self) -> None:
        """Let every tentative booking be over."""
        for reference, booking in self.bookings.items():
            if booking.state is BookingState.HELD:
                self.bookings[reference] = replace(booking, state=BookingState.EXPIRED)

    def _offer(self, offer_id: str) -> Offer:
        return Offer(
            partner=self.about.partner,
            offer_id=offer_id,
            kind=self.about.kind,
            title=f"{self.about.title} {offer_id}",
            price_minor=int(offer_id.removeprefix("o-")),
            currency="USD",
            expires_at=self._now() + timedelta(hours=1),
            is_holdable=self.about.is_holdable,
            penalty_minor=1_000,
        )

    def _do(self, act: Act, reference: str, subject: Mapping[str, Any]) -> Outcome:
        booking = self._as_of_now(reference)
        match act:
            case Act.PLACE | Act.BOOK:
                return self._made(act, reference, subject)
            case Act.CONFIRM:
                if booking is None or booking.state not in _LIVE:
                    return NotDone("hold_expired")
                state, paid = BookingState.CONFIRMED, int(subject["price_minor"])
                booking = replace(booking, state=state, price_minor=paid, hold_until=None)
            case _ if booking is None or booking.state not in _LIVE:
                return Done({"state": "cancelled"})
            case _:
                penalty = 1_000 if booking.state is BookingState.CONFIRMED else 0
                booking = replace(booking, state=BookingState.CANCELLED, penalty_minor=penalty)
        self.bookings[reference] = booking
        return Done(booking.facts())

    def _made(self, act: Act, reference: str, subject: Mapping[str, Any]) -> Outcome:
        is_held = act is Act.PLACE
        self.made.append(reference)
        booking = Booking(
            state=BookingState.HELD if is_held else BookingState.CONFIRMED,
            booking_id=f"b-{len(self.made)}",
            price_minor=int(subject["price_minor"]),
            currency="USD",
            hold_until=self._now() + timedelta(seconds=self._hold_s) if is_held else None,
        )
        self.bookings[reference] = booking
        return Done(booking.facts())

    def _dearer(self, reference: str, subject: Mapping[str, Any]) -> Outcome:
        booking = self.bookings.get(reference)
        price = int(subject["price_minor"]) * 12 // 10
        dearer = Booking(
            state=BookingState.PRICE_CHANGED,
            booking_id=booking.booking_id if booking else "",
            price_minor=price,
            currency="USD",
        )
        return Done(dearer.facts())

    def _as_of_now(self, reference: str) -> Booking | None:
        booking = self.bookings.get(reference)
        if booking is None or booking.state is not BookingState.HELD or booking.hold_until is None:
            return booking
        return replace(booking, state=BookingState.EXPIRED) if booking.hold_until <= self._now() else booking

    def _now(self) -> datetime:
        return self._clock.now()
