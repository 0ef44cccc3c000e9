"""Whether a reported event can be taken, and which published event it becomes. Pure."""

from __future__ import annotations

from datetime import datetime

from faregate.events.behaviour import (
    BehaviourEvent,
    DeviceSeen,
    LoginAttempted,
    PageClicked,
    PasswordChanged,
    SessionEnded,
)
from faregate.fraud.contracts.ingestion import AGE_MAX, AHEAD_MAX, EventRefusal, Kind, Reported

SENTENCES = {
    EventRefusal.INVALID: "A field is missing, unknown or has a value that is not allowed",
    EventRefusal.ADDRESS_INVALID: "`ip` is no IPv4 or IPv6 address",
    EventRefusal.FROM_THE_FUTURE: f"It happened more than {AHEAD_MAX.seconds} s in the future",
    EventRefusal.TOO_OLD: f"It happened more than {AGE_MAX.days} day ago",
    EventRefusal.NOBODY: "It names neither a member nor an address nor a device",
    EventRefusal.ID_REUSED: "Another event was taken under this id",
}


def refusal_of(reported: Reported, *, now: datetime) -> EventRefusal | None:
    """Return the first reason why an event cannot be taken."""
    if reported.occurred_at - now > AHEAD_MAX:
        return EventRefusal.FROM_THE_FUTURE
    if now - reported.occurred_at > AGE_MAX:
        return EventRefusal.TOO_OLD
    if not (reported.member_id or reported.ip or reported.device_id):
        return EventRefusal.NOBODY
    return None


def published(reported: Reported, *, ip_token: str | None) -> BehaviourEvent:
    """Return the event that others hear of. It tells no address."""
    said = {
        "subject": reported.member_id or ip_token or reported.device_id,
        "member_id": reported.member_id,
        "session_id": reported.session_id,
        "device_id": reported.device_id,
        "ip_token": ip_token,
    }
    at = reported.occurred_at
    match reported.kind:
        case Kind.CLICK:
            return PageClicked.model_validate({**said, "page": reported.page, "clicked_at": at})
        case Kind.SESSION:
            how = {"duration_s": reported.duration_s, "clicks": reported.clicks}
            return SessionEnded.model_validate({**said, **how, "ended_at": at})
        case Kind.LOGIN:
            return LoginAttempted.model_validate(
                {**said, "succeeded": reported.succeeded, "attempted_at": at}
            )
        case Kind.PASSWORD_CHANGE:
            return PasswordChanged.model_validate({**said, "changed_at": at})
    return DeviceSeen.model_validate({**said, "seen_at": at})
