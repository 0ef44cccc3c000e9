"""The chain over the ledger: it holds while nobody tampers, names whatever is changed, and keeps one order of all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row

from faregate.infra.chain.check import inspect, note_anchor
from faregate.infra.chain.links import Anchored, Break
from faregate.infra.chain.sealer import Sealer, Sealing
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection, Database
from faregate.points.contracts.ledger import Burn, Earn
from faregate.points.handlers.chain import verify
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from faregate.points.store.chain import CHAIN
from tests.conftest import OpenDatabase
from tests.points_ledger import START, day_of, run_seed

pytestmark = [pytest.mark.requirement("L2")]

TABLES = ["operation", "entry", "lot", "cut"]
OTHER = {  # another value of a column's type, as SQL
    "text": "coalesce({c}, '') || 'x'",
    "bigint": "coalesce({c}, 0) + 1000000",
    "integer": "{c} + 7",
    "smallint": "{c} + 70",
    "date": "{c} - 1",
    "timestamp with time zone": "{c} + interval '1 microsecond'",
    "jsonb": "coalesce({c}, '[]') || '[true]'",
    "bytea": "set_byte({c}, 0, 255 - get_byte({c}, 0))",
}
ENUMS = {"kind": "'set_floor'", "layer": "case {c} when 'posted' then 'held' else 'posted' end::points.layer"}


@pytest.fixture
async def database(open_database: OpenDatabase) -> Database:
    return await open_database("points")


@pytest.fixture
async def root(database_url: str) -> AsyncIterator[Connection]:
    async with await psycopg.AsyncConnection.connect(
        database_url, autocommit=True, row_factory=dict_row
    ) as conn:
        yield conn


@pytest.fixture
async def sealed(database: Database) -> Database:
    """A ledger with a short history of everything, sealed."""
    await run_seed(database, 3, operations=80, checked_each=False)
    await seal_all(database)
    return database


@asynccontextmanager
async def sealing(database: Database, *, batch_max: int = 1_000) -> AsyncIterator[Sealing]:
    """Hold the sealer's lease for a block."""
    sealer = Sealer(store=CHAIN, database=database, clock=SystemClock(), holder="test")
    async with database.connection() as conn:
        lease = await sealer.acquire(conn)
        assert lease is not None
        yield Sealing(store=CHAIN, lease=lease, clock=SystemClock(), batch_max=batch_max)
        await CHAIN.release_lease(conn, fence=lease.fence)


async def seal_all(database: Database, *, batch_max: int = 1_000) -> None:
    """Seal until nothing waits."""
    async with sealing(database, batch_max=batch_max) as held, database.connection() as conn:
        while not await held.next_batch(conn) or (await CHAIN.waiting(conn))[0]:
            pass


@asynccontextmanager
async def tampering(conn: Connection) -> AsyncIterator[None]:
    """Act as a superuser with all triggers off, and take everything back at the end."""
    async with conn.transaction(force_rollback=True):
        await conn.execute("set local session_replication_role = replica")
        await conn.execute("alter table points.operation drop constraint operation_check")
        yield


async def broken_in(conn: Connection, *, anchors: Sequence[Anchored] = ()) -> Break | None:
    """Return the first broken row as this connection sees it, its own changes included."""
    return (await inspect(conn, store=CHAIN, anchors=anchors))[1]


async def columns_of(conn: Connection, table: str) -> dict[str, str]:
    found = await conn.execute(
        "select column_name as name, data_type as type from information_schema.columns"
        " where table_schema = 'points' and table_name = %s",
        [table],
    )
    return {row["name"]: row["type"] for row in await found.fetchall()}


async def row_in_the_middle(conn: Connection, table: str) -> tuple[str, int]:
    """Return where a row is, and the operation that it belongs to."""
    number = "no" if table == "operation" else "operation_no"
    found = await conn.execute(
        f"select ctid::text as place, {number} as no from points.{table} order by 2 offset 2 limit 1"
    )
    [row] = await found.fetchall()
    return row["place"], row["no"]


