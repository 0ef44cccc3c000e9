"""What may enter the log: nothing that a bus could not carry, for it would hold up all that comes after it.

Here and not in the database: a constraint is prepared in every statement, and cost a small transaction 4 % more.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

import orjson

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.kernel.errors import InvalidError
from faregate.kernel.event import NewEvent

_QUERIES = load_queries(__package__)

EVENT_BYTES_MAX = 7 * 1024 * 1024
"""Of an event's data, as JSON. A record of Kafka takes 8 MiB: the rest is for its envelope and headers."""
KEY_BYTES_MAX = 1024
NAME_BYTES_MAX = 100
"""Of an event's type and of its aggregate's: that one is a part of a topic's name."""
_NAME = re.compile(rf"[A-Za-z0-9._-]{{1,{NAME_BYTES_MAX}}}")
_GROWTH_MAX = 64
"""PostgreSQL writes JSON with spaces and numbers without an exponent: `1e308,` becomes 311 characters."""
_SURELY_FITS_BYTES = EVENT_BYTES_MAX // _GROWTH_MAX


class EventTooLarge(InvalidError):
    """The data of an event is longer than any bus carries. Keep it where it is, and publish where it is found."""


class EventNameInvalid(InvalidError):
    """An event's type, or its aggregate's, cannot be a part of a topic's name, or its key is too long."""


async def refuse_unpublishable(conn: Connection, events: Sequence[NewEvent], *, bytes_in_all: int) -> None:
    """Raise EventTooLarge or EventNameInvalid for an event that could not be published.

    `bytes_in_all` is the length of all of them as JSON: below a hundred kilobytes no lengths need be looked at.
    """
    for event in events:
        if not (_is_name(event.type) and _is_name(event.aggregate_type)):
            raise EventNameInvalid(
                f"event {event.id}: {event.type!r} of {event.aggregate_type!r} can be no topic's name"
            )
        if len(event.aggregate_id.encode()) > KEY_BYTES_MAX:
            raise EventNameInvalid(f"event {event.id}: its key is longer than {KEY_BYTES_MAX} bytes")
    if bytes_in_all > _SURELY_FITS_BYTES:
        for event in events:
            await _refuse_too_large(conn, event)


async def _refuse_too_large(conn: Connection, event: NewEvent) -> None:
    data = orjson.dumps(dict(event.data))
    size = len(data)
    if _SURELY_FITS_BYTES < size <= EVENT_BYTES_MAX:
        [row] = await (await conn.execute(_QUERIES["bytes_of"], {"data": data.decode()})).fetchall()
        size = row["bytes"]
    if size > EVENT_BYTES_MAX:
        raise EventTooLarge(
            f"event {event.id} ({event.type}) has {size:,} bytes of data, more than {EVENT_BYTES_MAX:,}",
            bytes=size,
            bytes_max=EVENT_BYTES_MAX,
        )


@lru_cache(maxsize=1024)
def _is_name(text: str) -> bool:
    return _NAME.fullmatch(text) is not None
