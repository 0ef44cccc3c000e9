"""A process with one pool that tests kill or stop: `python -m tests.faults.gateway_process URL NAME MODE`.

The provider is a table: what it executed is durable before it answers; a look-up sees it only after a lag.
Modes: `answers`, or hang `before` or `after` the execution, or while the outcome is `recorded`.
"""

from __future__ import annotations

import asyncio
import random
import signal
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import psycopg

from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.intent import Intent, Settled
from faregate.gateway.metrics import REFUSED
from faregate.gateway.policy import Policies, ProviderPolicy, RetryPolicy, Route
from faregate.gateway.poller import Intervals
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.infra.database import Connection, Database
from faregate.kernel.outcome import Done, NotDone, Outcome

LAG_S = 0.3
TIMEOUT_S = 0.6
ONE_SHOT = Capabilities(
    provider="bureau",
    asynchronous=False,
    deduplicates=False,
    look_up_lag_s_max=LAG_S,
    timeout_s=TIMEOUT_S,
    callback=False,
    polls=False,
)
TABLES = """
create table public.pull (provider_request_id text, at timestamptz default clock_timestamp());
create table public.told (subject_id text, status text, by text);
grant all on public.pull, public.told to faregate_credit;
"""


@dataclass
class TableProvider:
    """Does not deduplicate: each execution is a row."""

    url: str
    mode: str
    capabilities: Capabilities = ONE_SHOT

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        if self.mode == "before":
            await asyncio.Event().wait()
        await self._run("insert into public.pull values (%s)", request.provider_request_id)
        if self.mode == "after":
            await asyncio.Event().wait()
        return Done({"score": 7})

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        visible = f"at < clock_timestamp() - interval '{LAG_S * 0.9} s'"
        query = f"select from public.pull where provider_request_id = %s and {visible}"
        found = await self._run(query, provider_request_id)
        return Done({"score": 7}) if found else NotDone("not_found")

    def read_callback(self, body: Mapping[str, Any]) -> Callback:
        raise NotImplementedError

    async def _run(self, query: str, value: str) -> int:
        async with await psycopg.AsyncConnection.connect(self.url, autocommit=True) as conn:
            return (await conn.execute(query, (value,))).rowcount


@dataclass
class TableOwner:
    """Keeps what it is told in a table, in the journal's own transaction."""

    name: str
    mode: str

    async def lock(self, conn: Connection, subject_ids: Collection[str]) -> None:
        return None

    async def requested(self, conn: Connection, intents: Sequence[Intent]) -> None:
        return None

    async def settled(self, conn: Connection, results: Sequence[Settled]) -> None:
        for result in results:
            told = (result.subject_id, result.status, self.name)
            await conn.execute("insert into public.told values (%s, %s, %s)", told)
        if self.mode == "recorded":
            await asyncio.Event().wait()

    async def load_requests(
        self, conn: Connection, intents: Sequence[Intent]
    ) -> Mapping[str, ProviderRequest]:
        ids = [intent.provider_request_id for intent in intents]
        return {one: ProviderRequest(provider_request_id=one, subject={}) for one in ids}

    def seal(self, provider_request_id: str, raw: bytes) -> bytes:
        return raw


def table_pool(database: Database, *, url: str, name: str, mode: str) -> ProviderPool:
    """A pool over the table provider, the same in the killed process and in the one that takes over."""
    owner, provider = TableOwner(name, mode), TableProvider(url, mode)
    return ProviderPool(
        adapter=provider,
        database=database,
        hooks=owner,
        policies=Policies(
            routes={"bureau": Route(check="bureau", providers=("bureau",))},
            capabilities={"bureau": provider.capabilities},
            providers={
                "bureau": ProviderPolicy(retry=RetryPolicy(backoff_s=0.01, look_up_s=0.05, look_up_s_max=0.2))
            },
        ),
        recorder=Recorder(database=database, hooks=owner),
        holder=name,
        chance=random.random,
        new_token=uuid4,
        options=PoolOptions(lease_grace_s=0.4, drain_s=2.0, intervals=Intervals(busy_s=0.01, idle_s=0.02)),
    )


async def main(url: str, name: str, mode: str) -> None:
    database = await Database.open(url, role="faregate_credit", connections_max=4)
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    await table_pool(database, url=url, name=name, mode=mode).run(stop)
    await database.close()
    sys.stdout.write(f"refused {int(REFUSED.labels('bureau')._value.get())}\n")


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
