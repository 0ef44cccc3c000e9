"""What a redemption is while it happens: legs at partners, points, cash, and the steps that were taken so far.

A saga is a value; a step that ends makes another one. What to do next is decided in `course`. No I/O and no clock.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any

from faregate.travel.contracts.partners import Act, BookingState


class Action(StrEnum):
    """Everything that a saga does. Those of a partner have the names of `Act`."""

    PLACE = Act.PLACE.value
    CONFIRM = Act.CONFIRM.value
    BOOK = Act.BOOK.value
    RELEASE = Act.RELEASE.value
    CANCEL = Act.CANCEL.value
    HOLD_POINTS = "hold_points"
    EXTEND_POINTS = "extend_points"
    POST_POINTS = "post_points"
    VOID_POINTS = "void_points"
    REFUND_POINTS = "refund_points"
    AUTHORISE_CASH = "authorise_cash"
    CAPTURE_CASH = "capture_cash"
    VOID_CASH = "void_cash"
    REFUND_CASH = "refund_cash"
    ASK_CONSENT = "ask_consent"

    @property
    def is_partners(self) -> bool:
        """Whether a partner does it."""
        return self.value in _PARTNERS


_PARTNERS = frozenset(act.value for act in Act)


class StepState(StrEnum):
    """How far a step is. `unknown`: it may have been done. `superseded`: an operator lets it be tried again."""

    ASKED = "asked"
    UNKNOWN = "unknown"
    DONE = "done"
    NOT_DONE = "not_done"
    SUPERSEDED = "superseded"


OPEN = frozenset({StepState.ASKED, StepState.UNKNOWN})
WHOLE = 0
"""The leg of a step that is about the whole redemption."""


class Status(StrEnum):
    """What a redemption is to its member. The last three are its ends; a booked one may be cancelled."""

    STARTED = "started"
    AWAITING_CONSENT = "awaiting_consent"
    NEEDS_ATTENTION = "needs_attention"
    CANCELLING = "cancelling"
    BOOKED = "booked"
    FAILED = "failed"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One booking at one partner. `is_held_first`: it is held, then confirmed; else it is booked at once.

    `points` and `cash_minor` are what is paid of its price in points and in cash. A point pays `point_micro_minor`
    millionths of the minor unit.
    """

    no: int
    partner: str
    offer_id: str
    price_minor: int
    points: int
    is_held_first: bool
    cash_minor: int = 0
    point_micro_minor: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One thing that was asked of a partner, of the ledger, of the cash desk or of the member.

    `number` counts the tries of an action on a leg. `facts` is what came of it. `open_until`: from when on nobody
    looks any more for what became of it.
    """

    action: Action
    leg: int
    number: int
    state: StepState
    open_until: datetime
    asked: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    reason: str | None = None
    ended_at: datetime | None = None

    @property
    def is_done(self) -> bool:
        """Whether it was done, and not only answered with another price."""
        return self.state is StepState.DONE and self.facts.get("state") != BookingState.PRICE_CHANGED

    @property
    def new_price(self) -> int | None:
        """The price for which a partner wants a yes, None when it wants none."""
        is_asked = self.state is StepState.DONE and self.facts.get("state") == BookingState.PRICE_CHANGED
        return int(self.facts["price_minor"]) if is_asked else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Saga:
    """A redemption. `deadline`: when it must have been decided.

    `failing`: why it goes back, None while it goes forward. `is_cancelled`: its member wants it undone. `is_booked`: it
    was booked, whatever came later.
    """

    id: str
    legs: Sequence[Leg]
    cash_minor: int
    deadline: datetime
    steps: Sequence[Step] = ()
    failing: str | None = None
    is_cancelled: bool = False
    is_booked: bool = False

    @property
    def points(self) -> int:
        """All that is paid in points, at the prices of the beginning."""
        return sum(leg.points for leg in self.legs)

    def leg(self, no: int) -> Leg:
        """Return a leg by its number, which counts from 1."""
        return self.legs[no - 1]

    def of(self, action: Action, leg: int = WHOLE) -> Iterator[Step]:
        """Return the tries of an action on a leg, the newest first."""
        return (step for step in reversed(self.steps) if (step.action, step.leg) == (action, leg))

    def last(self, action: Action, leg: int = WHOLE) -> Step | None:
        """Return the last try that counts."""
        return next((one for one in self.of(action, leg) if one.state is not StepState.SUPERSEDED), None)

    def was_done(self, action: Action, leg: int = WHOLE) -> bool:
        """Whether an action was done on a leg."""
        return any(step.is_done for step in self.of(action, leg))

    def next_number(self, action: Action, leg: int = WHOLE) -> int:
        """Return the number of the next try."""
        return sum(1 for _ in self.of(action, leg)) + 1

    def open_step(self) -> Step | None:
        """Return the step whose end is awaited, if there is one."""
        return next((step for step in self.steps if step.state in OPEN), None)

    def booking(self, leg: int) -> Mapping[str, Any] | None:
        """Return what is known of the booking of a leg, None before it is made."""
        made = [step for step in self.steps if step.leg == leg and step.is_done and step.action.is_partners]
        return {name: value for step in made for name, value in step.facts.items()} if made else None

    def held_points(self) -> int:
        """Return how many points were held for it."""
        return sum(int(step.facts["amount"]) for step in self._holds())

    def points_until(self) -> datetime | None:
        """Return when the first hold of points would end by itself, None when none is open."""
        if self.last(Action.POST_POINTS) or self.last(Action.VOID_POINTS) or not any(self._holds()):
            return None
        extended = next((step for step in self.of(Action.EXTEND_POINTS) if step.is_done), None)
        ends = [step.facts["expires_at"] for step in self._holds()]
        return datetime.fromisoformat(extended.facts["expires_at"] if extended else min(ends))

    def with_step(self, step: Step) -> Saga:
        """Return the saga with a further step."""
        return replace(self, steps=(*self.steps, step))

    def ended(
        self,
        step: Step,
        state: StepState,
        *,
        at: datetime,
        facts: Mapping[str, Any] | None = None,
        reason: str | None = None,
    ) -> Saga:
        """Return the saga after a step ended at an instant, or after it became unknown."""
        ended_at = None if state in OPEN else at
        now = replace(step, state=state, facts=dict(facts or {}), reason=reason, ended_at=ended_at)
        return replace(self, steps=tuple(now if one is step else one for one in self.steps))

    def _holds(self) -> Iterator[Step]:
        return (step for step in self.steps if step.action is Action.HOLD_POINTS and step.is_done)
