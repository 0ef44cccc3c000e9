"""A redemption against model partners under a virtual clock: everything that can go wrong, drawn from one seed.

The saga's logic is the real one; partners, ledger, cash desk and member are models that keep the truth. Nothing waits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

from faregate.travel.contracts.partners import BookingState
from faregate.travel.domain.course import Do, End, Fail, Lapse, Stuck, Terms, Wait, decide
from faregate.travel.domain.saga import WHOLE, Action, Leg, Saga, Status, Step, StepState

START = datetime(2026, 1, 1, tzinfo=UTC)
TERMS = Terms()
STEPS_MAX = 400
STUCK_MAX = 8


_WHAT: dict[Action, Callable[[int], str]] = {
    Action.RELEASE: "booking {}".format,
    Action.CANCEL: "booking {}".format,
    Action.VOID_POINTS: lambda _: "points",
    Action.REFUND_POINTS: lambda _: "points",
    Action.VOID_CASH: lambda _: "cash",
    Action.REFUND_CASH: lambda _: "cash",
}


Came = tuple[StepState, dict[str, Any], str | None]
"""What came of a step: its state, its facts, and why it was not done."""


class Broken(AssertionError):
    """An invariant does not hold."""


@dataclass
class Booking:
    state: BookingState
    price: int
    hold_until: datetime | None = None


@dataclass
class Truth:
    """What is really so, whatever the saga believes."""

    bookings: dict[int, Booking] = field(default_factory=dict)
    made: dict[int, int] = field(default_factory=dict)
    held: int = 0
    held_until: datetime | None = None
    posted: int = 0
    refunded: int = 0
    cash: str = ""
    undone: list[tuple[Action, int]] = field(default_factory=list)
    order: list[str] = field(default_factory=list)
    came_free: bool = False


class World:
    """One run. `dice` decides everything, so a seed is a story."""

    def __init__(self, seed: int) -> None:
        self.dice = Random(seed)
        self.now = START
        self.truth = Truth()
        self.saga = self._new()
        self.cancels_at = START + timedelta(
            seconds=self.dice.uniform(0, 900 if self.dice.random() < 0.2 else 10**7)
        )
        self.trouble = self.dice.choice([0.0, 0.05, 0.3])
        self.stuck = 0
        self.log: list[str] = []

    def run(self) -> Status:
        """Play until the saga ends; return how. Raises Broken."""
        for _ in range(STEPS_MAX):
            self._let_time_do_its_work()
            decision = decide(self.saga, now=self.now, terms=TERMS)
            self.log.append(f"{(self.now - START).total_seconds():8.1f} {decision}")
            match decision:
                case End(status=status):
                    self._check_end(status)
                    if status is Status.BOOKED and not self.saga.is_booked:
                        self.saga = replace(self.saga, is_booked=True)
                        if self.dice.random() < 0.3:
                            self.saga = replace(self.saga, is_cancelled=True)
                            continue
                    return status
                case Fail(reason=reason):
                    self.saga = replace(self.saga, failing=reason)
                case Do():
                    self._do(decision)
                case Lapse(step=step):
                    self.saga = self.saga.ended(step, StepState.NOT_DONE, at=self.now, reason="no_answer")
                case Wait(until=until):
                    self._wait(until)
                case Stuck(step=step):
                    self._help(step)
            self._check()
        raise Broken("it does not come to an end\n" + "\n".join(self.log[-20:]))

    def _new(self) -> Saga:
        prices = [self.dice.randrange(1_000, 90_000) for _ in range(self.dice.choice([1, 1, 2, 3]))]
        cash = self.dice.choice([0, 0, prices[0] // 2, prices[0]])
        legs = [
            Leg(
                no=no,
                partner=f"p{no}",
                offer_id="o",
                price_minor=price,
                points=price - (cash if no == 1 else 0),
                is_held_first=self.dice.random() < 0.6,
                cash_minor=cash if no == 1 else 0,
            )
            for no, price in enumerate(prices, start=1)
        ]
        return Saga(id="rdm_1", legs=legs, cash_minor=cash, deadline=START + timedelta(minutes=10))

    # ── what a step does

    def _do(self, do: Do) -> None:
        step = Step(
            action=do.action,
            leg=do.leg,
            number=do.number,
            state=StepState.ASKED,
            open_until=do.until,
            asked={"amount": do.amount},
        )
        self.saga = self.saga.with_step(step)
        if do.action is Action.ASK_CONSENT:
            return
        if not do.action.is_partners:
            self._settle(step, *self._locally(do))
            return
        self._tick(self.dice.uniform(0.1, 20))
        trouble = self.dice.random()
        if trouble < self.trouble / 2:  # lost before the work: nobody knows
            self._unknown(step, executed=False, do=do)
        elif trouble < self.trouble:  # lost after the work
            self._unknown(step, executed=True, do=do)
        else:
            self._settle(step, *self._at_partner(do))

    def _unknown(self, step: Step, *, executed: bool, do: Do) -> None:
        """What became of it is found out only later, or by a person."""
        self.pending = self._at_partner(do) if executed else (StepState.NOT_DONE, {}, "not_found")
        unknown = replace(step, state=StepState.UNKNOWN)
        self.saga = replace(self.saga, steps=(*self.saga.steps[:-1], unknown))
        self.found_at = self.now + timedelta(seconds=self.dice.choice([1, 60, 400, 5_000]))

    def _settle(self, step: Step, state: StepState, facts: dict[str, Any], reason: str | None) -> None:
        self.saga = self.saga.ended(step, state, at=self.now, facts=facts, reason=reason)

    def _at_partner(self, do: Do) -> Came:
        booking, no = self.truth.bookings.get(do.leg), do.leg
        price = self.saga.leg(no).price_minor
        refused = self.dice.random() < self.trouble / 3
        match do.action:
            case Action.PLACE if not refused:
                until = self.now + timedelta(seconds=self.dice.choice([45, 300, 1_200, 86_400]))
                return self._made(no, Booking(BookingState.HELD, price, until))
            case Action.BOOK | Action.CONFIRM if self.dice.random() < 0.15 and do.amount <= price:
                more = int(price * self.dice.choice([1.01, 1.2]))
                return StepState.DONE, {"state": "price_changed", "price_minor": more}, None
            case Action.BOOK if not refused:
                return self._made(no, Booking(BookingState.CONFIRMED, do.amount))
            case Action.CONFIRM if booking and booking.state is BookingState.HELD and not refused:
                booking.state = BookingState.CONFIRMED
                self._happened(f"booking {no}")
                return StepState.DONE, {"state": "confirmed", "price_minor": do.amount}, None
            case Action.RELEASE | Action.CANCEL if not refused:
                if booking and booking.state in (BookingState.HELD, BookingState.CONFIRMED):
                    self._undo(do)
                    booking.state = BookingState.CANCELLED
                return StepState.DONE, {"state": "cancelled", "penalty_minor": price // 10}, None
        return StepState.NOT_DONE, {}, self.dice.choice(["refused", "unavailable"])

    def _made(self, no: int, booking: Booking) -> Came:
        self.truth.made[no] = self.truth.made.get(no, 0) + 1
        self.truth.bookings[no] = booking
        self._happened(f"booking {no}")
        until = booking.hold_until.isoformat() if booking.hold_until else None
        facts = {"state": booking.state.value, "price_minor": booking.price, "hold_until": until}
        return StepState.DONE, facts, None

    def _locally(self, do: Do) -> Came:
        truth = self.truth
        match do.action:
            case Action.HOLD_POINTS if self.dice.random() < self.trouble / 3:
                return StepState.NOT_DONE, {}, "insufficient_points"
            case Action.AUTHORISE_CASH if self.dice.random() < self.trouble / 3:
                return StepState.NOT_DONE, {}, "declined"
            case Action.HOLD_POINTS:
                truth.held += do.amount
                if do.leg == WHOLE or "points" not in truth.order:
                    self._happened("points")
                truth.held_until = min(do.until, truth.held_until or do.until)
                return StepState.DONE, {"amount": do.amount, "expires_at": do.until.isoformat()}, None
            case Action.EXTEND_POINTS:
                truth.held_until = do.until
                return StepState.DONE, {"expires_at": do.until.isoformat()}, None
            case Action.POST_POINTS:
                truth.posted, truth.held = truth.held, 0
                self._happened("points")
            case Action.VOID_POINTS:
                truth.held = 0
                self._undo(do)
            case Action.REFUND_POINTS:
                truth.refunded += do.amount
                self._undo(do)
            case _:
                truth.cash = do.action.value
                if do.action in (Action.AUTHORISE_CASH, Action.CAPTURE_CASH):
                    self._happened("cash")
                else:
                    self._undo(do)
        return StepState.DONE, {}, None

    def _happened(self, what: str) -> None:
        """Note the order: what is confirmed or posted counts from then on."""
        if what in self.truth.order:
            self.truth.order.remove(what)
        self.truth.order.append(what)

    def _undo(self, do: Do) -> None:
        self.truth.undone.append((do.action, do.leg))

    # ── time, the member, a person

    def _let_time_do_its_work(self) -> None:
        for booking in self.truth.bookings.values():
            if booking.state is BookingState.HELD and booking.hold_until and self.now >= booking.hold_until:
                booking.state = BookingState.EXPIRED
        if self.truth.held and self.truth.held_until and self.now >= self.truth.held_until:
            self.truth.came_free = True
        if self.now >= self.cancels_at and not self.saga.is_booked:
            self.saga = replace(self.saga, is_cancelled=True)

    def _tick(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)

    def _wait(self, until: datetime) -> None:
        step = self.saga.open_step()
        if step is None:
            self.now = max(self.now, until)
        elif step.action is Action.ASK_CONSENT:
            if self.dice.random() < 0.3:
                self.now = until
            else:
                self._tick(self.dice.uniform(1, 60))
                is_yes = self.dice.random() < 0.8
                self._settle(
                    step, StepState.DONE if is_yes else StepState.NOT_DONE, {}, None if is_yes else "no"
                )
        elif self.found_at <= until:
            self.now = max(self.now, self.found_at)
            self._settle(step, *self.pending)
        else:
            self.now = until

    def _help(self, step: Step) -> None:
        """A person looks at it: what nobody learned is found out, what was refused is tried again."""
        self.stuck += 1
        if self.stuck > STUCK_MAX:
            self.trouble = 0.0
        self._tick(self.dice.uniform(60, 3_000))
        if step.state is StepState.UNKNOWN:
            self._settle(step, *self.pending)
        else:
            self.saga = self.saga.ended(step, StepState.SUPERSEDED, at=self.now, reason=step.reason)

    # ── what must hold

    def _check(self) -> None:
        """S2 and S4 at every moment; the ledger's hold outlives what may still be confirmed."""
        self._require(all(count == 1 for count in self.truth.made.values()), "a leg was booked twice")
        if self.stuck == 0:
            self._require(not self.truth.came_free, "the points came free while it was under way")
        confirmed = any(b.state is BookingState.CONFIRMED for b in self.truth.bookings.values())
        is_paid = bool(self.truth.held or self.truth.posted or self.truth.cash)
        self._require(not confirmed or is_paid, "a booking stands without points or cash")
        undone = self.truth.undone
        self._require(len(undone) == len(set(undone)), "something was undone twice")
        if self.saga.failing is not None:
            order = [self.truth.order.index(_WHAT[action](leg)) for action, leg in undone]
            self._require(order == sorted(order, reverse=True), "undone, but not in reverse")

    def _check_end(self, status: Status) -> None:
        """S1 and S5: one end, and points are spent if and only if the partner's bookings stand."""
        states = {no: booking.state for no, booking in self.truth.bookings.items()}
        live = [no for no, state in states.items() if state in (BookingState.HELD, BookingState.CONFIRMED)]
        self._require(self.saga.open_step() is None, "a step is open at the end")
        if status is Status.BOOKED:
            self._require(self.truth.posted == self._costs(), "other points are spent than it costs")
            paid = ("capture_cash", "refund_cash") if self.saga.cash_minor else ("",)
            self._require(self.truth.cash in paid, f"booked, and the cash is {self.truth.cash}")
            self._require(bool(live), "booked without a booking")
            if not self.saga.is_cancelled or not self.truth.refunded:
                self._require(len(live) == len(self.saga.legs), "booked in part")
        else:
            self._require(not live, f"bookings stand: {states}")
            self._require(self.truth.held == 0, "points are still held")
            is_free = self.truth.cash in ("", "void_cash", "refund_cash")
            self._require(is_free or self.truth.refunded > 0, f"the cash is {self.truth.cash}")
            self._require(
                status is Status.CANCELLED or self.truth.posted == self.truth.refunded, "points are gone"
            )
            self._require(self.truth.refunded <= self.truth.posted, "more came back than was spent")

    def _costs(self) -> int:
        """Return what the trip costs in points, with what its member agreed to pay more. A point pays a minor unit."""
        agreed = {
            step.leg: int(step.asked["amount"])
            for step in self.saga.steps
            if step.action is Action.ASK_CONSENT and step.is_done
        }
        return sum(
            leg.points + agreed.get(leg.no, leg.price_minor) - leg.price_minor for leg in self.saga.legs
        )

    def _require(self, holds: bool, what: str) -> None:
        if not holds:
            raise Broken(what + "\n" + "\n".join(self.log))
