"""What every published event has in common. No context's own event belongs here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, ClassVar, Self
from uuid import UUID

from pydantic import BaseModel, ConfigDict

from faregate.kernel.event import NewEvent

DIRECT_IDENTIFIERS = frozenset(
    {
        "address", "date_of_birth", "dob", "email", "first_name", "full_name", "last_name", "legal_name",
        "name", "phone", "phone_number", "ssn", "ssn_last4",
    }
)  # fmt: skip
"""Names of fields that identify a person directly. No event may carry one, at any depth."""


class PublishedEvent(BaseModel):
    """A fact that a context publishes. Readers ignore fields that they do not know: fields may be added.

    A subclass declares `type`, `aggregate_type`, and `key`: the field whose value orders and partitions it. Events that
    somebody waits for are urgent: they travel in a lane of their own and do not wait behind the steps of others. The
    order of a key holds within a lane.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    type: ClassVar[str]
    aggregate_type: ClassVar[str]
    key: ClassVar[str]
    is_urgent: ClassVar[bool] = False

    @classmethod
    def lane(cls) -> str:
        """Return the name of the lane that events of this type travel in."""
        return "urgent" if cls.is_urgent else "ordinary"

    def to_event(
        self,
        *,
        id: UUID,  # noqa: A002 - the name of the attribute it becomes
        time: datetime,
        traceparent: str | None = None,
    ) -> NewEvent:
        """Return the event to append. Without `traceparent` the log takes that of the current span."""
        return NewEvent(
            id=id,
            type=self.type,
            aggregate_type=self.aggregate_type,
            aggregate_id=getattr(self, self.key),
            time=time,
            data=self.model_dump(mode="json"),
            traceparent=traceparent,
        )

    @classmethod
    def from_event(cls, event: NewEvent) -> Self:
        """Read the data of an event of this type. Another type, or data that does not fit: ValueError."""
        if event.type != cls.type:
            raise ValueError(f"event {event.id} is a {event.type}, not a {cls.type}")
        return cls.model_validate(event.data)


def without_direct_identifiers(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the data unchanged; a field that identifies a person directly, at any depth, is a ValueError."""
    found = sorted(DIRECT_IDENTIFIERS.intersection(_field_names(data)))
    if found:
        raise ValueError(f"an event must not carry direct identifiers: {', '.join(found)}")
    return data


def _field_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for name, inner in value.items():
            yield name
            yield from _field_names(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _field_names(inner)
