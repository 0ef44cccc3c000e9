"""What points do when events arrive: a new member gets an account."""

from __future__ import annotations

from collections.abc import Sequence

from faregate.events.members import UserRegistered
from faregate.infra.database import Connection
from faregate.infra.eventlog import ConsumerGroup
from faregate.kernel.event import Event
from faregate.points.api import PointsApi


def consumer_groups(*, points: PointsApi) -> list[ConsumerGroup]:
    """Return the consumer groups of this context."""

    async def open_accounts(conn: Connection, events: Sequence[Event]) -> None:
        registered = [UserRegistered.from_event(event) for event in events]
        newest = max(one.registered_at for one in registered)
        await points.open_accounts([one.member_id for one in registered], at=newest, conn=conn)

    return [ConsumerGroup(name="points.accounts", types=(UserRegistered.type,), handler=open_accounts)]
