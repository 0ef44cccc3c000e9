"""What members do besides paying: the events of fraud's ingestion. Cards, people and addresses are surrogates.

Each is ordered by `subject`: the member, or where nobody is known the address or the device.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent

SESSION_S_MAX = 30 * 86_400


class BehaviourEvent(PublishedEvent):
    """Something that somebody did, told by who runs the website or the application."""

    aggregate_type: ClassVar[str] = "fraud.subject"
    key: ClassVar[str] = "subject"

    subject: str = Field(min_length=1, examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    session_id: str | None = Field(examples=["ses_4711"])
    device_id: str | None = Field(examples=["dev_9f8e7d6c"])
    ip_token: str | None = Field(examples=["ip_3d1f0c9b8a7e6d5c4b3a2918"])


class PageClicked(BehaviourEvent):
    """A member clicked."""

    type: ClassVar[str] = "fraud.page.clicked"

    member_id: str
    page: str | None = Field(examples=["checkout"])
    clicked_at: AwareDatetime


class SessionEnded(BehaviourEvent):
    """A member left, or was silent for long enough."""

    type: ClassVar[str] = "fraud.session.ended"

    member_id: str
    duration_s: int = Field(ge=0, le=SESSION_S_MAX)
    clicks: int | None = Field(ge=0)
    ended_at: AwareDatetime


class LoginAttempted(BehaviourEvent):
    """Somebody tried to get in: as a member, or under a name that nobody has."""

    type: ClassVar[str] = "fraud.login.attempted"

    member_id: str | None
    succeeded: bool
    attempted_at: AwareDatetime


class PasswordChanged(BehaviourEvent):
    """A member's password was changed, by whomever."""

    type: ClassVar[str] = "fraud.password.changed"

    member_id: str
    changed_at: AwareDatetime


class DeviceSeen(BehaviourEvent):
    """A member was seen with a device, by its fingerprint."""

    type: ClassVar[str] = "fraud.device.seen"

    member_id: str
    device_id: str = Field(examples=["dev_9f8e7d6c"])
    seen_at: AwareDatetime


EVENTS: tuple[type[PublishedEvent], ...] = (
    PageClicked,
    SessionEnded,
    LoginAttempted,
    PasswordChanged,
    DeviceSeen,
)
"""Every event of this part."""
