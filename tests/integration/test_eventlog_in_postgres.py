"""What the log in PostgreSQL promises beyond the port: tables, roles, the sequencer's lease, operations."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
import structlog
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from faregate.infra.database import Connection
from faregate.infra.eventlog import Sequencer, append, lag, prune_inbox, replay, skip, unsequenced
from faregate.infra.eventlog.admin import ConsumerGroupUnknown
from faregate.infra.eventlog.cursor import Cursor
from faregate.infra.eventlog.leadership import LeadershipLost
from faregate.infra.eventlog.listener import Listener
from faregate.kernel.event import Event
from tests.conftest import OpenDatabase
from tests.eventlog import LEASE_S, Log, event, eventually, recorder, running, running_log


@pytest.fixture
async def log(open_database: OpenDatabase) -> AsyncIterator[Log]:
    credit, admin = await open_database("credit"), await open_database("eventlog")
    async with running_log(credit=credit, admin=admin) as log:
        yield log


@pytest.mark.parametrize("part", ["credit", "workflow", "gateway", "rules", "access", "eventlog"])
async def test_every_part_may_append_and_none_may_touch_the_tables(
    open_database: OpenDatabase, part: str
) -> None:
    database = await open_database(part)
    async with database.transaction() as conn:
        await append(conn, [event()])
    if part != "eventlog":
        async with database.connection() as conn:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await conn.execute("select from eventlog.outbox")


async def test_the_outbox_has_the_columns_that_debezium_routes_by(open_database: OpenDatabase) -> None:
    database = await open_database("eventlog")
    async with database.connection() as conn:
        await append(conn, [event("app_7", n=3)])
        row = await (
            await conn.execute("select id, aggregatetype, aggregateid, type, payload from eventlog.outbox")
        ).fetchone()
    assert row is not None
    assert (row["aggregatetype"], row["aggregateid"]) == ("credit.application", "app_7")
    assert (row["type"], row["payload"]) == ("credit.tested", {"n": 3})


async def test_an_event_takes_the_trace_of_the_span_that_appends_it(open_database: OpenDatabase) -> None:
    database = await open_database("eventlog")
    with TracerProvider().get_tracer("test").start_as_current_span("submit") as span:
        async with database.connection() as conn:
            await append(conn, [event()])
            row = await (await conn.execute("select traceparent from eventlog.outbox")).fetchone()
    assert row is not None
    assert row["traceparent"].split("-")[1] == trace.format_trace_id(span.get_span_context().trace_id)


async def test_the_log_has_no_gaps_although_transactions_roll_back(log: Log) -> None:
    for n in range(20):
        async with log.credit.transaction() as conn:
            await append(conn, [event(n=n), event(n=n)])
            if n % 3 == 0:
                raise psycopg.Rollback
    await log.until_sequenced(26)
    rows = await log.rows("select seq from eventlog.event order by seq")
    assert [row["seq"] for row in rows] == list(range(1, 27))


async def test_an_id_enters_the_log_once_and_its_repetition_is_reported(log: Log) -> None:
    first = event(n=1)
    with structlog.testing.capture_logs() as lines:
        await log.append(first, first)
        await log.until_sequenced(1)
        await log.append(first, event(n=2))
        await log.until_sequenced(2)
    assert [row["payload"]["n"] for row in await log.rows("select payload from eventlog.event")] == [1, 2]
    assert sum(line["count"] for line in lines if line["event"] == "eventlog.repeated_events_dropped") == 2


@pytest.mark.parametrize(
    "statement",
    ["update eventlog.event set type = 'x'", "delete from eventlog.event", "truncate eventlog.event"],
)
@pytest.mark.requirement("C20")
async def test_nobody_changes_the_log_not_even_its_owner(log: Log, statement: str) -> None:
    await log.append(event())
    await log.until_sequenced(1)
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="append-only"):
        await log.rows(statement)


async def test_a_sequencer_that_lost_its_lease_cannot_write(open_database: OpenDatabase) -> None:
    database = await open_database("eventlog")
    zombie = Sequencer(database=database, holder="zombie", lease_s=0.0)
    heir = Sequencer(database=database, holder="heir")
    async with database.connection() as conn:
        await append(conn, [event()])
        old, new = await zombie.acquire(conn), await heir.acquire(conn)
        assert old
        assert new == old + 1
        with pytest.raises(LeadershipLost):
            await zombie.sequence(conn, fence=old, cursor=Cursor(), pause_s=0)
        assert (await unsequenced(conn)).events == 1
        scan = await heir.sequence(conn, fence=new, cursor=Cursor(), pause_s=0)
    assert len(scan.ords) == 1


async def test_of_many_sequencers_one_leads_at_a_time_and_the_log_stays_whole(log: Log) -> None:
    rivals = [Sequencer(database=log.admin, holder=f"rival {n}", lease_s=LEASE_S) for n in range(3)]
    async with running(*(rival.run for rival in rivals)):
        for n in range(60):
            await log.append(event(f"app_{n % 7}", n=n))
            if n % 15 == 7:  # the leader stalls: its lease ends while it believes that it leads
                await log.rows("update eventlog.sequencer set expires_at = '-infinity' returning 1")
            await asyncio.sleep(0.01)
        await log.until_sequenced(60)
    rows = await log.rows(
        "select seq, (payload->>'n')::int as n, aggregateid from eventlog.event order by seq"
    )
    assert [row["seq"] for row in rows] == list(range(1, 61))
    assert {row["n"] for row in rows} == set(range(60))
    for key in range(7):
        numbers = [row["n"] for row in rows if row["aggregateid"] == f"app_{key}"]
        assert numbers == sorted(numbers)


async def test_a_read_of_a_part_of_the_log_tells_where_the_log_ends(log: Log) -> None:
    await log.append(*(event(n=n) for n in range(9)))
    await log.until_sequenced(9)
    take = "select head, seq from eventlog.take('g', %s::smallint[], 2, %s, null, 100, 1000)"
    everything = list(range(16))
    rows = await log.rows(take, everything, 5)
    assert [(row["head"], row["seq"]) for row in rows] == [(9, 3), (9, 4), (9, 5)]
    rows = await log.rows(take, everything, 2)
    assert [(row["head"], row["seq"]) for row in rows] == [(9, None)]


async def test_lag_counts_only_what_a_group_has_still_to_handle(log: Log) -> None:
    async with running(log.member("some", types=["wanted"])):
        await log.append(event(kind="wanted"))
        await log.until_effects(1, "some")
    await log.append(*(event(kind=kind) for kind in ["wanted", "other", "wanted", "other", "other"]))
    await log.until_sequenced(6)
    async with log.admin.connection() as conn:
        (behind,) = await lag(conn)
    assert (behind.group, behind.events) == ("some", 2)
    assert behind.seconds > 0


async def test_a_replay_reaches_what_was_never_handled_and_repeats_nothing(log: Log) -> None:
    await log.append(event(n=1, kind="old"), event(n=2, kind="new"))
    async with running(log.member(types=["old"])):
        await log.until_effects(1)
    async with running(log.member(types=["old", "new"])):
        async with log.admin.transaction() as conn:
            await replay(conn, group="readers", from_seq=1)
        effects = await log.until_effects(2)
    assert [row["n"] for row in effects] == [1, 2]


async def test_a_replay_with_effects_runs_the_handler_again_for_the_range_only(log: Log) -> None:
    async with running(log.member()):
        await log.append(*(event(n=n) for n in range(10)))
        await log.until_effects(10)
        async with log.admin.transaction() as conn:
            await replay(conn, group="readers", from_seq=7, effects_again=True)
        effects = await log.until_effects(14)
    assert [row["n"] for row in effects] == [*range(10), 6, 7, 8, 9]


async def test_a_replay_of_an_unknown_group_is_refused(log: Log) -> None:
    await log.append(event())
    await log.until_sequenced(1)
    async with log.admin.transaction() as conn:
        with pytest.raises(ConsumerGroupUnknown):
            await replay(conn, group="nobody", from_seq=1)


async def test_a_poisonous_event_can_be_skipped(log: Log) -> None:
    poison = event(n=13)

    async def refuse(conn: Connection, events: Sequence[Event]) -> None:
        if any(e.id == poison.id for e in events):
            raise RuntimeError("cannot handle this")
        await recorder("readers")(conn, events)

    with structlog.testing.capture_logs() as lines:
        async with running(log.member(handler=refuse)):
            await log.append(event(n=1), poison, event(n=2))
            await eventually(lambda: logged(lines, "eventlog.handler_failed"), what="the failure")
            async with log.admin.transaction() as conn:
                await skip(conn, group="readers", event_id=poison.id)
            effects = await log.until_effects(2)
    assert [row["n"] for row in effects] == [1, 2]


async def test_pruning_removes_only_inbox_rows_older_than_asked(log: Log) -> None:
    async with running(log.member()):
        await log.append(event(n=1), event(n=2))
        await log.until_effects(2)
    await log.rows("update eventlog.inbox set handled_at = '2026-01-01' where event_id = any (array("
                   "select id from eventlog.event where seq = 1)) returning 1")  # fmt: skip
    pruned = await prune_inbox(log.admin, before=datetime.now(UTC) - timedelta(days=1))
    (left,) = await log.rows("select count(*) as n from eventlog.inbox")
    assert (pruned, left["n"]) == (1, 1)


async def test_all_consumers_of_a_process_share_one_listening_connection(log: Log, database_url: str) -> None:
    async with running(*(log.member(group) for group in ("a", "b", "c"))):
        await log.append(event())
        for group in ("a", "b", "c"):
            await log.until_effects(1, group)
        with psycopg.connect(database_url) as server:
            found = server.execute(
                "select count(*) from pg_stat_activity "
                "where datname = current_database() and query = 'listen eventlog'"
            )
            assert found.fetchone() == (1,)


async def logged(lines: list[Any], name: str) -> bool:
    return any(line["event"] == name for line in lines)


async def test_an_event_of_the_newest_running_transaction_is_not_given_up_before_that_one_ends(
    open_database: OpenDatabase,
) -> None:
    """No transaction that is newer ends meanwhile, so that a snapshot's xmax is the id of the one that runs."""
    database, other = await open_database("eventlog"), await open_database("eventlog")
    sequencer, cursor = Sequencer(database=database, holder="leader"), Cursor()
    async with database.connection() as conn, other.connection() as writer:
        fence = await sequencer.acquire(conn)
        assert fence
        async with writer.transaction():
            await append(writer, [event()])
            for _ in range(3):
                cursor = cursor.advanced(
                    await sequencer.sequence(conn, fence=fence, cursor=cursor, pause_s=0)
                )
        scan = await sequencer.sequence(conn, fence=fence, cursor=cursor, pause_s=0)
    assert len(scan.ords) == 1


async def test_a_batch_wakes_those_who_listen_for_its_types_and_lets_the_others_sleep(log: Log) -> None:
    async with Listener(log.admin) as listener:
        await asyncio.wait_for(listener.next_batch().wait(), 5)  # it listens
        tested, other, all_ = frozenset({"credit.tested"}), frozenset({"credit.other"}), None
        flags = {types: listener.next_batch(types) for types in (tested, other, all_)}
        await log.append(event(n=1))
        await asyncio.wait_for(flags[tested].wait(), 5)
        assert flags[all_].is_set()
        assert not flags[other].is_set()
        assert not listener.next_batch(tested).is_set(), "a flag stands for one batch"


async def test_a_batch_of_more_types_than_a_notification_can_name_wakes_everybody(log: Log) -> None:
    async with Listener(log.admin) as listener:
        await asyncio.wait_for(listener.next_batch().wait(), 5)
        other = listener.next_batch(frozenset({"credit.other"}))
        await log.append(*(event(kind=f"credit.{n:0>90}") for n in range(90)))
        await asyncio.wait_for(other.wait(), 5)
