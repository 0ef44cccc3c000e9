"""The events of webhooks."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent


class EndpointDisabled(PublishedEvent):
    """Nothing is sent to a client's endpoint any more: it answered 410, or nothing arrived there for days."""

    type: ClassVar[str] = "webhooks.endpoint.disabled"
    aggregate_type: ClassVar[str] = "webhooks.endpoint"
    key: ClassVar[str] = "endpoint_id"

    endpoint_id: str = Field(min_length=1, examples=["whe_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    client_id: str = Field(min_length=1)
    reason: Literal["gone", "failing"]
    disabled_at: AwareDatetime


EVENTS: tuple[type[PublishedEvent], ...] = (EndpointDisabled,)
"""Every event of this part."""
