"""Announces what the ledger did, in the transaction that did it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Final
from uuid import UUID

from faregate.events.points import (
    PointsBurned,
    PointsEarned,
    PointsEvent,
    PointsExpired,
    PointsHeld,
    PointsPromised,
    PointsReleased,
    PointsReversed,
)
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.kernel.event import NewEvent
from faregate.points.contracts.ledger import OperationKind
from faregate.points.domain.case import Decided

_EVENTS: Final[Mapping[OperationKind, type[PointsEvent]]] = {
    OperationKind.EARN: PointsEarned,
    OperationKind.CONFIRM: PointsEarned,
    OperationKind.RECEIVE: PointsEarned,
    OperationKind.EARN_PENDING: PointsPromised,
    OperationKind.HOLD: PointsHeld,
    OperationKind.VOID: PointsReleased,
    OperationKind.CANCEL: PointsReleased,
    OperationKind.TIME_OUT: PointsReleased,
    OperationKind.BURN: PointsBurned,
    OperationKind.POST: PointsBurned,
    OperationKind.CONVERT: PointsBurned,
    OperationKind.TRANSFER: PointsBurned,
    OperationKind.EXPIRE: PointsExpired,
    OperationKind.REVERSE: PointsReversed,
    OperationKind.GIVE_BACK: PointsReversed,
}


def announcer(*, new_id: Callable[[], UUID]) -> Callable[[Connection, Sequence[Decided]], Awaitable[None]]:
    """Return what appends the events of decided operations. A refusal is no event."""

    async def announce(conn: Connection, decided: Sequence[Decided]) -> None:
        await append(conn, list(_events(decided, new_id=new_id)))

    return announce


def _events(decided: Iterable[Decided], *, new_id: Callable[[], UUID]) -> Iterable[NewEvent]:
    for one in decided:
        event = _event_type(one)
        if event is None or one.balance is None:
            continue
        data: dict[str, Any] = {
            "member_id": one.member_id,
            "operation": one.no,
            "kind": one.kind.value,
            "amount": abs(one.amount),
            "subject": one.follows.no if one.follows else one.subject_no,
            "posted": one.balance.posted,
            "available": one.balance.available,
        }
        if event is PointsReleased:
            data["cause"] = "timed_out" if one.kind is OperationKind.TIME_OUT else "asked"
        yield NewEvent(
            id=new_id(),
            type=event.type,
            aggregate_type=event.aggregate_type,
            aggregate_id=one.member_id,
            time=one.at,
            data=data,
        )


def _event_type(one: Decided) -> type[PointsEvent] | None:
    if one.kind is OperationKind.ADJUST:
        return PointsEarned if one.amount > 0 else PointsBurned
    return _EVENTS.get(one.kind)
