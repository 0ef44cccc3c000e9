"""The events of points. No direct identifier of a person is in them."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent


class TierChanged(PublishedEvent):
    """The programme gave a member another tier."""

    type: ClassVar[str] = "points.tier.changed"
    aggregate_type: ClassVar[str] = "points.account"
    key: ClassVar[str] = "member_id"

    member_id: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    tier: str = Field(min_length=1, examples=["gold"])
    changed_at: AwareDatetime


EVENTS: tuple[type[PublishedEvent], ...] = (TierChanged,)
"""Every event of this part."""
