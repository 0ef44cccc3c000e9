"""One process a part, as they are run: a consumer that joins, one that leaves, and a part that dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg
import pytest

from faregate.entrypoints.processes import CONTEXTS, RELAY, ROLES
from faregate.entrypoints.system_commands import plan_of
from faregate.events.credit import ApplicationSubmitted
from faregate.infra.database import Database
from faregate.infra.eventlog import append
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.settings import Settings
from faregate.infra.workflow.prepare import prepare
from faregate.kernel.event import NewEvent
from tests.conftest import OpenDatabase
from tests.eventlog import assert_each_once_and_in_order, event, eventually
from tests.logins import made_logins
from tests.processes import process

GROUP = "credit.runs"
KEYS = 48
NOTE_WHAT_IS_HANDLED = """
create table credit.effect (ord bigint generated always as identity, event_id uuid not null);
grant select on credit.effect to faregate_credit;
create function credit.note() returns trigger language plpgsql security definer as $$
begin insert into credit.effect (event_id) values (new.event_id); return null; end $$;
create trigger note after insert on eventlog.inbox for each row
    when (new.consumer_group = 'credit.runs') execute function credit.note();
"""
"""A row for each event of the group, in the transaction that handles it, with no protection against doing it twice."""


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

        async with asyncio.TaskGroup() as group:
            group.create_task(append_some())
            try:
                yield
            finally:
                stop.set()

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


@pytest.mark.requirement("P2")
async def test_a_part_that_dies_is_named_with_its_status_and_started_again_beside_the_others(
    database_url: str, valkey_socket: Path, tmp_path: Path
) -> None:
    died: asyncio.Queue[tuple[str, int]] = asyncio.Queue()
    plan = Plan(
        home=tmp_path / "home",
        apis=0,
        workers=0,
        contexts=("gateway",),
        roles=("audit",),
        sandbox=False,
        database_url=database_url,
        valkey_url=f"unix://{valkey_socket}",
        on_restart=lambda name, status: died.put_nowait((name, status)),
    )
    async with local_system(plan) as system:
        before = system.supervisor.pids()
        system.supervisor.kill("work-audit")
        assert await died.get() == ("work-audit", -signal.SIGKILL)
        await eventually(lambda: has_changed(system, before, "work-audit"), what="it is started again")
        await system.supervisor.wait_ready("work-audit")
    assert list(before) == ["serve-gateway", "work-audit"]
    assert system.urls.keys() == {"serve-gateway"}


async def has_changed(system: LocalSystem, before: Mapping[str, int], name: str) -> bool:
    """Whether this part, and no other, is another process than before."""
    now = system.supervisor.pids()
    return {part for part in now if now[part] != before[part]} == {name}


def test_up_with_processes_plans_one_for_each_context_and_role() -> None:
    plan = plan_of(Settings(_env_file=None), processes=True)  # type: ignore[call-arg]
    assert (plan.apis, plan.workers, plan.contexts) == (0, 0, tuple(CONTEXTS))
    assert set(plan.roles) == ROLES.keys() - {RELAY}


def test_up_with_processes_on_kafka_plans_the_relay_and_the_broker_besides() -> None:
    plan = plan_of(Settings(_env_file=None), kafka=True, processes=True)  # type: ignore[call-arg]
    assert plan.kafka
    assert set(plan.roles) == ROLES.keys()
