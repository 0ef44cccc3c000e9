"""Sealing: what was committed is sealed once, whatever the order of commits, by one sealer, and nobody waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg.rows import dict_row

from faregate.credit.handlers.audit import verify_chain
from faregate.credit.store.audit.chain import CHAIN
from faregate.entrypoints.bootstrap.audit import count_unsealed
from faregate.entrypoints.bootstrap.housekeeping import count_notices
from faregate.infra.chain import sealer as sealer_module
from faregate.infra.chain.check import note_anchor
from faregate.infra.chain.sealer import Sealer, Sealing
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.leadership import LeadershipLost
from faregate.infra.telemetry.metrics import Metrics
from tests.audit_chain import broken_in, seal_all, sealing, tampering
from tests.conftest import OpenDatabase
from tests.sandbox import until

pytestmark = pytest.mark.requirement("C32")

ENTRY = (
    "insert into credit.audit_entry (application_id, at, actor, action, details)"
    " values ('app', now(), 'test', 'something', '{\"n\": 0.10}') returning id"
)


async def append(conn: Connection) -> int:
    [row] = await (await conn.execute(ENTRY)).fetchall()
    return int(row["id"])


@asynccontextmanager
async def writer(database: Database) -> AsyncIterator[Connection]:
    """A transaction that stays open for the length of a block, on a connection of its own."""
    async with await database.connect() as conn, conn.transaction():
        yield conn


async def sealed_ords(conn: Connection) -> list[int]:
    rows = await (await conn.execute("select ord from credit.audit_link order by seq")).fetchall()
    return [row["ord"] for row in rows]


async def test_an_open_transaction_holds_up_nobody_and_is_sealed_when_it_commits(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("credit")
    async with sealing(database) as held, database.connection() as conn:
        async with writer(database) as slow:
            first = await append(slow)
            second = await append(conn)
            await held.next_batch(conn)
            assert await sealed_ords(conn) == [second]
            assert (await CHAIN.recorded_head(conn)).settled_ord < first
        await held.next_batch(conn)
        assert await sealed_ords(conn) == [second, first]
        assert await broken_in(conn) is None


async def test_a_writer_does_not_wait_for_a_batch_that_is_being_sealed(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    async with sealing(database) as held, database.connection() as conn, database.connection() as other:
        await append(conn)
        async with conn.transaction():
            await held.next_batch(conn)  # sealed, and not committed yet
            await other.execute("set lock_timeout = '1ms'")
            await append(other)
        assert (await CHAIN.waiting(conn))[0] == 1


async def test_a_number_that_was_rolled_back_is_settled_and_a_row_put_under_it_later_is_found(
    open_database: OpenDatabase, database_url: str
) -> None:
    database = await open_database("credit")
    async with database.connection() as conn:
        await append(conn)
        async with conn.transaction(force_rollback=True):
            gap = await append(conn)
        await append(conn)
    await seal_all(database)
    await settled(database, beyond=gap)
    async with await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, row_factory=dict_row
    ) as root:
        assert await broken_in(root) is None
        async with tampering(root):
            await root.execute(
                "insert into credit.audit_entry (id, application_id, at, actor, action, details)"
                " values (%s, 'app', now(), 'test', 'forged', '{}')",
                [gap],
            )
            broken = await broken_in(root)
    assert broken is not None
    assert (broken.table, broken.key) == ("audit_entry", str(gap))


async def test_a_backlog_with_more_gaps_than_anybody_remembers_is_sealed_all_the_same(
    open_database: OpenDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealer_module, "MISSING_MAX", 0)
    database = await open_database("credit")
    async with database.connection() as conn:
        for _ in range(3):
            await append(conn)
            async with conn.transaction(force_rollback=True):
                gap = await append(conn)
        last = await append(conn)
        async with writer(database) as slow:
            late = await append(slow)
            await seal_all(database, batch_max=2)
            assert (await CHAIN.recorded_head(conn)).settled_ord < late
        await settled(database, beyond=gap)
        assert {last, late} <= set(await sealed_ords(conn))
        assert await broken_in(conn) is None


async def settled(database: Database, *, beyond: int) -> None:
    """Seal until the recorded head has settled a number."""
    async with sealing(database) as held, database.connection() as conn:

        async def settled_ord() -> int:
            await held.next_batch(conn)
            return (await CHAIN.recorded_head(conn)).settled_ord

        await until(settled_ord, lambda reached: reached > beyond)


async def test_what_is_not_sealed_yet_is_told_with_its_age(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    async with database.connection() as conn:
        assert await CHAIN.waiting(conn) == (0, 0.0)
        await append(conn)
        rows, seconds = await CHAIN.waiting(conn)
        assert rows == 1
        assert seconds > 0
        await seal_all(database)
        assert await CHAIN.waiting(conn) == (0, 0.0)


async def test_the_lease_is_for_one_and_goes_to_the_next_when_it_ends(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    async with database.connection() as conn:
        first = Sealer(store=CHAIN, database=database, clock=SystemClock(), holder="first", lease_s=0.05)
        second = Sealer(store=CHAIN, database=database, clock=SystemClock(), holder="second")
        assert (old := await first.acquire(conn)) is not None
        new = await until(lambda: second.acquire(conn), bool)
        assert new is not None
        assert new.fence > old.fence
        assert await first.acquire(conn) is None


async def test_a_sealer_that_wakes_up_with_an_old_fence_adds_no_link(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    async with database.connection() as conn, sealing(database, holder="zombie") as zombie:
        await append(conn)
        async with conn.transaction():
            await conn.execute("update credit.audit_sealer set expires_at = '-infinity'")
        async with sealing(database, holder="successor") as successor:
            with pytest.raises(LeadershipLost):
                await zombie.next_batch(conn)
            assert await sealed_ords(conn) == []
            await successor.next_batch(conn)
        assert len(await sealed_ords(conn)) == 1
        assert await broken_in(conn) is None


async def test_two_running_sealers_seal_every_entry_once(open_database: OpenDatabase) -> None:
    database = await open_database("credit", connections_max=20)
    stop = asyncio.Event()
    sealers = [
        Sealer(store=CHAIN, database=database, clock=SystemClock(), holder=name, lease_s=0.2, batch_max=7)
        for name in "ab"
    ]
    running = [asyncio.create_task(sealer.run(stop)) for sealer in sealers]
    appended = await asyncio.gather(*(append_some(database) for _ in range(8)))
    async with database.connection() as conn:
        found = await until(lambda: sealed_ords(conn), lambda ords: len(ords) == 8 * 25)
        assert sorted(found) == sorted(number for some in appended for number in some)
        stop.set()
        await asyncio.gather(*running)
        assert await broken_in(conn) is None


async def test_a_verification_holds_at_any_moment_while_others_append_and_seal(
    open_database: OpenDatabase, tmp_path: Path
) -> None:
    database = await open_database("credit", connections_max=20)
    stop, file = asyncio.Event(), tmp_path / "anchors.jsonl"
    sealer = Sealer(store=CHAIN, database=database, clock=SystemClock(), holder="a", batch_max=5)
    running = asyncio.create_task(sealer.run(stop))
    appending = asyncio.gather(*(append_some(database) for _ in range(4)))
    verified = 0
    while not appending.done() or verified < 3:
        await note_anchor(database, store=CHAIN, path=file, clock=SystemClock())
        report = await verify_chain(database, anchor_file=file, clock=SystemClock())
        assert report.verification.broken is None
        verified += 1
    stop.set()
    await asyncio.gather(running, appending)


async def test_metrics_tell_how_far_the_chain_is_behind(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    metrics = Metrics()
    count_unsealed(metrics, database)
    count_notices(metrics, database)
    async with database.connection() as conn:
        await append(conn)
        await seal_all(database)
        await append(conn)
    text = (await metrics.render()).decode()
    assert "faregate_audit_links 1.0" in text
    assert "faregate_audit_unsealed_rows 1.0" in text
    assert "faregate_notices_open 0.0" in text


async def append_some(database: Database) -> list[int]:
    numbers = []
    for _ in range(25):
        async with database.transaction() as conn:
            numbers.append(await append(conn))
    return numbers


@dataclass
class History:
    """Runs steps on a database: open transactions, commits, rollbacks, batches of sealers that take turns."""

    database: Database
    stack: AsyncExitStack
    open: list[Connection] = field(default_factory=list)
    held: Sealing | None = None
    batches: int = 0

    async def do(self, step: str) -> None:
        await {
            "begin": self.begin,
            "commit": lambda: self.end("commit"),
            "rollback": lambda: self.end("rollback"),
            "seal": self.seal,
            "hand over": self.hand_over,
        }[step]()

    async def begin(self) -> None:
        conn = await self.stack.enter_async_context(await self.database.connect())
        await conn.execute("begin")
        await append(conn)
        self.open.append(conn)

    async def end(self, how: str) -> None:
        if self.open:
            await self.open.pop(len(self.open) // 2).execute(how)

    async def hand_over(self) -> None:
        self.held = None

    async def seal(self) -> None:
        async with self.database.connection() as conn:
            if self.held is None:
                await conn.execute("update credit.audit_sealer set expires_at = '-infinity'")
                sealer = Sealer(
                    store=CHAIN, database=self.database, clock=SystemClock(), holder=str(self.batches)
                )
                lease = await sealer.acquire(conn)
                assert lease is not None
                self.held = Sealing(store=CHAIN, lease=lease, clock=SystemClock(), batch_max=2)
            await self.held.next_batch(conn)
            self.batches += 1


steps = st.lists(
    st.sampled_from(["begin", "begin", "commit", "commit", "rollback", "seal", "seal", "hand over"]),
    max_size=25,
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps)
def test_whatever_commits_when_and_whoever_seals_the_chain_holds_and_misses_nothing(
    database_url: str, history: Sequence[str]
) -> None:
    asyncio.run(run_history(database_url, history))


async def run_history(database_url: str, history: Sequence[str]) -> None:
    database = await Database.open(database_url, role="faregate_credit", connections_max=4)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(database.close)
        run = History(database, await stack.enter_async_context(AsyncExitStack()))
        for step in history:
            await run.do(step)
            async with database.connection() as conn:
                assert await broken_in(conn) is None
        while run.open:
            await run.end("commit")
        async with database.connection() as conn:
            while (await CHAIN.waiting(conn))[0]:
                await run.seal()
            assert await broken_in(conn) is None
            rows = await (await conn.execute("select id from credit.audit_entry")).fetchall()
            assert sorted(await sealed_ords(conn)) == sorted(row["id"] for row in rows)
