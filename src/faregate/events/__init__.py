"""The published events: the only language that the contexts share. One file a context.

A type's name and its fields are a promise: optional fields may be added; anything else is a new type with a
version in its name (`credit.application.submitted.v2`), published beside the old one while that is read.
How events travel does not belong here (`infra/eventlog`), nor does what a context does about them.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from faregate.events import behaviour, credit, gateway, members, payments, points, travel, webhooks
from faregate.events.base import PublishedEvent
from faregate.events.identity import data_schema, id_of

EVENT_TYPES: Mapping[str, type[PublishedEvent]] = {
    event.type: event
    for event in (
        *behaviour.EVENTS,
        *credit.EVENTS,
        *gateway.EVENTS,
        *members.EVENTS,
        *payments.EVENTS,
        *points.EVENTS,
        *travel.EVENTS,
        *webhooks.EVENTS,
    )
}
"""Every published event by the name of its type."""

AGGREGATE_OF: Mapping[str, str] = {name: event.aggregate_type for name, event in EVENT_TYPES.items()}
"""The kind of aggregate that each event type is about."""

URGENT_TYPES: frozenset[str] = frozenset(name for name, event in EVENT_TYPES.items() if event.is_urgent)
"""The event types that travel in the urgent lane."""


def schema_id(event_type: str) -> str | None:
    """Return the id of the schema that the data of an event type follows now; None for a type that is not ours."""
    event = EVENT_TYPES.get(event_type)
    return None if event is None else _schema_id(event)


@cache
def _schema_id(event: type[PublishedEvent]) -> str:
    return id_of(event.type, data_schema(event))


__all__ = ["AGGREGATE_OF", "EVENT_TYPES", "URGENT_TYPES", "PublishedEvent", "schema_id"]
