"""Migrations: repeatable, safe to start from everywhere at once, possible without a superuser."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psycopg
import pytest
from alembic import command
from alembic.config import Config

from faregate.infra.database import Database
from faregate.infra.eventlog import Sequencer, append
from faregate.infra.eventlog.cursor import Cursor
from faregate.infra.migrations import is_current, migrate, migrations_folder, newest_revision
from faregate.kernel.event import NewEvent
from tests.eventlog import event
from tests.servers import own_servers

VERSIONS = migrations_folder() / "versions"


@pytest.fixture
def empty_url(postgres_url: str) -> Iterator[str]:
    """A database into which nothing was migrated yet."""
    server_url = postgres_url.replace("/faregate?", "/postgres?")
    with psycopg.connect(server_url, autocommit=True) as server:
        server.execute("create database empty template template0")
        yield postgres_url.replace("/faregate?", "/empty?")
        server.execute("drop database empty with (force)")


async def current(url: str) -> bool:
    database = await Database.open(url, role="postgres", connections_max=1)
    async with database.connection() as connection:
        answer = await is_current(connection)
    await database.close()
    return answer


async def test_an_empty_database_is_not_current_until_it_was_migrated(empty_url: str) -> None:
    assert not await current(empty_url)
    migrate(empty_url)
    assert await current(empty_url)


async def test_several_processes_may_migrate_at_once(empty_url: str) -> None:
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(migrate, [empty_url] * 4))
    assert await current(empty_url)


async def test_an_administrator_who_is_no_superuser_can_migrate_and_act_as_every_part(tmp_path: Path) -> None:
    with own_servers(tmp_path / "home", migrated=False) as servers:
        with psycopg.connect(servers.database_url, autocommit=True) as server:
            server.execute("create role administrator login createrole")
            server.execute("create database bare owner administrator")
        url = servers.database_url.replace("postgres@/faregate?", "administrator@/bare?")
        migrate(url)
        for part in ("credit", "eventlog", "workflow", "gateway", "rules", "access", "members"):
            await (await Database.open(url, role=f"faregate_{part}")).close()


async def test_any_role_may_ask_whether_the_database_is_current(database_url: str) -> None:
    database = await Database.open(database_url, role="faregate_credit", connections_max=1)
    async with database.connection() as connection:
        assert await is_current(connection)
    await database.close()


async def test_a_log_that_has_events_becomes_its_own_first_segment_and_goes_on(empty_url: str) -> None:
    _upgrade(empty_url, "0011")
    database = await Database.open(empty_url, role="faregate_eventlog", connections_max=4)
    await _append_and_sequence(database, [event(n=n) for n in range(5)])
    migrate(empty_url)
    await _append_and_sequence(database, [event(n=5)])
    async with database.connection() as conn:
        found = await (
            await conn.execute("select seq, tableoid::regclass::text as t from eventlog.event")
        ).fetchall()
        segments = await (await conn.execute("select from_seq, end_seq from eventlog.segment")).fetchall()
    await database.close()
    assert [row["seq"] for row in found] == [1, 2, 3, 4, 5, 6]
    assert {row["t"] for row in found} == {"eventlog.event_1"}
    assert [(row["from_seq"], row["end_seq"]) for row in segments] == [(1, 5 + 16384 + 1)]


def _upgrade(url: str, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(migrations_folder()))
    config.attributes["url"] = url
    command.upgrade(config, revision)


async def _append_and_sequence(database: Database, events: list[NewEvent]) -> None:
    sequencer = Sequencer(database=database, holder="test")
    async with database.connection() as conn:
        await append(conn, events)
        fence = await sequencer.acquire(conn)
        assert fence is not None
        await sequencer.sequence(conn, fence=fence, cursor=Cursor(), pause_s=0)


def test_the_files_are_numbered_without_gaps_and_say_when_they_run() -> None:
    names = sorted(path.stem for path in VERSIONS.glob("[0-9]*.py"))
    assert [name[:4] for name in names] == [f"{number:04}" for number in range(1, len(names) + 1)]
    assert all(name.endswith(("_before", "_after")) for name in names)
    assert sorted(path.stem for path in VERSIONS.glob("[0-9]*.sql")) == names
    assert newest_revision() == names[-1][:4]
