"""The pool: roles that cannot read each other, transactions that roll back, a server that goes away."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from pathlib import Path

import psycopg
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.conninfo import conninfo_to_dict

from faregate.infra.database import Database, DatabaseUnavailable, execute_last, url_with_role
from tests.conftest import OpenDatabase
from tests.servers import own_servers

PARTS = ("credit", "eventlog", "workflow", "gateway", "rules", "access")


async def make_table(database: Database, table: str) -> None:
    async with database.connection() as connection:
        await connection.execute(f"create table {table} (id int primary key)")


async def count(database: Database, table: str) -> int:
    async with database.connection() as connection:
        cursor = await connection.execute(f"select count(*) as rows from {table}")
        row = await cursor.fetchone()
    assert row is not None
    return int(row["rows"])


@pytest.mark.parametrize("owner", PARTS)
async def test_no_role_can_read_or_write_another_parts_tables(
    owner: str, open_database: OpenDatabase
) -> None:
    await make_table(await open_database(owner), f"{owner}.private")
    for other in (part for part in PARTS if part != owner):
        database = await open_database(other, connections_max=1)
        for statement in ("select * from {}", "insert into {} values (1)", "drop table {}"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege) as refused:
                async with database.connection() as connection:
                    await connection.execute(statement.format(f"{owner}.private"))
            assert refused.value.sqlstate == "42501"


@pytest.mark.parametrize("part", PARTS)
async def test_a_role_makes_tables_in_its_own_schema_only(part: str, open_database: OpenDatabase) -> None:
    database = await open_database(part)
    await make_table(database, f"{part}.own")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        await make_table(database, "public.shared")


async def test_every_connection_of_the_pool_acts_as_the_role(open_database: OpenDatabase) -> None:
    database = await open_database("credit", connections_max=3)

    async def role() -> str:
        async with database.connection() as connection:
            cursor = await connection.execute("select current_user as role, pg_sleep(0.05)")
            row = await cursor.fetchone()
        assert row is not None
        return str(row["role"])

    assert set(await asyncio.gather(*(role() for _ in range(6)))) == {"faregate_credit"}


async def test_a_transaction_commits_at_its_end_and_rolls_back_on_any_error(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("credit")
    await make_table(database, "credit.kept")
    async with database.transaction() as connection:
        await connection.execute("insert into credit.kept values (1)")
    with pytest.raises(ZeroDivisionError):
        await insert_and_fail(database)
    assert await count(database, "credit.kept") == 1


async def insert_and_fail(database: Database) -> None:
    async with database.transaction() as connection:
        await connection.execute("insert into credit.kept values (2)")
        raise ZeroDivisionError


INSERT = "insert into credit.t values (%(id)s)"


async def test_a_last_statement_runs_at_the_end_and_belongs_to_the_transaction(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("credit")
    await make_table(database, "credit.t")
    async with database.transaction() as connection:
        await execute_last(connection, INSERT, {"id": 2})
        await connection.execute(INSERT, {"id": 1})
        found = await (await connection.execute("select id from credit.t")).fetchall()
        assert [row["id"] for row in found] == [1]
    assert await count(database, "credit.t") == 2
    with suppress(LookupError):
        async with database.transaction() as connection:
            await execute_last(connection, INSERT, {"id": 3})
            raise LookupError
    assert await count(database, "credit.t") == 2


async def test_a_last_statement_that_fails_undoes_everything(open_database: OpenDatabase) -> None:
    database = await open_database("credit", connections_max=1)
    await make_table(database, "credit.t")
    with pytest.raises(psycopg.errors.UniqueViolation):
        await insert_last(database, 1, 1, 2)
    assert await count(database, "credit.t") == 0
    await insert_last(database, 1, 2)
    assert await count(database, "credit.t") == 2


async def insert_last(database: Database, *ids: int) -> None:
    async with database.transaction() as connection:
        for id_ in ids:
            await execute_last(connection, INSERT, {"id": id_})


async def test_a_last_statement_in_a_savepoint_is_undone_with_it(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    await make_table(database, "credit.t")
    async with database.transaction() as connection:
        await execute_last(connection, INSERT, {"id": 1})
        with suppress(LookupError):
            async with connection.transaction():
                await execute_last(connection, INSERT, {"id": 2})
                raise LookupError
        async with connection.transaction():
            await execute_last(connection, INSERT, {"id": 3})
    async with database.connection() as connection:
        await execute_last(connection, INSERT, {"id": 4})
        found = await (await connection.execute("select id from credit.t order by id")).fetchall()
    assert [row["id"] for row in found] == [1, 3, 4]


async def test_an_error_of_the_statement_is_passed_on_as_it_is(open_database: OpenDatabase) -> None:
    database = await open_database("credit")
    async with database.connection() as connection:
        with pytest.raises(psycopg.errors.UndefinedTable):
            await connection.execute("select * from never_made")
    async with database.transaction() as connection:
        await connection.execute("set local statement_timeout = 1")
        with pytest.raises(psycopg.errors.QueryCanceled):
            await connection.execute("select pg_sleep(1)")


async def test_a_connection_of_ones_own_acts_as_the_role_outside_the_pool(
    open_database: OpenDatabase,
) -> None:
    database = await open_database("rules", connections_max=1)
    async with database.connection(), await database.connect() as own:
        row = await (await own.execute("select current_user as role")).fetchone()
    assert row == {"role": "faregate_rules"}


async def test_a_server_that_is_not_there_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(DatabaseUnavailable):
        await Database.open(f"postgresql://postgres@/x?host={tmp_path}", role="r", open_timeout_s=0.2)


async def test_after_a_restart_of_the_server_at_most_the_calls_under_way_fail(tmp_path: Path) -> None:
    with own_servers(tmp_path / "home") as servers:
        database = await Database.open(servers.database_url, role="faregate_credit", connections_max=5)
        await asyncio.gather(*(count(database, "pg_class") for _ in range(5)))
        servers.postgres.restart()
        with pytest.raises(DatabaseUnavailable):
            await count(database, "pg_class")
        assert all(await asyncio.gather(*(count(database, "pg_class") for _ in range(10))))
        await database.close()


async def test_a_pool_recovers_from_an_outage_in_which_it_gave_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faregate.infra.database.RECONNECT_ROUND_S", 0.1)
    with own_servers(tmp_path / "home") as servers:
        database = await Database.open(servers.database_url, role="faregate_credit", connections_max=2)
        servers.postgres.kill9()
        with pytest.raises(DatabaseUnavailable):
            await ask_for_ever(database)  # its processes answer until they notice that their head is dead
        while database.statistics.get("connections_errors", 0) < 5:  # noqa: ASYNC110 - the pool tries by itself
            await asyncio.sleep(0.01)
        await asyncio.to_thread(servers.postgres.start)
        assert await count(database, "pg_class")
        await database.close()


async def ask_for_ever(database: Database) -> None:
    while True:
        await count(database, "pg_class")


text = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=20)


@given(user=text, password=text, database=text)
def test_adding_the_role_to_a_url_changes_nothing_else(user: str, password: str, database: str) -> None:
    url = psycopg.conninfo.make_conninfo(user=user, password=password, dbname=database, options="-c a=b")
    assert conninfo_to_dict(url_with_role(url, role="r")) == {
        "user": user,
        "password": password,
        "dbname": database,
        "options": "-c a=b -c role=r",
    }
