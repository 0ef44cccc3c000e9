"""What points do when events arrive: accounts follow their members, payments earn, and earning makes tiers."""

from __future__ import annotations

from collections.abc import Sequence

from faregate.events.members import MemberErased, StatusChanged, UserRegistered
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
from faregate.points.contracts.membership import MemberChange, Standing

_PAYMENTS: dict[str, type[PaymentEvent]] = {
    event.type: event for event in (PaymentAuthorised, PaymentCaptured, PaymentReversed, PaymentRefunded)
}


_STANDINGS = {"active": Standing.ACTIVE, "frozen": Standing.FROZEN, "closed": Standing.LEFT}


def consumer_groups(*, points: PointsApi, earning: PaymentEarning, tiers: TierKeeper) -> list[ConsumerGroup]:
    """Return the consumer groups of this context."""

    async def keep_accounts(conn: Connection, events: Sequence[Event]) -> None:
        changes = [change for event in events if (change := _change(event)) is not None]
        registered = [event.aggregate_id for event in events if event.type == UserRegistered.type]
        newest = max(event.time for event in events)
        if changes:  # the ledger looks by a connection of its own: an account must be there before
            await points.open_accounts(registered, at=newest)
            await points.follow_members(changes)
        else:
            await points.open_accounts(registered, at=newest, conn=conn)

    async def follow_payments(conn: Connection, events: Sequence[Event]) -> None:
        await earning.follow(conn, [_PAYMENTS[event.type].from_event(event) for event in events])

    async def keep_tiers(conn: Connection, events: Sequence[Event]) -> None:
        members = [event.aggregate_id for event in events]
        await tiers.look_at(conn, members, now=max(event.time for event in events))

    return [
        ConsumerGroup(
            name="points.accounts",
            types=(UserRegistered.type, StatusChanged.type, MemberErased.type),
            handler=keep_accounts,
        ),
        ConsumerGroup(name="points.payments", types=tuple(_PAYMENTS), handler=follow_payments),
        ConsumerGroup(
            name="points.tiers", types=(PointsEarned.type, PointsReversed.type), handler=keep_tiers
        ),
    ]


def _change(event: Event) -> MemberChange | None:
    """Return how a member stands since an event, None for one that says nothing about it."""
    if event.type == MemberErased.type:
        standing = Standing.LEFT
    elif event.type == StatusChanged.type:
        standing = _STANDINGS[StatusChanged.from_event(event).status]
    else:
        return None
    return MemberChange(
        member_id=event.aggregate_id, standing=standing, event_id=str(event.id), at=event.time
    )
