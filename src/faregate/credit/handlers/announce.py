"""Tells clients' webhook endpoints what became of their applications: ids and outcomes, nothing about a person."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from faregate.credit.store import applications
from faregate.events.credit import DecisionFinalized, ReviewClosed, ReviewOpened
from faregate.infra.database import Connection
from faregate.kernel.event import Event
from faregate.webhooks.api import announce
from faregate.webhooks.contracts import Announcement


def _decision(event: Event) -> Mapping[str, Any]:
    decided = DecisionFinalized.from_event(event)
    return {
        "application_id": decided.application_id,
        "outcome": decided.outcome,
        "decision_version": decided.decision_version,
    }


def _review(event: Event) -> Mapping[str, Any]:
    """Who reviews, and why, stays with us."""
    return {name: event.data[name] for name in ("application_id", "review_id", "decision_version")}


ANNOUNCED: Mapping[str, Callable[[Event], Mapping[str, Any]]] = {
    DecisionFinalized.type: _decision,
    ReviewOpened.type: _review,
    ReviewClosed.type: _review,
}
"""What is told of each event type that clients may subscribe to."""


async def announce_events(conn: Connection, events: Sequence[Event]) -> None:
    """Write the webhook deliveries of a batch of events, in the transaction that marks them as handled."""
    owners = await applications.clients_of(conn, sorted({event.aggregate_id for event in events}))
    await announce(
        conn,
        [
            Announcement(
                client_id=owners[event.aggregate_id],
                message_id=f"msg_{event.id.hex}",
                event_type=event.type,
                subject_id=event.aggregate_id,
                at=event.time,
                data=ANNOUNCED[event.type](event),
            )
            for event in events
        ],
    )