async def test_an_untouched_chain_holds_and_covers_every_operation(sealed: Database, tmp_path: Path) -> None:
    report = await verify(sealed, anchor_file=tmp_path / "none")
    async with sealed.connection() as conn:
        [row] = await (await conn.execute("select count(*) as n from points.operation")).fetchall()
    assert (report.broken, report.links, report.unsealed) == (None, row["n"], 0)


@pytest.mark.parametrize("table", TABLES)
async def test_whatever_column_is_changed_the_operation_and_the_row_are_named(
    sealed: Database, root: Connection, table: str
) -> None:
    place, no = await row_in_the_middle(root, table)
    named: dict[str, Any] = {}
    for column, type_ in (columns := await columns_of(root, table)).items():
        async with tampering(root):
            change = (ENUMS.get(column) or OTHER[type_]).format(c=column)
            await root.execute(f"update points.{table} set {column} = {change} where ctid = %s::tid", [place])
            broken = await broken_in(root)
            assert broken is not None, column
            named[column] = (broken.key, any(part.startswith(table) for part in broken.columns))
    moved = "no" if table == "operation" else "operation_no"  # of another operation it is another row
    assert {name: key for name, (key, _) in named.items()} == dict.fromkeys(columns, str(no))
    assert all(is_named for name, (_, is_named) in named.items() if name != moved)


@pytest.mark.parametrize("table", TABLES)
async def test_a_row_that_is_taken_out_or_put_in_is_noticed_at_its_operation(
    sealed: Database, root: Connection, table: str
) -> None:
    place, no = await row_in_the_middle(root, table)
    async with tampering(root):
        await root.execute(f"delete from points.{table} where ctid = %s::tid", [place])
        broken = await broken_in(root)
        assert broken is not None
        assert (broken.key, broken.columns) == (str(no), () if table == "operation" else ("1 gone",))
    key = {"operation": "no", "entry": "line", "cut": "line", "lot": "first"}[table]
    extra = {"no": "0", "line": "line + 90", "first": "first + 90"}[key]
    columns = [name for name in await columns_of(root, table) if name != key]
    unique = [f"key || 'x' as {name}" if name == "key" else name for name in columns]
    async with tampering(root):
        await root.execute(
            f"insert into points.{table} ({key}, {', '.join(columns)})"
            f" select {extra}, {', '.join(unique)} from points.{table} where ctid = %s::tid",
            [place],
        )
        broken = await broken_in(root)
        assert broken is not None
        assert broken.key == ("0" if table == "operation" else str(no))
        assert all(part.startswith(table) for part in broken.columns)


async def test_a_column_that_is_added_later_changes_nothing_that_was_sealed(
    sealed: Database, root: Connection
) -> None:
    for table in TABLES:
        await root.execute(f"alter table points.{table} add column added_later text")
    assert await broken_in(root) is None


async def test_whatever_column_of_a_link_is_changed_the_link_is_named(
    sealed: Database, root: Connection
) -> None:
    for column, type_ in (await columns_of(root, "link")).items():
        async with tampering(root):
            await root.execute(
                f"update points.link set {column} = {OTHER[type_].format(c=column)} where seq = 5"
            )
            broken = await broken_in(root)
            assert broken is not None, column
            assert (
                broken.key in {"5", "6"} if column == "seq" else broken.key == "5" or column == "operation_no"
            )


async def test_two_operations_that_change_places_are_noticed(sealed: Database, root: Connection) -> None:
    async with tampering(root):
        await root.execute("update points.operation set no = -no where no in (5, 6)")
        await root.execute("update points.operation set no = 11 + no where no in (-5, -6)")
        broken = await broken_in(root)
    assert broken is not None
    assert (broken.table, broken.key) == ("operation", "5")


