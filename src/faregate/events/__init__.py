"""The published events: the only language that the contexts share. One file a context.

A type's name and its fields are a promise: optional fields may be added; anything else is a new type with a
version in its name (`credit.application.submitted.v2`), published beside the old one while that is read.
How events travel does not belong here (`infra/eventlog`), nor does what a context does about them.
"""

from __future__ import annotations

from collections.abc import Mapping

from faregate.events import credit, gateway, webhooks
from faregate.events.base import PublishedEvent

EVENT_TYPES: Mapping[str, type[PublishedEvent]] = {
    event.type: event for event in (*credit.EVENTS, *gateway.EVENTS, *webhooks.EVENTS)
}
"""Every published event by the name of its type."""

__all__ = ["EVENT_TYPES", "PublishedEvent"]
