"""Redemptions as members and operators see them."""

from __future__ import annotations

from collections.abc import Sequence

from faregate.travel.contracts.redemptions import LegView, Question, RedemptionView, StepView
from faregate.travel.domain.course import points_at, points_of
from faregate.travel.domain.saga import Action, Status
from faregate.travel.store.redemptions import Row


def view_of(row: Row, *, with_steps: bool = True) -> RedemptionView:
    """Return what is shown of a redemption."""
    saga = row.saga
    return RedemptionView(
        id=saga.id,
        member_id=row.member_id,
        status=row.status.value,
        legs=_legs(row),
        points=sum(points_of(saga, leg) for leg in saga.legs),
        cash_minor=saga.cash_minor,
        currency=row.currency,
        reason=saga.failing,
        needs=row.needs,
        question=_question(row),
        created_at=row.created_at,
        updated_at=row.updated_at,
        steps=_steps(row) if with_steps else (),
    )


def _legs(row: Row) -> Sequence[LegView]:
    views = []
    for leg, of in zip(row.saga.legs, row.legs, strict=True):
        booking = row.saga.booking(leg.no) or {}
        views.append(
            LegView(
                no=leg.no,
                partner=leg.partner,
                kind=of.kind,
                title=of.title,
                price_minor=int(booking.get("price_minor", leg.price_minor)),
                points=points_of(row.saga, leg),
                state=booking.get("state"),
                booking_id=booking.get("booking_id"),
            )
        )
    return views


def _question(row: Row) -> Question | None:
    step = row.saga.open_step()
    if row.status is not Status.AWAITING_CONSENT or step is None or step.action is not Action.ASK_CONSENT:
        return None
    leg, price = row.saga.leg(step.leg), int(step.asked["amount"])
    return Question(
        leg=step.leg, price_minor=price, points_more=points_at(leg, price) - leg.points, until=step.open_until
    )


def _steps(row: Row) -> Sequence[StepView]:
    return [
        StepView(
            place=place,
            action=step.action.value,
            leg=step.leg,
            number=step.number,
            state=step.state.value,
            reason=step.reason,
            began_at=times[0],
            ended_at=times[1],
        )
        for place, (step, times) in enumerate(zip(row.saga.steps, row.times, strict=True))
    ]
