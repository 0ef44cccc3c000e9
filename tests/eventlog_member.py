"""A member of a consumer group as a process of its own, `python -m tests.eventlog_member`, to be killed."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import EventSource, Listener, PostgresEventSource
from faregate.infra.kafka import KafkaAddress, KafkaEventSource
from faregate.kernel.event import Event
from tests.eventlog import LEASE_S, SESSION_S, recorder, topics_of_test


async def main(url: str, group: str, *bus: str) -> None:
    """Consume in small batches that dawdle before and after their effect, until killed.

    `bus` is Kafka's address and the prefix of its topics; without it the log in PostgreSQL is read.
    """
    database = await Database.open(url, role="faregate_credit")

    async def dawdle(conn: Connection, events: Sequence[Event]) -> None:
        await asyncio.sleep(random.uniform(0, 0.02))
        await recorder(group)(conn, events)
        await asyncio.sleep(random.uniform(0, 0.02))

    async with Listener(database) as listener:
        source: EventSource = PostgresEventSource(listener=listener, lease_s=LEASE_S)
        if bus:
            address, topics = KafkaAddress(bootstrap=bus[0]), topics_of_test(prefix=bus[1])
            source = KafkaEventSource(address=address, topics=topics, session_s=SESSION_S)
        subscription = source.subscribe(
            database=database, group=group, types=None, handler=dawdle, batch_max=10
        )
        await subscription.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
