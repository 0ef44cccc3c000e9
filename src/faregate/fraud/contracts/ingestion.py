"""What clients report about behaviour, and what becomes of it. Frozen; no I/O."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

EVENTS_MAX: Final = 500
"""So many events may be in one request."""
AGE_MAX: Final = timedelta(days=1)
"""What happened longer ago is in no feature: it is refused."""
AHEAD_MAX: Final = timedelta(seconds=60)
"""So far a client's clock may be fast."""


class Kind(StrEnum):
    """What somebody did."""

    CLICK = "click"
    SESSION = "session"
    LOGIN = "login"
    PASSWORD_CHANGE = "password_change"  # noqa: S105 - a kind of event
    DEVICE = "device"


class EventRefusal(StrEnum):
    """Why an event was not taken; guards stand in this order."""

    INVALID = "invalid"
    ADDRESS_INVALID = "address_invalid"
    FROM_THE_FUTURE = "from_the_future"
    TOO_OLD = "too_old"
    NOBODY = "nobody"
    ID_REUSED = "id_reused"


class EventOutcome(StrEnum):
    """What became of an event. One that is `repeated` was accepted before: nothing happened now."""

    ACCEPTED = "accepted"
    REPEATED = "repeated"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """One event as a client reports it. Fields that its kind does not have are None."""

    id: str
    kind: Kind
    occurred_at: datetime
    member_id: str | None = None
    session_id: str | None = None
    device_id: str | None = None
    ip: str | None = field(default=None, repr=False)
    page: str | None = None
    duration_s: int | None = None
    clicks: int | None = None
    succeeded: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What became of one event."""

    id: str
    outcome: EventOutcome
    refusal: EventRefusal | None = None
