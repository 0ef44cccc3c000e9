"""The envelope in which an event leaves the system: CloudEvents 1.0 in its JSON format. Pure."""

from __future__ import annotations

from typing import Any

from faregate.kernel.event import Event, NewEvent

CONTENT_TYPE = "application/cloudevents+json"


def cloudevent(event: NewEvent, *, dataschema: str | None = None) -> dict[str, Any]:
    """Return the CloudEvents attributes and data of an event, ready to be written as JSON.

    `source` names the context that published it, `dataschema` the version of the schema that its data follows, where
    the caller knows it. Extensions: `partitionkey` (the key of its order),
    `aggregatetype`, `traceparent` if it has one, and `sequence` once it stands in the log.
    """
    envelope: dict[str, Any] = {
        "specversion": "1.0",
        "id": str(event.id),
        "source": "/faregate/" + event.aggregate_type.partition(".")[0],
        "type": event.type,
        "subject": event.aggregate_id,
        "time": event.time.isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "partitionkey": event.aggregate_id,
        "aggregatetype": event.aggregate_type,
        "data": dict(event.data),
    }
    if dataschema:
        envelope["dataschema"] = dataschema
    if event.traceparent:
        envelope["traceparent"] = event.traceparent
    if isinstance(event, Event):
        envelope["sequence"] = f"{event.seq:020d}"  # compared as text, hence the zeros
    return envelope
