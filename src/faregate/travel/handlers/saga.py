"""Drives redemptions: what the saga decides is written, and what must be asked for is declared or returned.

`advance` and `record` are the steps of the durable run; `PartnerHooks` is what the gateway's pools call when a partner
answered. The decisions themselves are `domain.course`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final

from faregate.events.base import PublishedEvent
from faregate.events.travel import (
    ConsentAsked,
    FlightBooked,
    HotelBooked,
    RedemptionCancelled,
    RedemptionFailed,
    RedemptionNeedsAttention,
)
from faregate.gateway import api as gateway
from faregate.gateway.intent import NewIntent
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.infra.workflow import Signal, send_signals
from faregate.travel.contracts.partners import Act, TravelKind
from faregate.travel.contracts.redemptions import Came
from faregate.travel.domain.course import (
    Do,
    End,
    Fail,
    Lapse,
    Stuck,
    Terms,
    Wait,
    decide,
    points_of,
    refunded_points,
)
from faregate.travel.domain.references import subject_of
from faregate.travel.domain.saga import Action, Saga, Status, Step, StepState
from faregate.travel.handlers.tools import Tools
from faregate.travel.store import redemptions as store
from faregate.travel.store.redemptions import Row

REDEMPTION_RUN: Final = "redemption"
MOVED: Final = "moved"
"""The signal that something happened to a redemption: its run looks at it again."""
LOOK_AGAIN: Final = timedelta(days=1)
"""How often a redemption that waits for a person is looked at all the same."""


def run_of(redemption_id: str, runs: int) -> str:
    """Return the id of a redemption's latest run."""
    return redemption_id if runs == 1 else f"{redemption_id}-{runs}"


@dataclass(frozen=True, kw_only=True)
class SagaDesk:
    """Everything that happens to a redemption once it began. `send_within_s`: how long a partner may be tried."""

    tools: Tools
    terms: Terms
    send_within_s: Callable[[str], float]

    async def advance(self, conn: Connection, redemption_id: str) -> dict[str, Any]:
        """Go on as far as can be gone now.

        Returns what to do (`do`), until when to wait (`wait`), or how it ended (`end`).
        """
        row = await store.lock_one(conn, redemption_id)
        now = self.tools.clock.now()
        events: list[PublishedEvent] = []
        while True:
            decision = decide(row.saga, now=now, terms=self.terms)
            match decision:
                case Fail(reason=reason):
                    row.saga = replace(row.saga, failing=reason)
                    continue
                case Lapse(step=step):
                    row.saga = row.saga.ended(step, StepState.NOT_DONE, at=now, reason="no_answer")
                    continue
                case Do():
                    found = await self._do(conn, row, decision, now, events)
                case Wait(until=until):
                    found = {"wait": until.isoformat()}
                case Stuck():
                    found = self._stuck(row, decision, now, events)
                case End(status=status):
                    events += _ended(row, status)
                    row.saga = replace(row.saga, is_booked=row.saga.is_booked or status is Status.BOOKED)
                    row.status, row.needs = status, None
                    found = {"end": status.value}
            break
        await store.save_last(conn, row, now=now)
        await append(conn, [self.tools.stamp(one, now=now, traceparent=row.traceparent) for one in events])
        return found

    async def record(
        self, conn: Connection, redemption_id: str, *, do: Mapping[str, Any], came: Came
    ) -> None:
        """Remember what came of something that the ledger or the cash desk was asked for."""
        row, now = await store.lock_one(conn, redemption_id), self.tools.clock.now()
        step = Step(
            action=Action(do["action"]),
            leg=do["leg"],
            number=do["number"],
            state=StepState.DONE if came.refusal is None else StepState.NOT_DONE,
            open_until=datetime.fromisoformat(do["until"]),
            asked={"amount": do["amount"]},
            facts=dict(came.facts),
            reason=came.refusal,
            ended_at=now,
        )
        row.saga = row.saga.with_step(step)
        await store.save_last(conn, row, now=now)

    async def look_again(self, conn: Connection, row: Row, step: Step) -> None:
        """Let a partner be asked once more what became of a step, if nobody asks any longer."""
        if step.action.is_partners:
            await gateway.look_again(conn, [_subject(row.saga, step.action, step.leg, step.number)])

    async def wake(self, conn: Connection, row: Row) -> None:
        """Tell the run of a locked redemption that something happened; saved with the rest of it."""
        row.signals += 1
        signal = Signal(
            run_id=run_of(row.saga.id, row.runs), name=MOVED, signal_id=str(row.signals), payload=None
        )
        await send_signals(conn, [signal])

    async def _do(
        self, conn: Connection, row: Row, do: Do, now: datetime, events: list[PublishedEvent]
    ) -> dict[str, Any]:
        """Declare what a partner or the member is asked; return what the run must ask elsewhere."""
        saga = row.saga
        is_members = do.action is Action.ASK_CONSENT
        if not do.action.is_partners and not is_members:
            row.status = _under_way(saga)
            return {"do": _asked(row, do, now)}
        step = Step(
            action=do.action,
            leg=do.leg,
            number=do.number,
            state=StepState.ASKED,
            open_until=do.until,
            asked={"amount": do.amount},
        )
        row.saga = saga.with_step(step)
        row.needs = None
        if is_members:
            row.status = Status.AWAITING_CONSENT
            events.append(
                ConsentAsked(
                    redemption_id=saga.id,
                    member_id=row.member_id,
                    leg=do.leg,
                    price_minor=do.amount,
                    until=do.until,
                )
            )
        else:
            row.status = _under_way(saga)
            await gateway.declare(conn, [self._intent(row, do, now)])
        return {"wait": do.until.isoformat()}

    def _intent(self, row: Row, do: Do, now: datetime) -> NewIntent:
        partner = row.saga.leg(do.leg).partner
        return NewIntent(
            subject_id=_subject(row.saga, do.action, do.leg, do.number),
            check=partner,
            provider=partner,
            deadline=min(do.until, now + timedelta(seconds=self.send_within_s(partner))),
            traceparent=row.traceparent,
        )

    def _stuck(self, row: Row, stuck: Stuck, now: datetime, events: list[PublishedEvent]) -> dict[str, Any]:
        needs = f"{stuck.step.action.value} {stuck.step.leg}: {stuck.reason}"
        if row.status is not Status.NEEDS_ATTENTION or row.needs != needs:
            events.append(
                RedemptionNeedsAttention(
                    redemption_id=row.saga.id,
                    member_id=row.member_id,
                    action=stuck.step.action.value,
                    leg=stuck.step.leg,
                    reason=stuck.reason,
                )
            )
        row.status, row.needs = Status.NEEDS_ATTENTION, needs
        return {"wait": (now + LOOK_AGAIN).isoformat()}


