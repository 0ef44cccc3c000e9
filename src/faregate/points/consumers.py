"""What points do when events arrive: a new member gets an account, payments earn, and earning makes tiers."""

from __future__ import annotations

from collections.abc import Sequence

from faregate.events.members import UserRegistered
from faregate.events.payments import (
    PaymentAuthorised,
    PaymentCaptured,
    PaymentEvent,
    PaymentRefunded,
    PaymentReversed,
)
from faregate.events.points import PointsEarned, PointsReversed
from faregate.infra.database import Connection
from faregate.infra.eventlog import ConsumerGroup
from faregate.kernel.event import Event
from faregate.points.api import PaymentEarning, PointsApi, TierKeeper

_PAYMENTS: dict[str, type[PaymentEvent]] = {
    event.type: event for event in (PaymentAuthorised, PaymentCaptured, PaymentReversed, PaymentRefunded)
}


def consumer_groups(*, points: PointsApi, earning: PaymentEarning, tiers: TierKeeper) -> list[ConsumerGroup]:
    """Return the consumer groups of this context."""

    async def open_accounts(conn: Connection, events: Sequence[Event]) -> None:
        registered = [UserRegistered.from_event(event) for event in events]
        newest = max(one.registered_at for one in registered)
        await points.open_accounts([one.member_id for one in registered], at=newest, conn=conn)

    async def follow_payments(conn: Connection, events: Sequence[Event]) -> None:
        await earning.follow(conn, [_PAYMENTS[event.type].from_event(event) for event in events])

    async def keep_tiers(conn: Connection, events: Sequence[Event]) -> None:
        members = [event.aggregate_id for event in events]
        await tiers.look_at(conn, members, now=max(event.time for event in events))

    return [
        ConsumerGroup(name="points.accounts", types=(UserRegistered.type,), handler=open_accounts),
        ConsumerGroup(name="points.payments", types=tuple(_PAYMENTS), handler=follow_payments),
        ConsumerGroup(
            name="points.tiers", types=(PointsEarned.type, PointsReversed.type), handler=keep_tiers
        ),
    ]
