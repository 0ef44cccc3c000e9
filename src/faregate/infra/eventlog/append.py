"""Appends events in the transaction of the fact that they report. What follows does not belong here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson

from faregate.infra.database import Connection, execute_last
from faregate.infra.eventlog.limits import refuse_unpublishable
from faregate.infra.eventlog.tracing import current_traceparent
from faregate.infra.queries import load_queries
from faregate.kernel.event import NewEvent

_QUERIES = load_queries(__package__)


async def append(conn: Connection, events: Sequence[NewEvent]) -> None:
    """Append events inside the caller's transaction, in any role: they exist if and only if it commits.

    They are sent together with its COMMIT; what makes them impossible fails there, and nothing of it stays.
    Events of one `aggregate_id` keep their order if their writers do: lock the key's row before appending.
    An id enters the log once; appended again while it stands in one of the seven segments that were filled last
    (114,688 events at least), it is ignored and counted by the sequencer. An event
    without `traceparent` gets that of the current span. One that no bus could carry is EventTooLarge or
    EventNameInvalid (`limits`), and none of them is appended.
    """
    if events:
        current = current_traceparent()
        batch = orjson.dumps([_as_row(event, traceparent=current) for event in events])
        await refuse_unpublishable(conn, events, bytes_in_all=len(batch))
        await execute_last(conn, _QUERIES["append"], {"events": batch.decode()})


def _as_row(event: NewEvent, *, traceparent: str | None) -> Mapping[str, Any]:
    return {
        "id": event.id,
        "aggregatetype": event.aggregate_type,
        "aggregateid": event.aggregate_id,
        "type": event.type,
        "payload": dict(event.data),
        "time": event.time,
        "traceparent": event.traceparent or traceparent,
    }
