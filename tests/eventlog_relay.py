"""A relay as a process of its own, `python -m tests.eventlog_relay`, to be killed."""

from __future__ import annotations

import asyncio
import os
import sys

from faregate.infra.database import Database
from faregate.infra.eventlog import Listener
from faregate.infra.kafka import KafkaAddress, Relay
from tests.eventlog import LEASE_S, topics_of_test


async def main(url: str, bootstrap: str, prefix: str) -> None:
    """Relay in small batches until killed."""
    database = await Database.open(url, role="faregate_eventlog")
    async with Listener(database) as listener:
        relay = Relay(
            database=database,
            listener=listener,
            holder=str(os.getpid()),
            address=KafkaAddress(bootstrap=bootstrap),
            topics=topics_of_test(prefix=prefix),
            schema_id=lambda _: None,
            lease_s=LEASE_S,
            batch_max=20,
        )
        await relay.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
