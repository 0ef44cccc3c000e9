"""A member of a consumer group as a process of its own, `python -m tests.eventlog_member`, to be killed."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import Listener, PostgresEventSource
from faregate.kernel.event import Event
from tests.eventlog import LEASE_S, recorder


async def main(url: str, group: str) -> None:
    """Consume in small batches that dawdle before and after their effect, until killed."""
    database = await Database.open(url, role="faregate_credit")

    async def dawdle(conn: Connection, events: Sequence[Event]) -> None:
        await asyncio.sleep(random.uniform(0, 0.02))
        await recorder(group)(conn, events)
        await asyncio.sleep(random.uniform(0, 0.02))

    async with Listener(database) as listener:
        source = PostgresEventSource(listener=listener, lease_s=LEASE_S)
        subscription = source.subscribe(
            database=database, group=group, types=None, handler=dawdle, batch_max=10
        )
        await subscription.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
