"""The events of members and households. Ids, states and names of fields: no personal value is in them."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent

_Status = Literal["active", "frozen", "closed"]


class MemberEvent(PublishedEvent):
    """A fact about one member."""

    aggregate_type: ClassVar[str] = "members.member"
    key: ClassVar[str] = "member_id"

    member_id: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class UserRegistered(MemberEvent):
    """Somebody became a member: by registering, or because a card was approved."""

    type: ClassVar[str] = "members.member.registered"

    source: Literal["registration", "enrolment"]
    registered_at: AwareDatetime


class ProfileUpdated(MemberEvent):
    """Personal data, preferences or home airports were changed. Who needs the new values asks for them."""

    type: ClassVar[str] = "members.profile.updated"

    fields: tuple[str, ...] = Field(description="Names of what changed, never the values.")
    version: int = Field(ge=1)
    updated_at: AwareDatetime


class ConsentChanged(MemberEvent):
    """A member gave or withdrew a consent."""

    type: ClassVar[str] = "members.consent.changed"

    purpose: str = Field(min_length=1, examples=["marketing"])
    given: bool
    text_version: str = Field(min_length=1)
    changed_at: AwareDatetime


class StatusChanged(MemberEvent):
    """A member was frozen, unfrozen or closed."""

    type: ClassVar[str] = "members.member.status_changed"

    status: _Status
    previous: _Status
    reason: str = Field(min_length=1, examples=["member_request"])
    changed_at: AwareDatetime


class MemberErased(MemberEvent):
    """What identified a member was destroyed. The id stays valid; whoever keeps more under it must destroy that too."""

    type: ClassVar[str] = "members.member.erased"

    reason: str = Field(min_length=1, examples=["member_request"])
    erased_at: AwareDatetime


class HouseholdChanged(PublishedEvent):
    """A household was made, changed or dissolved. `subject_id` is the member whom it was about."""

    type: ClassVar[str] = "members.household.changed"
    aggregate_type: ClassVar[str] = "members.household"
    key: ClassVar[str] = "household_id"

    household_id: str = Field(min_length=1, examples=["hsh_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    change: Literal["created", "invited", "joined", "left", "head_changed", "dissolved"]
    subject_id: str = Field(min_length=1)
    head_id: str | None = Field(description="Null once it is dissolved.")
    member_ids: tuple[str, ...] = Field(description="Who is in it now, the longest-standing first.")
    changed_at: AwareDatetime


EVENTS: tuple[type[PublishedEvent], ...] = (
    UserRegistered,
    ProfileUpdated,
    ConsentChanged,
    StatusChanged,
    MemberErased,
    HouseholdChanged,
)
"""Every event that this context publishes."""
