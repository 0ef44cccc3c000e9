"""What goes over the wire: the bodies of requests and answers, with examples for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from faregate.infra.http.dates import Day
from faregate.travel.contracts.partners import Offer, PartnerCapabilities, SearchQuery, TravelKind
from faregate.travel.contracts.redemptions import (
    LegView,
    NewRedemption,
    Question,
    RedemptionView,
    StepView,
    Wish,
)
from faregate.travel.contracts.transfers import NewTransfer, TransferStatus, TransferView
from faregate.travel.handlers.redeem import LEGS_MAX

MEMBER_ID_PATTERN = r"^mbr_[0-9A-Z]{26}$"
REDEMPTION_ID_PATTERN = r"^rdm_[0-9A-Z]{26}$"
TRANSFER_ID_PATTERN = r"^trf_[0-9A-Z]{26}$"
MINOR_MAX = 10**12
AMOUNT_MAX = 10**12
TRAVELLERS_MAX = 9

MemberId = Annotated[str, StringConstraints(pattern=MEMBER_ID_PATTERN)]
_Place = Annotated[str, StringConstraints(pattern=r"^[A-Z]{3}$")]
_PartnerName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
_OfferId = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9~._-]{1,200}$")]
_Minor = Annotated[int, Field(ge=0, le=MINOR_MAX)]
_FIRST_DAY = date(2020, 1, 1)
_Date = Annotated[Day, Field(ge=_FIRST_DAY)]

MEMBER_EXAMPLE = "mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"
FLIGHT_EXAMPLE = {
    "member_id": MEMBER_EXAMPLE,
    "origin": "JFK",
    "destination": "ZRH",
    "on": "2027-03-01",
}
HOTEL_EXAMPLE = {
    "member_id": MEMBER_EXAMPLE,
    "destination": "ZRH",
    "on": "2027-03-01",
    "until": "2027-03-04",
}
OFFER_ID_EXAMPLE = "0~JFK~ZRH~2027-03-01~-~21500~h"
REDEEM_EXAMPLE = {
    "member_id": MEMBER_EXAMPLE,
    "legs": [{"partner": "airline_a", "offer_id": OFFER_ID_EXAMPLE, "price_minor": 21500}],
}


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class FlightSearchForm(_Form):
    """A flight from a place on a day."""

    member_id: MemberId
    origin: _Place
    destination: _Place
    on: _Date
    travellers: int = Field(default=1, ge=1, le=TRAVELLERS_MAX)

    def query(self) -> SearchQuery:
        """Return what the form says."""
        return SearchQuery(
            kind=TravelKind.FLIGHT,
            origin=self.origin,
            destination=self.destination,
            on=self.on,
            travellers=self.travellers,
        )


class HotelSearchForm(_Form):
    """A hotel from a day until a later one."""

    member_id: MemberId
    destination: _Place
    on: _Date
    until: _Date
    travellers: int = Field(default=1, ge=1, le=TRAVELLERS_MAX)

    def query(self) -> SearchQuery:
        """Return what the form says."""
        return SearchQuery(
            kind=TravelKind.HOTEL,
            destination=self.destination,
            on=self.on,
            until=self.until,
            travellers=self.travellers,
        )


class QuoteForm(_Form):
    """An offer to be looked at again."""

    partner: _PartnerName
    offer_id: _OfferId


class LegForm(_Form):
    """An offer that is wanted, and the price at which it was shown."""

    partner: _PartnerName
    offer_id: _OfferId
    price_minor: _Minor


class RedeemForm(_Form):
    """A trip: all of it or nothing. `cash_minor` of its price is paid in cash, the rest in points."""

    member_id: MemberId
    legs: list[LegForm] = Field(min_length=1, max_length=LEGS_MAX)
    cash_minor: _Minor = 0

    def wanted(self) -> NewRedemption:
        """Return what the form says."""
        return NewRedemption(
            member_id=self.member_id,
            wishes=[Wish(**leg.model_dump()) for leg in self.legs],
            cash_minor=self.cash_minor,
        )


class AnswerForm(_Form):
    """A member's answer to a new price."""

    leg: int = Field(ge=1, le=LEGS_MAX)
    price_minor: _Minor = Field(description="The price that was asked about.")
    accept: bool


class PointsTransferForm(_Form):
    """Points that become a partner's units; as many whole blocks are taken as there are."""

    member_id: MemberId
    partner: Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
    account: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9-]{1,40}$")] = Field(
        description="The member's number at the partner."
    )
    points: int = Field(ge=1, le=AMOUNT_MAX)

    def wanted(self) -> NewTransfer:
        """Return what the form says."""
        return NewTransfer(**self.model_dump())


