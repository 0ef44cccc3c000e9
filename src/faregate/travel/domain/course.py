"""What a saga does next: a pure function of what happened and of the time.

Forward: what can be held is held first, then the points, then what can only be booked at once is booked, then what
is held is confirmed, then the points are posted. So the order follows from what the partners can do, and what costs
most to undo comes last. Back: what was done is undone in reverse, each once. One step is under way at a time, and
as long as nobody knows what became of it nothing else happens: neither the way on nor the way back may begin on a
guess.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from math import ceil

from faregate.travel.domain.saga import WHOLE, Action, Leg, Saga, Status, Step, StepState

TOO_LATE = "too_late"
CANCELLED_BY_MEMBER = "cancelled_by_member"
PRICE_REFUSED = "price_refused"
_UNDONE_BY = {
    Action.PLACE: Action.RELEASE,
    Action.BOOK: Action.CANCEL,
    Action.CONFIRM: Action.CANCEL,
    Action.HOLD_POINTS: Action.VOID_POINTS,
    Action.POST_POINTS: Action.REFUND_POINTS,
    Action.AUTHORISE_CASH: Action.VOID_CASH,
    Action.CAPTURE_CASH: Action.REFUND_CASH,
}
_PASSING = frozenset(
    {
        "budget_exhausted",
        "lease_over",
        "not_connected",
        "not_found",
        "order_not_created",
        "rate_limited",
        "unavailable",
    }
)
"""Why something was not done that may be done the next time: nobody refused it."""
_CONTAINS = {
    Action.PLACE: Action.CONFIRM,
    Action.HOLD_POINTS: Action.POST_POINTS,
    Action.AUTHORISE_CASH: Action.CAPTURE_CASH,
}
"""What is undone with the later action that it led to, if that was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How a redemption is treated. All times are longer than what may be lost of them.

    A hold at a partner must last for another `hold_margin` when it is confirmed. Points are held for `points_after`
    longer than anything that may be confirmed, and again as often as `points_again` is left. `answer_within`: how
    long a member may think about a new price; one that is at most `tolerance` higher needs no answer and costs the
    member nothing. What was not undone, though nobody refused, is tried again after `undo_again`, then twice as
    long, `undo_tries` times.
    """

    hold_margin: timedelta = timedelta(seconds=30)
    points_after: timedelta = timedelta(minutes=15)
    points_again: timedelta = timedelta(minutes=5)
    resolve_within: timedelta = timedelta(minutes=10)
    answer_within: timedelta = timedelta(minutes=10)
    tolerance: Fraction = Fraction(2, 100)
    undo_again: timedelta = timedelta(seconds=2)
    undo_again_max: timedelta = timedelta(minutes=2)
    undo_tries: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Do:
    """Take a step. `amount`: what is paid, or may be lost at most, in points or minor units as the action is."""

    action: Action
    leg: int = WHOLE
    number: int = 1
    amount: int = 0
    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Nothing can be done before a step ends, or before an instant."""

    until: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Lapse:
    """The time of an open step is over: it was not answered."""

    step: Step = field(compare=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fail:
    """It cannot go forward any more: from now on it goes back."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Stuck:
    """A person must look at it: a step that cannot be undone, or of which nobody learns what became of it."""

    step: Step = field(compare=False)
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class End:
    """It is over."""

    status: Status


Decision = Do | Wait | Lapse | Fail | Stuck | End


def decide(saga: Saga, *, now: datetime, terms: Terms) -> Decision:
    """Return what to do next."""
    if (until := _extend_at(saga, terms)) is not None and now >= until:
        return _do(saga, Action.EXTEND_POINTS, until=now + terms.points_after)
    step = saga.open_step()
    if step is not None:
        return _of_open(saga, step, now, terms)
    if saga.failing is not None:
        return _back(saga, now, terms) or End(status=_end_of(saga))
    if saga.is_cancelled and not saga.is_booked:
        return Fail(reason=CANCELLED_BY_MEMBER)
    if saga.is_cancelled:
        return _cancel(saga, terms, now) or End(status=_end_of_cancel(saga))
    return _forward(saga, now, terms) or End(status=Status.BOOKED)


def course(saga: Saga) -> Iterator[tuple[Action, int]]:
    """Return what is to be done, in its order."""
    held = [leg.no for leg in saga.legs if leg.is_held_first]
    yield from ((Action.PLACE, no) for no in held)
    if saga.points:
        yield Action.HOLD_POINTS, WHOLE
    if saga.cash_minor:
        yield Action.AUTHORISE_CASH, WHOLE
    yield from ((Action.BOOK, leg.no) for leg in saga.legs if not leg.is_held_first)
    yield from ((Action.CONFIRM, no) for no in held)
    if saga.points or saga.held_points():
        yield Action.POST_POINTS, WHOLE
    if saga.cash_minor:
        yield Action.CAPTURE_CASH, WHOLE


def _of_open(saga: Saga, step: Step, now: datetime, terms: Terms) -> Decision:
    if now >= step.open_until:
        if step.action is Action.ASK_CONSENT:
            return Lapse(step=step)
        return Stuck(step=step, reason="nobody learns what became of it")
    extend_at = _extend_at(saga, terms)
    return Wait(until=min(step.open_until, extend_at) if extend_at else step.open_until)


def _extend_at(saga: Saga, terms: Terms) -> datetime | None:
    """Return when the hold of points must be made longer: it outlives whatever may still be confirmed."""
    until, last = saga.points_until(), saga.last(Action.EXTEND_POINTS)
    is_refused = last is not None and last.state is StepState.NOT_DONE
    return None if until is None or is_refused else until - terms.points_again


def _forward(saga: Saga, now: datetime, terms: Terms) -> Decision | None:
    """Return the next step on the way on, None at its end."""
    for action, leg in course(saga):
        step = saga.last(action, leg)
        if step is not None and step.is_done:
            continue
        if step is not None and step.state is StepState.NOT_DONE:
            return Fail(reason=f"{action.value}: {step.reason}")
        if step is not None and step.new_price is not None:
            return _at_new_price(saga, step, step.new_price, now, terms)
        if _must_be_in_time(saga, action) and now >= _latest(saga, terms):
            return Fail(reason=TOO_LATE)
        return _do(
            saga, action, leg, amount=_amount(saga, action, leg), until=_until(saga, action, now, terms)
        )
    return None


def _at_new_price(saga: Saga, step: Step, price: int, now: datetime, terms: Terms) -> Decision:
    """Go on at another price: at once when the member pays no more for it, else when the member says yes."""
    leg = saga.leg(step.leg)
    again = _do(saga, step.action, leg.no, amount=price, until=now + terms.resolve_within)
    if now >= _latest(saga, terms):
        return Fail(reason=TOO_LATE)
    if price <= leg.price_minor * (1 + terms.tolerance):
        return again
    consent = next((one for one in saga.of(Action.ASK_CONSENT, leg.no) if one.asked["amount"] == price), None)
    if consent is None:
        until = min(now + terms.answer_within, _latest(saga, terms))
        return _do(saga, Action.ASK_CONSENT, leg.no, amount=price, until=until)
    if consent.state is not StepState.DONE:
        return Fail(reason=PRICE_REFUSED)
    more = points_at(leg, price) - leg.points - _topped_up(saga, leg.no)
    if more > 0:
        last = saga.last(Action.HOLD_POINTS, leg.no)
        if last is not None and last.state is StepState.NOT_DONE:
            return Fail(reason=f"{Action.HOLD_POINTS.value}: {last.reason}")
        return _do(
            saga,
            Action.HOLD_POINTS,
            leg.no,
            amount=more,
            until=_until(saga, Action.HOLD_POINTS, now, terms),
        )
    return again


def _back(saga: Saga, now: datetime, terms: Terms) -> Decision | None:
    """Return the next step on the way back, None when all is undone."""
    for done in reversed(saga.steps):
        if not done.is_done or not _is_undone_by_itself(saga, done):
            continue
        undo = _UNDONE_BY[done.action]
        leg = WHOLE if done.leg == WHOLE or not undo.is_partners else done.leg
        step = saga.last(undo, leg)
        if step is None:
            return _do(saga, undo, leg, amount=_given_back(saga, undo, leg), until=now + terms.resolve_within)
        if step.is_done:
            continue
        lapses_at = _lapses_at(saga, leg) if undo is Action.RELEASE else None
        if lapses_at is not None and now >= lapses_at:
            continue
        again = _again(saga, step, now, terms, whatever_reason=lapses_at is not None)
        if again is None:
            return Stuck(step=step, reason=step.reason or "not done")
        return again
    return None


def _again(
    saga: Saga, step: Step, now: datetime, terms: Terms, *, whatever_reason: bool = False
) -> Decision | None:
    """Return what to do about an undoing that was not done, but refused by nobody: it is tried again, ever later."""
    reason = step.reason or ""
    is_passing = whatever_reason or reason in _PASSING or reason.startswith("not_begun")
    if not is_passing or step.ended_at is None or step.number > terms.undo_tries:
        return None
    pause = min(terms.undo_again * 2.0 ** (step.number - 1), terms.undo_again_max)
    if now < step.ended_at + pause:
        return Wait(until=step.ended_at + pause)
    amount = int(step.asked.get("amount", 0))
    return _do(saga, step.action, step.leg, amount=amount, until=now + terms.resolve_within)


def _is_undone_by_itself(saga: Saga, done: Step) -> bool:
    """Whether a step is undone, and not with another: a hold with its confirmation, more points with the first."""
    if done.action not in _UNDONE_BY:
        return False
    if done.action is Action.HOLD_POINTS and done.leg != WHOLE and saga.was_done(done.action, WHOLE):
        return False
    later = _CONTAINS.get(done.action)
    return later is None or not saga.was_done(later, done.leg if later.is_partners else WHOLE)


def _cancel(saga: Saga, terms: Terms, now: datetime) -> Decision | None:
    """Return the next step of undoing what was booked, at the partners' terms; None at its end."""
    for leg in saga.legs:
        step = saga.last(Action.CANCEL, leg.no)
        if step is None:
            return _do(saga, Action.CANCEL, leg.no, amount=leg.price_minor, until=now + terms.resolve_within)
        if step.state is StepState.NOT_DONE:
            if (again := _again(saga, step, now, terms)) is not None:
                return again
            if leg.no == 1:
                return None
            return Stuck(step=step, reason=step.reason or "not done")
    for action, amount in (
        (Action.REFUND_POINTS, refunded_points(saga)),
        (Action.REFUND_CASH, refunded_cash(saga)),
    ):
        step = saga.last(action)
        if amount and step is None:
            return _do(saga, action, amount=amount, until=now + terms.resolve_within)
        if step is not None and step.state is StepState.NOT_DONE:
            return Stuck(step=step, reason=step.reason or "not done")
    return None


def points_at(leg: Leg, price_minor: int) -> int:
    """Return what a leg costs in points at another price: all that it costs more is paid in points."""
    more = max(0, price_minor - leg.price_minor)
    return leg.points + ceil(Fraction(more * 1_000_000, leg.point_micro_minor))


def points_of(saga: Saga, leg: Leg) -> int:
    """Return what a leg costs in points, with what was held for a dearer price that its member agreed to."""
    return leg.points + _topped_up(saga, leg.no)


def refunded_points(saga: Saga) -> int:
    """Return the points that a cancellation gives back: of the legs that were cancelled, less the penalties."""
    return sum(
        _less_penalty(saga, leg, points_of(saga, leg))
        for leg in saga.legs
        if saga.was_done(Action.CANCEL, leg.no)
    )


def refunded_cash(saga: Saga) -> int:
    """Return the cash that a cancellation gives back, likewise."""
    return sum(
        _less_penalty(saga, leg, leg.cash_minor) for leg in saga.legs if saga.was_done(Action.CANCEL, leg.no)
    )


def _less_penalty(saga: Saga, leg: Leg, paid: int) -> int:
    """Return a part of what was paid for a leg without its share of the penalty. The share is rounded up."""
    agreed = [int(one.asked["amount"]) for one in saga.of(Action.ASK_CONSENT, leg.no) if one.is_done]
    price = max([leg.price_minor, *agreed])
    return max(0, paid - ceil(Fraction(paid * _penalty(saga, leg), price)))


def _penalty(saga: Saga, leg: Leg) -> int:
    cancelled = next((step for step in saga.of(Action.CANCEL, leg.no) if step.is_done), None)
    return int(cancelled.facts.get("penalty_minor", 0)) if cancelled else 0


def _topped_up(saga: Saga, leg: int) -> int:
    return sum(int(step.facts["amount"]) for step in saga.of(Action.HOLD_POINTS, leg) if step.is_done)


def _amount(saga: Saga, action: Action, leg: int) -> int:
    match action:
        case Action.HOLD_POINTS:
            return saga.points
        case Action.POST_POINTS:
            return saga.held_points()
        case Action.AUTHORISE_CASH | Action.CAPTURE_CASH:
            return saga.cash_minor
        case _:
            return saga.leg(leg).price_minor


def _given_back(saga: Saga, undo: Action, leg: int) -> int:
    """Return what an undoing gives back; of a booking, what it may cost at most: all of its price."""
    match undo:
        case Action.VOID_POINTS | Action.REFUND_POINTS:
            return saga.held_points()
        case Action.VOID_CASH | Action.REFUND_CASH:
            return saga.cash_minor
        case _:
            return int((saga.booking(leg) or {}).get("price_minor", 0))


def _until(saga: Saga, action: Action, now: datetime, terms: Terms) -> datetime:
    """Return until when a step is looked after; of points that are held, when they come free by themselves."""
    if action is not Action.HOLD_POINTS:
        return now + terms.resolve_within
    lapses = [at for leg in saga.legs if (at := _lapses_at(saga, leg.no)) is not None]
    return max([saga.deadline, *lapses]) + terms.points_after


def _must_be_in_time(saga: Saga, action: Action) -> bool:
    """Whether a step may still be left undone: once something is booked or confirmed, the rest follows."""
    is_committed = any(step.is_done and step.action in (Action.BOOK, Action.CONFIRM) for step in saga.steps)
    return action not in (Action.POST_POINTS, Action.CAPTURE_CASH) and not is_committed


def _latest(saga: Saga, terms: Terms) -> datetime:
    """Return when it must have been decided: before the first of the partners' holds ends."""
    lapses = [at for leg in saga.legs if (at := _lapses_at(saga, leg.no)) is not None]
    return min([saga.deadline, *(at - terms.hold_margin for at in lapses)])


def _lapses_at(saga: Saga, leg: int) -> datetime | None:
    """Return when the tentative booking of a leg ends by itself, None where it does not."""
    placed = next((step for step in saga.of(Action.PLACE, leg) if step.is_done), None) if leg else None
    if placed is None or not placed.facts.get("hold_until"):
        return None
    return datetime.fromisoformat(placed.facts["hold_until"])


def _do(saga: Saga, action: Action, leg: int = WHOLE, *, amount: int = 0, until: datetime) -> Do:
    return Do(action=action, leg=leg, number=saga.next_number(action, leg), amount=amount, until=until)


def _end_of(saga: Saga) -> Status:
    return Status.CANCELLED if saga.failing == CANCELLED_BY_MEMBER else Status.FAILED


def _end_of_cancel(saga: Saga) -> Status:
    is_undone = all(saga.was_done(Action.CANCEL, leg.no) for leg in saga.legs)
    return Status.CANCELLED if is_undone else Status.BOOKED