async def test_a_chain_that_was_cut_off_or_written_anew_is_found_by_its_anchor(
    sealed: Database, root: Connection, tmp_path: Path
) -> None:
    file = tmp_path / "anchors.jsonl"
    anchor = await note_anchor(sealed, store=CHAIN, path=file, clock=SystemClock())
    async with tampering(root):
        await root.execute("delete from points.link where seq = %s", [anchor.seq])
        await root.execute(
            "update points.sealer set seq = l.seq, sha256 = l.sha256 from points.link l where l.seq = %s",
            [anchor.seq - 1],
        )
        cut_off = await broken_in(root, anchors=[anchor])
    other = Anchored(seq=3, sha256="00" * 32, anchored_at=anchor.anchored_at)
    anew = await broken_in(root, anchors=[other])
    assert cut_off is not None
    assert anew is not None
    assert "an anchor" in cut_off.what
    assert (anew.key, "written anew" in anew.what) == ("3", True)


@pytest.mark.parametrize("table", [*TABLES, "link"])
@pytest.mark.parametrize(
    "what", ["update points.{t} set {c} = {c}", "delete from points.{t}", "truncate points.{t} cascade"]
)
async def test_no_role_changes_what_was_written(
    sealed: Database, root: Connection, table: str, what: str
) -> None:
    column = {"operation": "amount", "link": "seq"}.get(table, "operation_no")
    statement = what.format(t=table, c=column)
    async with sealed.connection() as owner:
        for conn in (owner, root):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added to"):
                await conn.execute(statement)


@pytest.mark.requirement("L12")
async def test_while_many_write_each_operation_is_sealed_once_in_the_order_of_its_account(
    open_database: OpenDatabase, database: Database
) -> None:
    members = [f"mbr_{number}" for number in range(4)]
    async with database.transaction() as conn:
        await open_accounts(conn, members, at=START)
    writers = [LedgerWriter(database=await open_database("points"), day_of=day_of) for _ in range(3)]
    stop = asyncio.Event()
    sealers = [
        Sealer(store=CHAIN, database=database, clock=SystemClock(), holder=name, lease_s=0.3, batch_max=17)
        for name in "ab"
    ]
    running = [asyncio.create_task(sealer.run(stop)) for sealer in sealers]

    async def work(name: str, writer: LedgerWriter) -> None:
        for number in range(40):
            member = members[number % len(members)]
            await writer.submit(Earn(key=f"{name}-e{number}", member_id=member, amount=2))
            await writer.submit(Burn(key=f"{name}-b{number}", member_id=member, amount=1))

    await asyncio.gather(*(work(f"{n}-{k}", writer) for n, writer in enumerate(writers) for k in range(8)))
    async with asyncio.timeout(30), database.connection() as conn:
        while (await CHAIN.waiting(conn))[0]:  # noqa: ASYNC110 - a row of another connection
            await asyncio.sleep(0.02)
        stop.set()
        await asyncio.gather(*running)
        found = await conn.execute(
            "select o.account_no, o.at, l.seq, l.sealed_at from points.link l join points.operation o"
            " on o.no = l.operation_no order by l.seq"
        )
        rows = await found.fetchall()
    assert len(rows) == 3 * 8 * 80
    assert [row["seq"] for row in rows] == list(range(1, len(rows) + 1))
    times = [row["sealed_at"] for row in rows]
    assert all(earlier < later for earlier, later in pairwise(times))
    for account in {row["account_no"] for row in rows}:
        own = [row["at"] for row in rows if row["account_no"] == account]
        assert own == sorted(set(own))
    assert (await verify(database, anchor_file=Path("none"))).broken is None


async def test_a_number_that_was_drawn_in_vain_does_not_hold_the_chain_up(database: Database) -> None:
    async with database.transaction() as conn:
        await open_accounts(conn, ["ada"], at=START)
    writer = LedgerWriter(database=database, day_of=day_of)
    for number in range(3):  # the key of the second and third is known: their numbers are used by nobody
        await writer.submit(Earn(key="once", member_id="ada", amount=1))
        await writer.submit(Earn(key=f"other-{number}", member_id="ada", amount=1))
    await seal_all(database, batch_max=2)
    async with sealing(database) as held, database.connection() as conn, asyncio.timeout(20):
        last = await CHAIN.last_ord(conn)
        while (await CHAIN.recorded_head(conn)).settled_ord < last:
            await held.next_batch(conn)
        assert (await CHAIN.recorded_head(conn)).head.seq == 4
