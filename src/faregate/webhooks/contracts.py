"""What callers of webhooks pass and get: frozen data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Announcement:
    """Something to tell a client's endpoints. `data` is thin: ids and outcomes, nothing about a person.

    `message_id` makes it unique: announced twice, it is delivered once. `at` is when it happened.
    """

    client_id: str
    message_id: str
    event_type: str
    subject_id: str
    at: datetime
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointDraft:
    """What a client chooses about an endpoint."""

    url: str
    event_types: Sequence[str]
    description: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointChanges:
    """What is to change; None leaves a thing as it is. `enabled` starts or stops delivery."""

    url: str | None = None
    event_types: Sequence[str] | None = None
    description: str | None = None
    enabled: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """A subscription. `disabled_reason` is None while messages are delivered."""

    id: str
    client_id: str
    url: str
    event_types: Sequence[str]
    description: str
    disabled_reason: str | None
    failing_since: datetime | None
    paused_until: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointWithSecret:
    """An endpoint and its new secret (`whsec_…`), which is shown this once."""

    endpoint: Endpoint
    secret: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one endpoint. `next_at` is when it is tried next, None once it is settled."""

    message_id: str
    event_type: str
    subject_id: str
    state: str
    attempts: int
    next_at: datetime | None
    last_status: int | None
    last_error: str | None
    created_at: datetime
    settled_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits: deliveries that are due, the age of the oldest of them, and those that were given up."""

    due: int
    oldest_s: float
    dead: int
