"""What travel is asked and what it answers about redemptions, and what it needs of points, members and a cash desk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any, Protocol

from faregate.kernel.errors import UnavailableError
from faregate.travel.contracts.partners import TravelKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Traveller:
    """In whose name is booked."""

    name: str
    date_of_birth: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """An offer that a member wants, and the price at which it was shown."""

    partner: str
    offer_id: str
    price_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRedemption:
    """A trip that a member wants: all of it or nothing. `cash_minor` of it is paid in cash, the rest in points."""

    member_id: str
    wishes: Sequence[Wish]
    cash_minor: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LegView:
    """One booking of a redemption as it stands. `state` is None before it is made."""

    no: int
    partner: str
    kind: TravelKind
    title: str
    price_minor: int
    points: int
    state: str | None
    booking_id: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StepView:
    """One step in the time line of a redemption."""

    place: int
    action: str
    leg: int
    number: int
    state: str
    reason: str | None
    began_at: datetime
    ended_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A new price that a partner wants for a leg, and until when the member may say yes or no."""

    leg: int
    price_minor: int
    points_more: int
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class RedemptionView:
    """A redemption as it stands. `reason`: why it ended without a booking. `needs`: what a person must look at."""

    id: str
    member_id: str
    status: str
    legs: Sequence[LegView]
    points: int
    cash_minor: int
    currency: str
    reason: str | None
    needs: str | None
    question: Question | None
    created_at: datetime
    updated_at: datetime
    steps: Sequence[StepView] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Came:
    """What came of something that was asked of the ledger or of the cash desk: done with facts, or refused and why."""

    refusal: str | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)


class Points(Protocol):
    """What a redemption needs of the points ledger. Whatever comes again under its key is done once."""

    async def hold(self, *, key: str, member_id: str, amount: int, lasts: timedelta, reference: str) -> Came:
        """Reserve points. The facts have `hold`, `amount` and `expires_at`."""
        ...

    async def extend(self, *, key: str, hold: int, lasts: timedelta) -> Came:
        """Let a hold last longer. The facts have `expires_at`."""
        ...

    async def post(self, *, key: str, hold: int) -> Came:
        """Spend what is held. The facts have `operation`."""
        ...

    async def void(self, *, key: str, hold: int) -> Came:
        """Release what is held. A hold whose time is over is released already."""
        ...

    async def refund(self, *, key: str, operation: int, amount: int) -> Came:
        """Give points of a posted hold back, with the dates that they had."""
        ...


class Payments(Protocol):
    """What a redemption needs of a cash desk. Whatever comes again under its key is done once."""

    async def authorise(self, *, key: str, member_id: str, amount_minor: int, currency: str) -> Came:
        """Reserve cash. The facts have `authorisation`."""
        ...

    async def capture(self, *, key: str, authorisation: str) -> Came:
        """Take what is authorised."""
        ...

    async def void(self, *, key: str, authorisation: str) -> Came:
        """Release what is authorised."""
        ...

    async def refund(self, *, key: str, authorisation: str, amount_minor: int) -> Came:
        """Give captured cash back."""
        ...


class MembersUnavailable(UnavailableError):
    """It cannot be learnt at present in whose name is booked."""


class Members(Protocol):
    """What travel asks about members."""

    async def traveller(self, member_id: str) -> Traveller | None:
        """Return in whose name an active member travels, None for one who may not.

        Raises MembersUnavailable.
        """
        ...
