"""What travel and a partner's adapter say to each other: one clean model of searching, holding and booking.

No I/O, no clock and no partner's own words belong here. Prices are in minor units of their currency, instants in UTC.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol

from faregate.gateway.contracts import Adapter
from faregate.kernel.errors import ConflictError, UnavailableError


class TravelKind(StrEnum):
    """What is booked."""

    FLIGHT = "flight"
    HOTEL = "hotel"


class Act(StrEnum):
    """What is asked of a partner about one booking."""

    PLACE = "place"  # a tentative booking, which lapses unless it is confirmed in time
    CONFIRM = "confirm"
    BOOK = "book"  # at once, where nothing can be held
    RELEASE = "release"  # of a tentative booking
    CANCEL = "cancel"  # of a confirmed one


class BookingState(StrEnum):
    """How a booking stands at a partner. `price_changed`: it stands as before, and waits for a yes to its new price."""

    HELD = "held"
    CONFIRMED = "confirmed"
    CANCELLED = "cancelled"
    EXPIRED = "expired"
    PRICE_CHANGED = "price_changed"


@dataclass(frozen=True, slots=True, kw_only=True)
class PartnerCapabilities:
    """What a partner can do. The order of a saga follows from it, and how an outcome that is not known is treated.

    `is_holdable`: some of its offers can be held; which, each offer says. `lapses`: a tentative booking that is not
    confirmed is rolled back by the partner, so that releasing it may be left undone. `cancels_in_two_steps`: by a
    quote, then by its confirmation. `finds_by_reference`: a booking is found by the reference that we gave it.
    `deduplicates`: a request that comes again under the same reference is done once. `checks_price`: it must be
    asked for the price before a booking or a confirmation. `deadline_zone` is `UTC`, or `airport` for deadlines in
    local time. A caller that waits less than `timeout_floor_s` makes unknown outcomes.
    """

    partner: str
    title: str
    kind: TravelKind
    protocol: str
    authentication: str
    is_holdable: bool
    lapses: bool
    cancels_in_two_steps: bool
    finds_by_reference: bool
    deduplicates: bool
    checks_price: bool
    deadline_zone: str = "UTC"
    timeout_floor_s: float = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchQuery:
    """A flight on a day, or a hotel from a day until another. Places are IATA codes of airports or cities."""

    kind: TravelKind
    destination: str
    on: date
    origin: str = ""
    until: date | None = None
    travellers: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a partner offers until `expires_at`. `penalty_minor`: what a cancellation after confirmation costs."""

    partner: str
    offer_id: str
    kind: TravelKind
    title: str
    price_minor: int
    currency: str
    expires_at: datetime
    is_holdable: bool
    penalty_minor: int = 0
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Booking:
    """How a booking stands, as an adapter read it. `hold_until`: when a tentative one lapses."""

    state: BookingState
    booking_id: str
    price_minor: int
    currency: str
    hold_until: datetime | None = None
    penalty_minor: int = 0

    def facts(self) -> dict[str, Any]:
        """Return it as the payload of an outcome, which JSON can hold."""
        return {
            "state": self.state.value,
            "booking_id": self.booking_id,
            "price_minor": self.price_minor,
            "currency": self.currency,
            "hold_until": self.hold_until.isoformat() if self.hold_until else None,
            "penalty_minor": self.penalty_minor,
        }


class PartnerUnavailable(UnavailableError):
    """A partner cannot be asked at present; the message is for the member: "Airline A is currently unavailable …"."""


class OfferGone(ConflictError):
    """A partner does not offer this any more: it expired, or somebody else was faster."""


class Partner(Adapter, Protocol):
    """Speaks one partner's protocol. What changes something is `submit` and goes through the journal; this reads.

    `submit` gets a subject with `act`, `reference`, `offer_id`, `traveller`, `booking_id`, `price_minor` (the most
    that may be paid) and `penalty_minor` (the most that a cancellation may cost), as far as the act needs them.
    What came of it is a `Booking`, as facts. `look_up` finds out by the same request id, see
    `travel.domain.references`.
    """

    about: PartnerCapabilities

    async def search(self, query: SearchQuery, *, timeout_s: float) -> Sequence[Offer]:
        """Return what is offered. Raises PartnerUnavailable."""
        ...

    async def quote(self, offer_id: str, *, timeout_s: float) -> Offer:
        """Return an offer as it stands now. Raises OfferGone and PartnerUnavailable."""
        ...
