"""The events of travel: what was searched, redeemed, booked, and what came of it. A redemption orders its own."""

from __future__ import annotations

from datetime import date
from typing import ClassVar

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent


class SearchEvent(PublishedEvent):
    """A member looked for something."""

    aggregate_type: ClassVar[str] = "travel.member"
    key: ClassVar[str] = "member_id"

    member_id: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    destination: str = Field(min_length=1, examples=["ZRH"])
    on: date = Field(description="The day of the flight or of the arrival.")
    offers: int = Field(ge=0, description="How many were found.")
    searched_at: AwareDatetime


class FlightSearched(SearchEvent):
    """A member looked for flights."""

    type: ClassVar[str] = "travel.flight.searched"

    origin: str = Field(min_length=1, examples=["JFK"])


class HotelSearched(SearchEvent):
    """A member looked for hotels."""

    type: ClassVar[str] = "travel.hotel.searched"


class RedemptionEvent(PublishedEvent):
    """A fact about one redemption."""

    aggregate_type: ClassVar[str] = "travel.redemption"
    key: ClassVar[str] = "redemption_id"

    redemption_id: str = Field(min_length=1, examples=["rdm_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    member_id: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class RedemptionStarted(RedemptionEvent):
    """A member asked for a trip; nothing is booked yet."""

    type: ClassVar[str] = "travel.redemption.started"

    partners: tuple[str, ...]
    points: int = Field(ge=0)
    cash_minor: int = Field(ge=0)


class ConsentAsked(RedemptionEvent):
    """A partner wants more than was agreed; the member decides."""

    type: ClassVar[str] = "travel.redemption.consent_asked"

    leg: int = Field(ge=1)
    price_minor: int = Field(ge=0)
    until: AwareDatetime


class RedemptionNeedsAttention(RedemptionEvent):
    """A step could neither be done nor undone by itself: a person must look at it."""

    type: ClassVar[str] = "travel.redemption.needs_attention"

    action: str
    leg: int = Field(ge=0)
    reason: str


class BookingEvent(RedemptionEvent):
    """A booking stands at a partner and is paid."""

    leg: int = Field(ge=1)
    partner: str = Field(min_length=1, examples=["airline_a"])
    points: int = Field(ge=0)


class FlightBooked(BookingEvent):
    """A flight is booked."""

    type: ClassVar[str] = "travel.flight.booked"


class HotelBooked(BookingEvent):
    """A hotel is booked."""

    type: ClassVar[str] = "travel.hotel.booked"


class RedemptionFailed(RedemptionEvent):
    """A redemption ended without a booking; nothing was spent."""

    type: ClassVar[str] = "travel.redemption.failed"

    reason: str


class RedemptionCancelled(RedemptionEvent):
    """A member took a redemption back."""

    type: ClassVar[str] = "travel.redemption.cancelled"

    points_returned: int = Field(ge=0)


EVENTS: tuple[type[PublishedEvent], ...] = (
    FlightSearched,
    HotelSearched,
    RedemptionStarted,
    ConsentAsked,
    RedemptionNeedsAttention,
    FlightBooked,
    HotelBooked,
    RedemptionFailed,
    RedemptionCancelled,
)
