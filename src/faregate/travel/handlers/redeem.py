"""What members and operators do with redemptions: begin, answer a new price, cancel, help one that is stuck."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from fractions import Fraction
from math import ceil
from typing import Final

from faregate.events.base import PublishedEvent
from faregate.events.travel import FlightSearched, HotelSearched, RedemptionStarted
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.infra.telemetry.tracing import current_traceparent
from faregate.infra.workflow import NewRun, start_runs
from faregate.kernel.errors import ConflictError, ForbiddenError, InvalidError, NotFoundError
from faregate.travel.contracts.partners import Offer, Partner, SearchQuery, TravelKind
from faregate.travel.contracts.redemptions import Members, NewRedemption, Traveller, Wish
from faregate.travel.domain.saga import Action, Leg, Saga, Status, Step, StepState
from faregate.travel.handlers.saga import REDEMPTION_RUN, SagaDesk, run_of
from faregate.travel.store import redemptions as store
from faregate.travel.store.redemptions import BookedLeg, Row

LEGS_MAX: Final = 6


class PartnerNotFound(NotFoundError):
    """There is no partner of this name."""


class MemberMayNotTravel(ForbiddenError):
    """There is no active member of this id, or the member has no name to travel under."""


class TripInvalid(InvalidError):
    """A trip that nobody can book: no legs, too many of them, several currencies, or more cash than it costs."""


class StayEndsBeforeItBegins(InvalidError):
    """The day of departure from a hotel is not after that of arrival."""


class PriceRose(ConflictError):
    """An offer costs more than the price at which it was chosen; `price_minor` says what it costs now."""


class NothingToAnswer(ConflictError):
    """No new price waits for an answer."""


class CannotBeCancelled(ConflictError):
    """It has ended without a booking, or is being cancelled already."""


class NothingIsStuck(ConflictError):
    """It does not wait for a person."""


@dataclass(frozen=True, kw_only=True)
class Redeeming:
    """Redemptions under their members' and operators' hands. `point_micro_minor`: what a point pays, in millionths."""

    desk: SagaDesk
    partners: Mapping[str, Partner]
    members: Members
    point_micro_minor: int
    decide_within: timedelta
    quote_s: float = 10.0

    def points_for(self, price_minor: int) -> int:
        """Return what a price is in points, rounded up."""
        return ceil(Fraction(price_minor * 1_000_000, self.point_micro_minor))

    async def prepare(self, wanted: NewRedemption) -> tuple[Traveller, Sequence[Offer]]:
        """Ask who travels, and what the offers cost now; before any transaction.

        Raises MemberMayNotTravel, TripInvalid, PartnerNotFound, OfferGone, PartnerUnavailable or PriceRose.
        """
        if not 0 < len(wanted.wishes) <= LEGS_MAX:
            raise TripInvalid(f"a trip has 1 to {LEGS_MAX} bookings")
        traveller = await self.members.traveller(wanted.member_id)
        if traveller is None:
            raise MemberMayNotTravel("there is no active member of this id with a name to travel under")
        offers = await asyncio.gather(*map(self._quote, wanted.wishes))
        if len({offer.currency for offer in offers}) > 1:
            raise TripInvalid("all of a trip is in one currency")
        if wanted.cash_minor > sum(offer.price_minor for offer in offers):
            raise TripInvalid("the cash is more than the trip costs")
        return traveller, offers

    async def begin(
        self, conn: Connection, wanted: NewRedemption, *, traveller: Traveller, offers: Sequence[Offer]
    ) -> str:
        """Begin a redemption in the caller's transaction, and return its id."""
        tools = self.desk.tools
        now, redemption_id = tools.clock.now(), tools.new_id("rdm")
        saga = Saga(
            id=redemption_id,
            legs=self._legs(offers, wanted.cash_minor),
            cash_minor=wanted.cash_minor,
            deadline=now + self.decide_within,
        )
        traceparent = current_traceparent()
        await store.insert(
            conn,
            store.NewRow(
                saga=saga,
                member_id=wanted.member_id,
                legs=[BookedLeg(kind=offer.kind, title=offer.title) for offer in offers],
                traveller_encrypted=tools.seal(redemption_id, traveller),
                currency=offers[0].currency,
                traceparent=traceparent,
                now=now,
            ),
        )
        started = RedemptionStarted(
            redemption_id=redemption_id,
            member_id=wanted.member_id,
            partners=tuple(offer.partner for offer in offers),
            points=saga.points,
            cash_minor=wanted.cash_minor,
        )
        await append(conn, [tools.stamp(started, now=now, traceparent=traceparent)])
        await self._start(conn, redemption_id, runs=1, traceparent=traceparent)
        return redemption_id

    async def answer(
        self, conn: Connection, redemption_id: str, *, leg: int, price_minor: int, is_yes: bool
    ) -> None:
        """Take a member's answer to a new price. Raises RedemptionNotFound or NothingToAnswer."""
        row = await store.lock_one(conn, redemption_id)
        asked = row.saga.open_step()
        if asked is None or (asked.action, asked.leg, asked.asked.get("amount")) != (
            Action.ASK_CONSENT,
            leg,
            price_minor,
        ):
            raise NothingToAnswer("no such price waits for an answer")
        state = StepState.DONE if is_yes else StepState.NOT_DONE
        row.saga = row.saga.ended(
            asked, state, at=self.desk.tools.clock.now(), reason=None if is_yes else "refused_by_member"
        )
        row.status = Status.STARTED
        await self._woken(conn, row)

    async def cancel(self, conn: Connection, redemption_id: str) -> None:
        """Let everything be undone, at the partners' terms. Raises RedemptionNotFound or CannotBeCancelled."""
        row = await store.lock_one(conn, redemption_id)
        if row.status in (Status.FAILED, Status.CANCELLED):
            raise CannotBeCancelled("it has ended")
        if row.saga.is_cancelled and row.status is not Status.BOOKED:
            raise CannotBeCancelled("it is being cancelled already")
        row.saga = replace(_with_new_tries(row.saga, Action.CANCEL), is_cancelled=True)
        if row.status is Status.BOOKED:
            row.runs += 1
            row.status = Status.CANCELLING
            await self._start(conn, redemption_id, runs=row.runs, traceparent=row.traceparent)
        await self._woken(conn, row)

    async def try_again(self, conn: Connection, redemption_id: str) -> None:
        """Let what is stuck be tried again. Raises RedemptionNotFound or NothingIsStuck."""
        row = await store.lock_one(conn, redemption_id)
        if row.status is not Status.NEEDS_ATTENTION:
            raise NothingIsStuck("it does not wait for a person")
        now = self.desk.tools.clock.now()
        refused = [step for step in row.saga.steps if _is_stuck(row.saga, step)]
        for step in refused:
            row.saga = row.saga.ended(step, StepState.SUPERSEDED, at=now, reason=step.reason)
        awaited = row.saga.open_step()
        if awaited is not None:
            await self.desk.look_again(conn, row, awaited)
            until = now + self.desk.terms.resolve_within
            row.saga = replace(
                row.saga,
                steps=tuple(
                    replace(one, open_until=until) if one is awaited else one for one in row.saga.steps
                ),
            )
        await self._woken(conn, row)

    async def _woken(self, conn: Connection, row: Row) -> None:
        await self.desk.wake(conn, row)
        await store.save(conn, row, now=self.desk.tools.clock.now())

    async def _start(
        self, conn: Connection, redemption_id: str, *, runs: int, traceparent: str | None
    ) -> None:
        given = {"redemption_id": redemption_id, "traceparent": traceparent}
        await start_runs(
            conn, workflow=REDEMPTION_RUN, runs=[NewRun(id=run_of(redemption_id, runs), input=given)]
        )

    async def quote(self, partner: str, offer_id: str) -> Offer:
        """Return an offer as it stands now. Raises PartnerNotFound, OfferGone or PartnerUnavailable."""
        known = self.partners.get(partner)
        if known is None:
            raise PartnerNotFound(f"there is no partner {partner!r}")
        return await known.quote(offer_id, timeout_s=self.quote_s)

    async def announce_search(
        self, conn: Connection, query: SearchQuery, *, member_id: str, offers: int
    ) -> None:
        """Tell that a member searched."""
        now = self.desk.tools.clock.now()
        event: PublishedEvent
        if query.kind is TravelKind.FLIGHT:
            event = FlightSearched(
                member_id=member_id,
                origin=query.origin,
                destination=query.destination,
                on=query.on,
                offers=offers,
                searched_at=now,
            )
        else:
            event = HotelSearched(
                member_id=member_id,
                destination=query.destination,
                on=query.on,
                offers=offers,
                searched_at=now,
            )
        await append(conn, [self.desk.tools.stamp(event, now=now, traceparent=current_traceparent())])

    async def _quote(self, wish: Wish) -> Offer:
        offer = await self.quote(wish.partner, wish.offer_id)
        if offer.price_minor > wish.price_minor:
            raise PriceRose(
                f"{offer.title} costs {offer.price_minor} now",
                price_minor=offer.price_minor,
                offer=offer.offer_id,
            )
        return offer

    def _legs(self, offers: Sequence[Offer], cash_minor: int) -> list[Leg]:
        """Return the legs. Cash pays the first of them first, the rest is paid in points."""
        legs, cash = [], cash_minor
        for no, offer in enumerate(offers, start=1):
            in_cash = min(cash, offer.price_minor)
            cash -= in_cash
            legs.append(
                Leg(
                    no=no,
                    partner=offer.partner,
                    offer_id=offer.offer_id,
                    price_minor=offer.price_minor,
                    points=self.points_for(offer.price_minor - in_cash),
                    is_held_first=offer.is_holdable,
                    cash_minor=in_cash,
                    point_micro_minor=self.point_micro_minor,
                )
            )
        return legs


def _is_stuck(saga: Saga, step: Step) -> bool:
    """Whether a step was refused that undoes something."""
    undoes = (
        Action.RELEASE,
        Action.CANCEL,
        Action.VOID_POINTS,
        Action.REFUND_POINTS,
        Action.VOID_CASH,
        Action.REFUND_CASH,
    )
    return (
        step.state is StepState.NOT_DONE
        and step.action in undoes
        and saga.last(step.action, step.leg) is step
    )


def _with_new_tries(saga: Saga, action: Action) -> Saga:
    """Return the saga in which tries of an action that were refused do not count any more."""
    steps = tuple(
        replace(step, state=StepState.SUPERSEDED)
        if step.action is action and step.state is StepState.NOT_DONE
        else step
        for step in saga.steps
    )
    return replace(saga, steps=steps)
