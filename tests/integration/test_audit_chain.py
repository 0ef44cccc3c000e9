"""The audit chain: whole while nobody tampers, and whoever does is found at the first row."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest
import pytest_asyncio

from faregate.credit.store.audit.chain import CHAIN
from faregate.infra.chain.links import Anchored, Head, link_sha256
from tests.audit_chain import broken_in, seal_all, tampering
from tests.credit_desk import BAD_ROW, Desk, desk_of_module, servers_of_module  # noqa: F401

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C32")]


@pytest_asyncio.fixture(scope="module", loop_scope="module", name="sealed_desk")
async def desk_with_a_sealed_chain(desk: Desk) -> AsyncIterator[Desk]:
    """A desk with an approval, a denial and a review, all of them sealed."""
    await desk.decided()
    await desk.decided(BAD_ROW)
    await desk.decide(await desk.checked(fraud="unknown"))
    await seal_all(desk.database)
    yield desk


async def head_of(desk: Desk) -> Head:
    async with desk.database.connection() as conn:
        return (await CHAIN.recorded_head(conn)).head


async def test_an_untouched_chain_holds_and_covers_every_row(sealed_desk: Desk) -> None:
    conn = sealed_desk.world.connection
    assert await broken_in(conn) is None
    [rows] = await sealed_desk.sql(
        "select (select count(*) from credit.audit_entry) + (select count(*) from credit.decision) as n"
    )
    assert (await head_of(sealed_desk)).seq == rows["n"] >= 9


OTHER = {  # another value of a column's type, as SQL
    "text": "{c} || 'x'",
    "bigint": "{c} + 1000000",
    "integer": "{c} + 7",
    "double precision": "1 - {c}",
    "timestamp with time zone": "{c} + interval '1 microsecond'",
    "jsonb": "{c} || '[true]'",
    "ARRAY": "{c} || '{{X}}'",
    "bytea": "set_byte({c}, 0, 255 - get_byte({c}, 0))",
}
CHECKED = {  # columns that a constraint holds to a list
    ("decision", "outcome"): "case {c} when 'approved' then 'manual_review' else 'approved' end",
    ("audit_link", "subject"): "case {c} when 'decision' then 'audit_entry' else 'decision' end",
}
KEYS = {
    "audit_entry": ("id", "id::text"),
    "decision": ("ord", "application_id || '/' || version"),
    "audit_link": ("seq", "seq::text"),
}


async def columns_of(desk: Desk, table: str) -> dict[str, str]:
    rows = await desk.sql(
        "select column_name as name, data_type as type from information_schema.columns"
        " where table_schema = 'credit' and table_name = %(table)s",
        table=table,
    )
    return {row["name"]: row["type"] for row in rows}


async def second_row_of(desk: Desk, table: str) -> tuple[int, str]:
    """Return number and key of a row in the middle."""
    number, key = KEYS[table]
    [row] = await desk.sql(
        f"select {number} as n, {key} as key from credit.{table} order by 1 offset 1 limit 1"
    )
    return row["n"], row["key"]


@pytest.mark.parametrize("table", ["audit_entry", "decision"])
async def test_whatever_column_of_a_row_is_changed_the_row_and_the_column_are_named(
    sealed_desk: Desk, table: str
) -> None:
    conn, (number, key) = sealed_desk.world.connection, await second_row_of(sealed_desk, table)
    named: dict[str, Any] = {}
    for column, type_ in (columns := await columns_of(sealed_desk, table)).items():
        async with tampering(conn):
            change = CHECKED.get((table, column), OTHER[type_]).format(c=column)
            await conn.execute(
                f"update credit.{table} set {column} = {change} where {KEYS[table][0]} = %s", [number]
            )
            broken = await broken_in(conn)
            named[column] = broken and (broken.table, broken.key, broken.columns)
    gone = KEYS[table][0]  # a row with another number is another row: the sealed one is gone
    assert named == {c: (table, key, () if c == gone else (c,)) for c in columns}


async def test_a_value_taken_away_or_put_where_there_was_none_is_named(sealed_desk: Desk) -> None:
    conn, (number, key) = sealed_desk.world.connection, await second_row_of(sealed_desk, "decision")
    async with tampering(conn):
        await conn.execute("update credit.decision set risk_score = null where ord = %s", [number])
        broken = await broken_in(conn)
        assert broken is not None
        assert (broken.key, broken.columns) == (key, ("risk_score",))


async def test_whatever_column_of_a_link_is_changed_the_link_is_named(sealed_desk: Desk) -> None:
    conn, (number, key) = sealed_desk.world.connection, await second_row_of(sealed_desk, "audit_link")
    for column, type_ in (await columns_of(sealed_desk, "audit_link")).items():
        async with tampering(conn):
            change = CHECKED.get(("audit_link", column), OTHER[type_]).format(c=column)
            await conn.execute(f"update credit.audit_link set {column} = {change} where seq = %s", [number])
            broken = await broken_in(conn)
            assert broken is not None, column
            assert (broken.table, broken.key) == ("audit_link", key), column
            if column in ("row_sha256", "column_sums", "key"):
                assert broken.columns == (column,)


COPIED = (
    "insert into credit.audit_entry (id, application_id, at, actor, action, details)"
    " select 0, application_id, at, actor, action, details from credit.audit_entry where id = {n}"
)
LINKED = (
    "insert into credit.audit_link select 3, subject, 0, key, row_sha256, column_sums, sealed_at, sha256"
    " from credit.audit_link where seq = 2"
)
TAMPERED = {  # what is done with entry {n} and the decisions {d} and {e}, and the table of the row that is named
    "an entry is deleted": ("audit_entry", ["delete from credit.audit_entry where id = {n}"]),
    "a decision is deleted": ("decision", ["delete from credit.decision where ord = {d}"]),
    "a decision is deleted with its link": (
        "audit_link",
        ["delete from credit.decision where ord = {d}", "delete from credit.audit_link where ord = {d}"],
    ),
    "a link is deleted": ("audit_link", ["delete from credit.audit_link where ord = {n}"]),
    "two decisions are swapped": (
        "decision",
        [
            "update credit.decision set ord = -ord where ord in ({d}, {e})",
            "update credit.decision set ord = {d} + {e} + ord where ord < 0",
        ],
    ),
    "two links are swapped": (
        "audit_link",
        [
            "update credit.audit_link set seq = seq + 1000 where seq in (2, 3)",
            "update credit.audit_link set seq = 1005 - seq where seq > 1000",
        ],
    ),
    "an entry is put in between": ("audit_entry", [COPIED]),
    "an entry and a link for it are put in between": (
        "audit_link",
        [
            COPIED,
            "update credit.audit_link set seq = seq + 1000 where seq > 2",
            "update credit.audit_link set seq = seq - 999 where seq > 1000",
            LINKED,
        ],
    ),
    "the end is cut off": ("audit_link", ["delete from credit.audit_link where seq > 5"]),
    "the recorded end is changed": ("audit_sealer", ["update credit.audit_sealer set sha256 = sha256('')"]),
    "the recorded end is set back": ("audit_sealer", ["update credit.audit_sealer set seq = 3"]),
}


@pytest.mark.parametrize("what", TAMPERED)
async def test_a_chain_that_somebody_tampered_with_is_found_broken(sealed_desk: Desk, what: str) -> None:
    conn = sealed_desk.world.connection
    entry, _ = await second_row_of(sealed_desk, "audit_entry")
    decisions = await sealed_desk.sql("select ord from credit.decision order by ord")
    table, statements = TAMPERED[what]
    async with tampering(conn):
        for statement in statements:
            await conn.execute(statement.format(n=entry, d=decisions[0]["ord"], e=decisions[1]["ord"]))
        broken = await broken_in(conn)
        assert broken is not None
        assert broken.table == table
    assert await broken_in(conn) is None


@pytest.mark.parametrize("change", ["update {} set {c} = {c}", "delete from {}", "truncate {}"])
@pytest.mark.parametrize(
    "table", ["audit_link:key", "audit_verification:links", "adverse_action_notice:due_at"]
)
async def test_the_database_refuses_changes_of_the_chain_to_every_role(
    sealed_desk: Desk, table: str, change: str
) -> None:
    name, _, column = table.partition(":")
    await sealed_desk.credit.audit.verify()
    if name == "adverse_action_notice":
        change = change.replace("{c} = {c}", "{c} = now()")
    for role in ("faregate_credit", "none"):
        async with sealed_desk.world.connection.transaction(force_rollback=True):
            await sealed_desk.sql(f"set local role {role}")
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                await sealed_desk.sql(change.format(f"credit.{name}", c=column))


# The end of the chain, noted outside


async def anchor_of(desk: Desk) -> Anchored:
    head = await head_of(desk)
    return Anchored(seq=head.seq, sha256=head.sha256.hex(), anchored_at=datetime.now(UTC))


async def test_an_anchor_finds_a_tail_that_was_cut_off_so_that_the_rest_agrees(sealed_desk: Desk) -> None:
    conn, anchor = sealed_desk.world.connection, await anchor_of(sealed_desk)
    async with tampering(conn):
        await conn.execute(
            "delete from credit.audit_entry e using credit.audit_link l where l.ord = e.id and l.seq > 5"
        )
        await conn.execute(
            "delete from credit.decision d using credit.audit_link l where l.ord = d.ord and l.seq > 5"
        )
        await conn.execute("delete from credit.audit_link where seq > 5")
        await conn.execute(
            "update credit.audit_sealer s set seq = l.seq, sha256 = l.sha256 from credit.audit_link l where l.seq = 5"
        )
        assert await broken_in(conn) is None
        broken = await broken_in(conn, anchors=[anchor])
    assert broken is not None
    assert (broken.table, broken.key) == ("audit_link", "6")
    assert f"an anchor saw link {anchor.seq}" in broken.what


async def test_an_anchor_finds_a_chain_that_was_computed_anew_over_a_changed_row(sealed_desk: Desk) -> None:
    conn, anchor = sealed_desk.world.connection, await anchor_of(sealed_desk)
    async with tampering(conn):
        await conn.execute(
            "update credit.audit_entry set actor = 'nobody' where id = (select min(id) from credit.audit_entry)"
        )
        previous = bytes(32)
        async for link, row in CHAIN.links(conn):
            assert row is not None
            forged = replace(link, row_sha256=row.sha256, column_sums=row.column_sums)
            previous = link_sha256(forged, previous=previous)
            await conn.execute(
                "update credit.audit_link set row_sha256 = %s, column_sums = %s, sha256 = %s where seq = %s",
                [forged.row_sha256, forged.column_sums, previous, link.seq],
            )
        await conn.execute("update credit.audit_sealer set sha256 = %s", [previous])
        assert await broken_in(conn) is None
        broken = await broken_in(conn, anchors=[anchor])
    assert broken is not None
    assert (broken.table, broken.key, broken.columns) == ("audit_link", str(anchor.seq), ("sha256",))
