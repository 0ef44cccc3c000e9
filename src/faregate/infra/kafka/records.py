"""An event as a record of a topic: a CloudEvent in its JSON form, with headers to choose by before it is read. Pure.

The format is the structured mode of the CloudEvents Kafka protocol binding 1.0; the key is the event's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from faregate.infra.eventlog.envelope import CONTENT_TYPE
from faregate.kernel.event import Event

SchemaId = Callable[[str], str | None]
"""The id of the schema that the data of an event type follows."""

_SEQ_DIGITS_MAX = 18


class ForeignRecord(Exception):
    """Somebody else wrote this record: it has not the headers or not the envelope of an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What is sent. Headers are text."""

    key: str
    value: bytes
    headers: Mapping[str, str]


def record_of(row: Mapping[str, Any], *, schema_id: SchemaId) -> Record:
    """Return a row of the log as a record; its payload is taken over as it is."""
    schema = schema_id(row["type"])
    envelope = {
        "specversion": "1.0",
        "id": str(row["id"]),
        "source": "/faregate/" + row["aggregatetype"].partition(".")[0],
        "type": row["type"],
        "subject": row["aggregateid"],
        "time": row["time"].isoformat().replace("+00:00", "Z"),
        "datacontenttype": "application/json",
        "partitionkey": row["aggregateid"],
        "aggregatetype": row["aggregatetype"],
        "sequence": f"{row['seq']:020d}",
        "data": orjson.Fragment(row["payload"]),
    }
    headers = {"content-type": CONTENT_TYPE, "type": row["type"], "seq": str(row["seq"])}
    if schema:
        envelope["dataschema"] = headers["schema-id"] = schema
    if row["traceparent"]:
        envelope["traceparent"] = headers["traceparent"] = row["traceparent"]
    return Record(
        key=row["aggregateid"],
        value=orjson.dumps(envelope),
        headers=headers,
    )


def event_of(value: bytes | None) -> Event:
    """Return the event in a record. Raises ForeignRecord."""
    if value is None:
        raise ForeignRecord("no value")
    try:
        envelope = orjson.loads(value)
        return Event(
            id=UUID(envelope["id"]),
            type=envelope["type"],
            aggregate_type=envelope["aggregatetype"],
            aggregate_id=envelope["partitionkey"],
            time=datetime.fromisoformat(envelope["time"]),
            data=envelope["data"],
            traceparent=envelope.get("traceparent"),
            seq=int(envelope["sequence"]),
        )
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ForeignRecord(f"no envelope of an event: {type(error).__name__}") from error


def type_of(headers: Mapping[str, str]) -> str:
    """Return the type of the event in a record. Raises ForeignRecord."""
    if "type" not in headers:
        raise ForeignRecord("no header that names a type")
    return headers["type"]


def seq_of(headers: Mapping[str, str]) -> int | None:
    """Return the place in the log that a record names; None if it names none."""
    text = headers.get("seq", "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _SEQ_DIGITS_MAX else None


def headers_of(found: Any) -> Mapping[str, str]:
    """Return the headers of a record that was read, as the client gives them; what is no text is not ours."""
    return {name: (value or b"").decode(errors="replace") for name, value in found or ()}
