"""What the payments context does when events arrive: issue cards for applications that were approved."""

from __future__ import annotations

from collections.abc import Sequence

from faregate.events.credit import DecisionFinalized
from faregate.infra.database import Connection
from faregate.infra.eventlog import ConsumerGroup
from faregate.kernel.event import Event
from faregate.payments.api import Issuer


def consumer_groups(*, issuer: Issuer) -> list[ConsumerGroup]:
    """Return the consumer groups of this context."""

    async def issue(conn: Connection, events: Sequence[Event]) -> None:
        decided = [(event, DecisionFinalized.from_event(event)) for event in events]
        approved = {
            decision.application_id: event.traceparent
            for event, decision in decided
            if decision.outcome == "approved"
        }
        if approved:
            await issuer.note(conn, approved)

    return [ConsumerGroup(name="payments.cards", types=(DecisionFinalized.type,), handler=issue)]
