"""The events of the points ledger, ordered by the member whose account they are about."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent


class PointsEvent(PublishedEvent):
    """A fact about one account. The balances are those of right after it."""

    aggregate_type: ClassVar[str] = "points.account"
    key: ClassVar[str] = "member_id"

    member_id: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    operation: int = Field(ge=1, description="The number of the ledger's operation.")
    kind: str = Field(description="The kind of the operation.", examples=["burn"])
    amount: int = Field(ge=0, description="How many points it moved.")
    subject: int | None = Field(description="The operation that it refers to.")
    posted: int = Field(ge=0)
    available: int = Field(ge=0)


class PointsEarned(PointsEvent):
    """Points came in and can be spent."""

    type: ClassVar[str] = "points.account.earned"


class PointsPromised(PointsEvent):
    """Points will come in when what earned them is confirmed."""

    type: ClassVar[str] = "points.account.promised"


class PointsHeld(PointsEvent):
    """Points are reserved and cannot be spent otherwise."""

    type: ClassVar[str] = "points.account.held"


class PointsReleased(PointsEvent):
    """A hold or a promise ended without being spent or given."""

    type: ClassVar[str] = "points.account.released"

    cause: Literal["asked", "timed_out"]


class PointsBurned(PointsEvent):
    """Points were spent, given away or taken by a correction."""

    type: ClassVar[str] = "points.account.burned"


class PointsExpired(PointsEvent):
    """Points are gone because their day was over."""

    type: ClassVar[str] = "points.account.expired"


class PointsReversed(PointsEvent):
    """An earlier operation was undone, in full or in part."""

    type: ClassVar[str] = "points.account.reversed"


class TierChanged(PublishedEvent):
    """The programme gave a member another tier."""

    type: ClassVar[str] = "points.tier.changed"
    aggregate_type: ClassVar[str] = "points.account"
    key: ClassVar[str] = "member_id"

    member_id: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    tier: str = Field(min_length=1, examples=["gold"])
    changed_at: AwareDatetime


EVENTS: tuple[type[PublishedEvent], ...] = (
    PointsEarned,
    PointsPromised,
    PointsHeld,
    PointsReleased,
    PointsBurned,
    PointsExpired,
    PointsReversed,
    TierChanged,
)
"""Every event of this part."""
