"""Reads from a real streaming replica: while it keeps up, when it lags, and when it is gone."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from pydantic import SecretStr

from faregate.credit.store.decisions import record_steps
from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.embedded import DATABASE
from faregate.infra.embedded.postgres import PORT, SUPERUSER, PostgresServer
from faregate.infra.embedded.wheels import postgres_program
from faregate.infra.replica import ReadDatabase
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from tests.credit_world import APPLICATIONS, CreditWorld, open_credit_world
from tests.sandbox import until
from tests.servers import Breakable, OwnServers, own_servers

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C31")]


@dataclass(frozen=True)
class Pair:
    """A primary with its Valkey, and a streaming replica that a test may pause or kill."""

    primary: OwnServers
    replica: PostgresServer

    @property
    def replica_url(self) -> str:
        return self.replica.url(DATABASE)

    async def on_replica(self, query: str) -> list[dict[str, Any]]:
        connect = psycopg.AsyncConnection.connect
        async with await connect(self.replica_url, autocommit=True, row_factory=dict_row) as conn:
            return await (await conn.execute(query.encode())).fetchall()

    @asynccontextmanager
    async def paused(self) -> AsyncIterator[None]:
        """Let the replica receive but not show what is written for the length of the block."""
        await self.on_replica("select pg_wal_replay_pause()")
        await until(self._is_paused, bool)
        try:
            yield
        finally:
            await self.on_replica("select pg_wal_replay_resume()")

    async def _is_paused(self) -> bool:
        [row] = await self.on_replica("select pg_get_wal_replay_pause_state() = 'paused' as is_paused")
        return bool(row["is_paused"])


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    with tempfile.TemporaryDirectory(prefix="faregate-pair-") as folder:
        home = Path(folder) / "replica"
        (home / "run").mkdir(parents=True)
        with own_servers(Path(folder) / "primary") as primary:
            _base_backup(primary, home / "postgres")
            replica = PostgresServer(
                folder=home / "postgres",
                sockets=home / "run",
                database=DATABASE,
                settings={},
                end_with_us=True,
            )
            replica.ensure_running()
            yield Pair(primary=primary, replica=replica)
            replica.stop()


def _base_backup(primary: OwnServers, folder: Path) -> None:
    """Copy the running primary, with what makes the copy follow it."""
    sockets = primary.database_url.partition("host=")[2].partition("&")[0]
    command = [str(postgres_program("pg_basebackup")), f"--pgdata={folder}", "--write-recovery-conf"]
    where = [
        f"--host={sockets}",
        f"--port={PORT}",
        f"--username={SUPERUSER}",
        "--checkpoint=fast",
        "--no-sync",
    ]
    done = subprocess.run([*command, *where], capture_output=True, text=True, check=False)
    if done.returncode:
        shutil.rmtree(folder, ignore_errors=True)
        raise AssertionError(done.stderr)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(pair: Pair, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[CreditWorld]:
    """An API with the replica, whose snapshots end at once: nearly every status is a miss."""
    valkey_url = f"unix://{pair.primary.valkey_socket}"
    settings = Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=tmp_path_factory.mktemp("home"),
        database_url=SecretStr(pair.primary.database_url),
        database_replica_url=SecretStr(pair.replica_url),
        valkey_url=SecretStr(valkey_url),
        status_cache_ttl_s=0.001,
    )
    cache = await Cache.open(valkey_url)
    async with open_credit_world(settings, cache=cache) as running:
        await running.add_key("watcher", client="watcher", scopes=["metrics:read"])
        yield running
    await cache.close()


async def reads(world: CreditWorld) -> dict[str, int]:
    """Return how many reads each server got so far."""
    text = (await world.request("GET", "/metrics", client="watcher")).body.decode()
    prefix = "faregate_database_reads_total"
    lines = [line for line in text.splitlines() if line.startswith(f"{prefix}{{")]
    return {line.split('"')[1]: int(float(line.split()[-1])) for line in lines}


async def read_from(world: CreditWorld, path: str) -> tuple[int, list[str]]:
    """Read a path; return the status and which servers were asked successfully."""
    before = await reads(world)
    reply = await world.request("GET", path)
    after = await reads(world)
    return reply.status, [server for server in after if after[server] > before[server]]


async def until_read_from(world: CreditWorld, path: str, server: str) -> None:
    await until(lambda: read_from(world, path), lambda found: found == (200, [server]))


async def test_statuses_and_lists_are_read_from_a_replica_that_keeps_up(world: CreditWorld) -> None:
    application_id = await world.submitted()
    for path in (f"{APPLICATIONS}/{application_id}", APPLICATIONS):
        await until_read_from(world, path, "replica")


async def test_what_was_just_submitted_is_found_though_the_replica_does_not_have_it(
    world: CreditWorld, pair: Pair
) -> None:
    async with pair.paused():
        application_id = await world.submitted()
        assert (await world.status(application_id)).status == 200
        query = f"select 1 from credit.application where id = '{application_id}'"
        assert await pair.on_replica(query) == []


async def test_a_replica_that_falls_behind_is_not_asked_until_it_has_caught_up(
    world: CreditWorld, pair: Pair
) -> None:
    application_id = await world.submitted()
    path = f"{APPLICATIONS}/{application_id}"
    await until_read_from(world, path, "replica")
    async with pair.paused():
        await record_steps(world.connection, {application_id: "moved"}, now=datetime.now(UTC))
        await until_read_from(world, path, "primary")
        assert (await world.status(application_id)).json["latest_step"] == "moved"
    await until_read_from(world, path, "replica")


class Trusting(ReadDatabase):
    """Asks a replica however far it is behind, so that only `suffices` protects a reader."""

    @property
    def is_replica_close(self) -> bool:
        return True


@asynccontextmanager
async def trusting(pair: Pair) -> AsyncIterator[Trusting]:
    primary = await Database.open(pair.primary.database_url, role="faregate_credit")
    replica = await Database.open(pair.replica_url, role="faregate_credit")
    yield Trusting(primary=primary, replica=replica, metrics=Metrics())
    await primary.close()
    await replica.close()


async def revision_of(reads: ReadDatabase, application_id: str, *, known: int) -> int:
    async def query(conn: Any) -> int:
        found = await conn.execute("select revision from credit.application where id = %s", (application_id,))
        return int((await found.fetchone())["revision"])

    return await reads.read(query, suffices=lambda revision: revision >= known)


async def test_a_reader_is_not_given_less_than_it_knows(world: CreditWorld, pair: Pair) -> None:
    application_id = await world.submitted()
    await until_read_from(world, f"{APPLICATIONS}/{application_id}", "replica")
    async with trusting(pair) as database, pair.paused():
        await record_steps(world.connection, {application_id: "moved"}, now=datetime.now(UTC))
        assert await revision_of(database, application_id, known=1) == 1
        assert await revision_of(database, application_id, known=2) == 2
        tag = {"If-None-Match": '"2"'}
        path = f"{APPLICATIONS}/{application_id}"
        reply = await world.request("GET", path, headers=tag)
        assert (reply.status, reply.json["latest_step"]) == (200, "moved")


async def test_reads_go_on_without_errors_when_the_replica_is_killed_and_return_to_it(
    world: CreditWorld, pair: Pair
) -> None:
    application_id = await world.submitted()
    path = f"{APPLICATIONS}/{application_id}"
    await until_read_from(world, path, "replica")
    killed = asyncio.Event()

    async def poll() -> set[int]:
        statuses = set()
        while not killed.is_set():
            statuses.add((await world.status(application_id)).status)
        return statuses | {(await world.status(application_id)).status for _ in range(20)}

    pollers = [asyncio.create_task(poll()) for _ in range(8)]
    await asyncio.to_thread(Breakable(pair.replica).kill9)
    await until_read_from(world, APPLICATIONS, "primary")
    killed.set()
    assert set.union(*await asyncio.gather(*pollers)) == {200}
    await asyncio.to_thread(pair.replica.ensure_running)
    await until_read_from(world, path, "replica")


async def test_a_replica_that_is_down_keeps_no_api_from_starting(world: CreditWorld, pair: Pair) -> None:
    nowhere = SecretStr("postgresql://postgres@127.0.0.1:1/faregate")
    settings = world.settings.model_copy(update={"database_replica_url": nowhere})
    async with open_credit_world(settings, cache=world.cache) as alone:
        assert (await alone.status(await alone.submitted())).status == 200
