"""The event as it travels: CloudEvents attributes, an aggregate to route by, and JSON data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class NewEvent:
    """A fact to append. Events of one `aggregate_id` keep the order in which they were appended."""

    id: UUID
    type: str
    aggregate_type: str
    aggregate_id: str
    time: datetime
    data: Mapping[str, Any]
    traceparent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event(NewEvent):
    """A committed fact as a consumer reads it. `seq` grows without gaps in the order of the log."""

    seq: int