class OfferAnswer(BaseModel):
    """What a partner offers, in its currency and in points."""

    partner: str
    offer_id: str
    kind: TravelKind
    title: str
    price_minor: int
    currency: str
    points: int
    expires_at: datetime
    is_holdable: bool
    penalty_minor: int = Field(description="What a cancellation after confirmation costs.")

    @classmethod
    def of(cls, offer: Offer, *, points: int) -> OfferAnswer:
        """Return an offer as it goes out."""
        return cls(
            partner=offer.partner,
            offer_id=offer.offer_id,
            kind=offer.kind,
            title=offer.title,
            price_minor=offer.price_minor,
            currency=offer.currency,
            points=points,
            expires_at=offer.expires_at,
            is_holdable=offer.is_holdable,
            penalty_minor=offer.penalty_minor,
        )


class FoundOffersAnswer(BaseModel):
    """What was found by the deadline, the cheapest first, and why partners are missing from it."""

    offers: Sequence[OfferAnswer]
    missing: Mapping[str, str] = Field(description="By partner: why it is not among the answers.")


class PartnerAnswer(BaseModel):
    """What a partner can do; the order of a redemption follows from it."""

    partner: str
    title: str
    kind: TravelKind
    protocol: str
    authentication: str
    is_holdable: bool
    cancels_in_two_steps: bool
    finds_by_reference: bool
    deduplicates: bool
    checks_price: bool
    deadline_zone: str
    timeout_floor_s: float

    @classmethod
    def of(cls, about: PartnerCapabilities) -> PartnerAnswer:
        """Return what a partner can do, as it goes out."""
        return cls(**{name: getattr(about, name) for name in cls.model_fields})


class PartnersAnswer(BaseModel):
    """Every partner."""

    partners: Sequence[PartnerAnswer]


class LegAnswer(BaseModel):
    """One booking of a redemption. `state` is null before it is made."""

    no: int
    partner: str
    kind: TravelKind
    title: str
    price_minor: int
    points: int
    state: str | None
    booking_id: str | None

    @classmethod
    def of(cls, leg: LegView) -> LegAnswer:
        """Return a leg as it goes out."""
        return cls(**{name: getattr(leg, name) for name in cls.model_fields})


class QuestionAnswer(BaseModel):
    """A new price that waits for the member's answer."""

    leg: int
    price_minor: int
    points_more: int
    until: datetime

    @classmethod
    def of(cls, question: Question) -> QuestionAnswer:
        """Return a question as it goes out."""
        return cls(**{name: getattr(question, name) for name in cls.model_fields})


class StepAnswer(BaseModel):
    """One step in the time line. Leg 0 is the whole redemption."""

    action: str
    leg: int
    number: int
    state: str
    reason: str | None
    began_at: datetime
    ended_at: datetime | None

    @classmethod
    def of(cls, step: StepView) -> StepAnswer:
        """Return a step as it goes out."""
        return cls(**{name: getattr(step, name) for name in cls.model_fields})


class RedemptionAnswer(BaseModel):
    """A redemption as it stands. `reason`: why it ended without a booking. `needs`: what a person must look at."""

    redemption_id: str
    member_id: str
    status: str
    legs: Sequence[LegAnswer]
    points: int
    cash_minor: int
    currency: str
    reason: str | None
    needs: str | None
    question: QuestionAnswer | None
    created_at: datetime
    updated_at: datetime
    steps: Sequence[StepAnswer]

    @classmethod
    def of(cls, view: RedemptionView) -> RedemptionAnswer:
        """Return a redemption as it goes out."""
        return cls(
            redemption_id=view.id,
            member_id=view.member_id,
            status=view.status,
            legs=[LegAnswer.of(leg) for leg in view.legs],
            points=view.points,
            cash_minor=view.cash_minor,
            currency=view.currency,
            reason=view.reason,
            needs=view.needs,
            question=QuestionAnswer.of(view.question) if view.question else None,
            created_at=view.created_at,
            updated_at=view.updated_at,
            steps=[StepAnswer.of(step) for step in view.steps],
        )


class RedemptionsAnswer(BaseModel):
    """Redemptions, without their time lines."""

    redemptions: Sequence[RedemptionAnswer]


class PointsTransferAnswer(BaseModel):
    """A transfer as it stands. `points` are those that were taken once it is converted."""

    transfer_id: str
    member_id: str
    partner: str
    points: int
    units: int
    status: TransferStatus
    file: str | None
    reason: str | None
    created_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, view: TransferView) -> PointsTransferAnswer:
        """Return a transfer as it goes out."""
        given = {name: getattr(view, name) for name in cls.model_fields if name != "transfer_id"}
        return cls(transfer_id=view.id, **given)


class PointsTransferReceiptAnswer(BaseModel):
    """What a transfer is known by. It goes on by itself, with the partner's next file."""

    transfer_id: str


class RedemptionReceiptAnswer(BaseModel):
    """What a redemption is known by. It goes on by itself: look at it to see how it ends."""

    redemption_id: str
