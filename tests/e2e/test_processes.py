"""One process a part, as they are run: a consumer that joins and one that leaves, and `faregate up --processes`."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg
import pytest

from faregate.events.credit import ApplicationSubmitted
from faregate.infra.database import Database
from faregate.infra.eventlog import append
from faregate.infra.supervisor import free_port
from faregate.infra.workflow.prepare import prepare
from faregate.kernel.event import NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import assert_each_once_and_in_order, event, eventually
from tests.logins import made_logins

GROUP = "credit.runs"
KEYS = 48
NOTE_WHAT_IS_HANDLED = """
create table credit.effect (ord bigint generated always as identity, event_id uuid not null);
create function credit.note() returns trigger language plpgsql security definer as $$
begin insert into credit.effect (event_id) values (new.event_id); return null; end $$;
create trigger note after insert on eventlog.inbox for each row
    when (new.consumer_group = 'credit.runs') execute function credit.note();
"""
"""A row for each event of the group, in the transaction that handles it, with no protection against doing it twice."""


@asynccontextmanager
async def process(*arguments: str, log: Path, **variables: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run a command of faregate for the length of the block; at its end it is told to stop."""
    others = {name: value for name, value in os.environ.items() if not name.startswith("FAREGATE_")}
    with log.open("ab") as stderr:
        started = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "faregate", *arguments),
            env=others | variables,
            stdout=asyncio.subprocess.PIPE,
            stderr=stderr,
        )
    try:
        yield started
    finally:
        if started.returncode is None:
            started.terminate()
        await started.wait()


@dataclass(frozen=True, kw_only=True)
class Flow:
    """Events of many keys that keep coming, and what became of them."""

    credit: Database
    admin: Database
    sent: list[NewEvent] = field(default_factory=list)

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Append events for the length of the block."""
        stop = asyncio.Event()

        async def append_some() -> None:
            while not stop.is_set():
                number = len(self.sent) // KEYS
                some = [event(f"app_{key}", n=number, kind=ApplicationSubmitted.type) for key in range(KEYS)]
                async with self.credit.transaction() as conn:
                    await append(conn, some)
                self.sent.extend(some)
                await self.until_handled(all_but=10 * KEYS)

        coming = asyncio.create_task(append_some())
        yield
        stop.set()
        await coming

    async def handled(self) -> list[str]:
        """Return the ids of what was handled, in that order."""
        async with self.credit.connection() as conn:
            rows = await (await conn.execute("select event_id from credit.effect order by ord")).fetchall()
        return [str(row["event_id"]) for row in rows]

    async def until_handled(self, *, all_but: int = 0) -> None:
        """Return when as many events have been handled as were sent before, or nearly as many."""
        wanted = len(self.sent) - all_but

        async def are_handled() -> bool:
            return len(await self.handled()) >= wanted

        await eventually(are_handled, what=f"{wanted} events are handled")

    async def until_shared(self, *partitions: int) -> None:
        """Return when the members of the group have so many partitions each."""
        query = """
            select count(*)::int as n from eventlog.assignment
            where consumer_group = %s and member is not null group by member order by n
        """

        async def are_shared() -> bool:
            async with self.admin.connection() as conn:
                rows = await (await conn.execute(query, (GROUP,))).fetchall()
            return tuple(row["n"] for row in rows) == partitions

        await eventually(are_shared, what=f"{partitions} partitions")


@pytest.mark.requirement("P2")
async def test_a_second_consumer_process_takes_over_keys_while_events_flow_and_the_first_may_leave(
    database_url: str, valkey_socket: Path, open_database: OpenDatabase, tmp_path: Path
) -> None:
    prepare(database_url)
    with psycopg.connect(database_url, autocommit=True) as server:
        server.execute(NOTE_WHAT_IS_HANDLED)
    login_url = made_logins(database_url)
    flow = Flow(credit=await open_database("credit"), admin=await open_database("eventlog"))

    def work(role: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
        return process(
            *("work", role),
            log=tmp_path / "worker.log",
            FAREGATE_HOME=str(tmp_path / "home"),
            FAREGATE_DATABASE_URL=login_url(f"faregate_login_work_{role.partition('.')[0]}"),
            FAREGATE_VALKEY_URL=f"unix://{valkey_socket}",
            FAREGATE_WORKER_PORT="0",
        )

    async with AsyncExitStack() as running:
        await running.enter_async_context(work("sequencer"))
        first = await running.enter_async_context(work(f"consumers.{GROUP}"))
        async with flow.coming():
            await flow.until_shared(16)
            await flow.until_handled()
            await running.enter_async_context(work(f"consumers.{GROUP}"))
            await flow.until_shared(8, 8)
            await flow.until_handled()
            first.send_signal(signal.SIGTERM)
            assert await first.wait() == 0
            await flow.until_shared(16)
        await flow.until_handled()
    by_id = {str(sent.id): sent for sent in flow.sent}
    effects = [
        {"event_id": found, "key": by_id[found].aggregate_id, "n": by_id[found].data["n"]}
        for found in await flow.handled()
    ]
    assert_each_once_and_in_order(effects, flow.sent)


@pytest.mark.timeout(240)
@pytest.mark.requirement("P2")
async def test_up_runs_one_process_a_part_and_says_which_one_died_and_is_started_again(
    database_url: str, valkey_socket: Path, tmp_path: Path
) -> None:
    up = process(
        "up",
        "--processes",
        "--no-sandbox",
        log=tmp_path / "up.log",
        FAREGATE_HOME=str(tmp_path / "home"),
        FAREGATE_DATABASE_URL=database_url,
        FAREGATE_VALKEY_URL=f"unix://{valkey_socket}",
        FAREGATE_API_PORT=str(free_port(host="127.0.0.1")),
    )
    async with up as running:
        assert running.stdout is not None
        said = [(await running.stdout.readline()).decode()]
        while "Ctrl-C stops everything" not in said[-1]:
            assert said[-1], (tmp_path / "up.log").read_text()
            said.append((await running.stdout.readline()).decode())
        parts = {" ".join(child.cmdline()[3:]): child for child in psutil.Process(running.pid).children()}
        parts["work audit"].kill()
        died = (await running.stdout.readline()).decode()
        running.send_signal(signal.SIGTERM)
        rest = (await running.stdout.read()).decode()
        assert await running.wait() == 0
    assert sorted(parts) == [
        *("serve credit", "serve gateway", "serve review", "serve webhooks"),
        *("work audit", "work consumers", "work housekeeping", "work providers", "work runs"),
        *("work sequencer", "work webhooks"),
    ]
    assert [line.split()[0] for line in said[:4]] == [
        "serve-credit",
        "serve-webhooks",
        "serve-review",
        "serve-gateway",
    ]
    assert died == "work-audit ended with -9; it is started again\n"
    assert rest.splitlines()[-1] == "stopped"
