"""What the members context does when events arrive: enrol whose card was approved, keep the tiers that are told."""

from __future__ import annotations

from collections.abc import Sequence

from faregate.events.credit import DecisionFinalized
from faregate.events.points import TierChanged
from faregate.infra.database import Connection
from faregate.infra.eventlog import ConsumerGroup
from faregate.kernel.event import Event
from faregate.members.api import Enroller, MembersApi
from faregate.members.contracts import TierNews


def consumer_groups(*, members: MembersApi, enroller: Enroller) -> list[ConsumerGroup]:
    """Return the consumer groups of this context."""

    async def enrol(conn: Connection, events: Sequence[Event]) -> None:
        decided = [(event, DecisionFinalized.from_event(event)) for event in events]
        approved = {
            decision.application_id: event.traceparent
            for event, decision in decided
            if decision.outcome == "approved"
        }
        await enroller.enrol(conn, approved)

    async def note_tiers(conn: Connection, events: Sequence[Event]) -> None:
        told = [TierChanged.from_event(event) for event in events]
        news = [TierNews(member_id=n.member_id, tier=n.tier, changed_at=n.changed_at) for n in told]
        await members.desk.note_tiers(conn, news)

    return [
        ConsumerGroup(name="members.enrolment", types=(DecisionFinalized.type,), handler=enrol),
        ConsumerGroup(name="members.tiers", types=(TierChanged.type,), handler=note_tiers),
    ]