def _subject(saga: Saga, action: Action, leg: int, number: int) -> str:
    booking = saga.booking(leg) or {}
    return subject_of(
        redemption=saga.id,
        leg=leg,
        act=Act(action.value),
        number=number,
        booking=str(booking.get("reference", "")),
    )


def _under_way(saga: Saga) -> Status:
    is_undone = saga.is_cancelled or saga.failing is not None
    return Status.CANCELLING if is_undone else Status.STARTED


def _asked(row: Row, do: Do, now: datetime) -> dict[str, Any]:
    """Return everything that the ledger or the cash desk needs to know."""
    saga = row.saga
    holds = [step for step in saga.steps if step.action is Action.HOLD_POINTS and step.is_done]
    posted = saga.last(Action.POST_POINTS)
    authorised = saga.last(Action.AUTHORISE_CASH)
    return {
        "action": do.action.value,
        "leg": do.leg,
        "number": do.number,
        "amount": do.amount,
        "at": now.isoformat(),
        "until": do.until.isoformat(),
        "key": f"{saga.id}:{do.action.value}:{do.leg}:{do.number}",
        "member_id": row.member_id,
        "currency": row.currency,
        "holds": [step.facts["hold"] for step in holds],
        "posted": posted.facts.get("operations", []) if posted else [],
        "authorisation": authorised.facts.get("authorisation") if authorised else None,
    }


def _ended(row: Row, status: Status) -> list[PublishedEvent]:
    """Return what an end tells the others. A cancellation that was refused changes nothing."""
    saga = row.saga
    who = {"redemption_id": saga.id, "member_id": row.member_id}
    match status:
        case Status.BOOKED if not saga.is_booked:
            return [
                (FlightBooked if of.kind is TravelKind.FLIGHT else HotelBooked)(
                    **who, leg=leg.no, partner=leg.partner, points=points_of(saga, leg)
                )
                for leg, of in zip(saga.legs, row.legs, strict=True)
            ]
        case Status.FAILED:
            return [RedemptionFailed(**who, reason=saga.failing or "unknown")]
        case Status.CANCELLED:
            return [
                RedemptionCancelled(**who, points_returned=refunded_points(saga) if saga.is_booked else 0)
            ]
        case _:
            return []
