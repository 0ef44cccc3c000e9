"""What it costs to know how far a group on Kafka is behind: nothing for what was handled long ago."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence

import pytest

from faregate.infra.database import Connection
from faregate.infra.eventlog import lag
from faregate.infra.kafka import KafkaAddress
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.eventlog import Log, event, eventually, recorder, running, running_log_on_kafka

SETTLE_AFTER = 50
READ = """
select sum(pg_stat_get_xact_tuples_returned(i.inhrelid) + pg_stat_get_xact_tuples_fetched(i.inhrelid))::bigint as rows
from pg_inherits i where i.inhparent = 'eventlog.event'::regclass
"""


@pytest.fixture
async def log(open_database: OpenDatabase, kafka_address: KafkaAddress) -> AsyncIterator[Log]:
    """A log on Kafka whose relay looks after silent partitions sooner than others do."""
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log_on_kafka(
        credit=credit, admin=admin, address=kafka_address, settle_after=SETTLE_AFTER
    ) as log:
        yield log


@pytest.mark.parametrize("handled", [300, 900])
async def test_the_lag_of_a_group_reads_no_more_of_a_longer_log_though_partitions_are_silent(
    log: Log, handled: int
) -> None:
    async def refuses_the_last(conn: Connection, events: Sequence[Event]) -> None:
        if any(e.aggregate_id == "elsewhere" for e in events):
            raise RuntimeError("cannot handle this")
        await recorder("readers")(conn, events)

    async with running(log.member(handler=refuses_the_last)):
        await log.append(*(event("one", n=n) for n in range(handled)))
        await log.until_effects(handled)
        await eventually(
            lambda: is_settled(log, handled - SETTLE_AFTER), what="silent partitions are looked after"
        )
        await log.append(event("elsewhere", n=0))
        await log.until_sequenced(handled + 1)
        events, rows_read = await lag_and_cost(log)
    assert events == 1
    assert rows_read <= 2 * (SETTLE_AFTER + 1)


async def is_settled(log: Log, seq: int) -> bool:
    [row] = await log.rows("select min(seq) as seq from eventlog.bus_position")
    return bool(row["seq"] >= seq)


async def lag_and_cost(log: Log) -> tuple[int, int]:
    """The lag of `readers`, and how many rows of the log were read to know it."""
    async with log.admin.transaction() as conn:
        await conn.execute("set local enable_seqscan = off")  # a short log would be read whole
        [before] = await (await conn.execute(READ)).fetchall()
        [behind] = await lag(conn, groups=["readers"])
        [after] = await (await conn.execute(READ)).fetchall()
    return behind.events, after["rows"] - before["rows"]


@pytest.mark.parametrize(
    "unmarked",
    [
        "update eventlog.assignment set position = 0 where consumer_group = 'kafka.relay' returning 1",
        "update eventlog.relay set ends_upto = 0 returning 1",  # marked by a relay that knew of no ends
    ],
)
async def test_what_was_published_and_not_marked_is_no_silence_to_the_relay_that_takes_over(
    log: Log, unmarked: str
) -> None:
    await log.append(*(event("one", n=n) for n in range(120)))
    async with running(log.member()):
        await log.until_effects(120)
    [end] = await log.rows("select seq from eventlog.bus_end")
    assert end["seq"] == 120
    # As if the relay had died in between: another takes over, and finds what Kafka has.
    await log.rows("delete from eventlog.bus_end returning 1")
    await log.rows(unmarked)
    await log.rows("update eventlog.relay set fence = fence + 1, expires_at = '-infinity' returning 1")

    async def is_marked() -> bool:
        return [row["seq"] for row in await log.rows("select seq from eventlog.bus_end")] == [120]

    await eventually(is_marked, what="the next relay marks where partitions end")
