"""What no bus could carry does not enter the log: refused with a name, and by the database whoever writes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faregate.infra.eventlog import EVENT_BYTES_MAX, EventNameInvalid, EventTooLarge, append
from faregate.kernel.event import NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import event

NUMBER_BYTES = len("1" + "0" * 308 + ", ")  # as PostgreSQL writes `1e308,`
UNPUBLISHABLE = {
    "long": (replace(event(), data={"text": "x" * EVENT_BYTES_MAX}), EventTooLarge),
    "long as PostgreSQL writes it": (
        replace(event(), data={"numbers": [1e308] * (EVENT_BYTES_MAX // NUMBER_BYTES + 1)}),
        EventTooLarge,
    ),
    "a type that is no topic": (replace(event(), aggregate_type="credit application"), EventNameInvalid),
    "a long key": (replace(event(), aggregate_id="ß" * 513), EventNameInvalid),
}


@pytest.mark.parametrize(("sent", "error"), UNPUBLISHABLE.values(), ids=UNPUBLISHABLE)
async def test_an_event_that_cannot_be_published_is_refused_by_name_and_nothing_of_the_fact_stays(
    open_database: OpenDatabase, sent: NewEvent, error: type[Exception]
) -> None:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    with pytest.raises(error):
        async with credit.transaction() as conn:
            await append(conn, [event(), sent])
    async with admin.connection() as conn:
        assert await (await conn.execute("select from eventlog.outbox")).fetchall() == []


async def test_many_small_events_may_be_longer_together(open_database: OpenDatabase) -> None:
    credit = await open_database("credit")
    async with credit.transaction() as conn:
        await append(conn, [replace(event(), data={"text": "x" * 100_000}) for _ in range(90)])
