"""A process with one sender that tests kill: `python -m tests.faults.webhook_process URL`."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from tests.webhook_world import open_sender

LEASE_S = 1.0


async def main(url: str) -> None:
    database = await Database.open(url, role="faregate_webhooks")
    async with AsyncExitStack() as stack:
        sender = await open_sender(
            stack,
            database,
            clock=SystemClock(),
            transport={},
            options={"lease_s": LEASE_S, "idle_s": 0.05},
        )
        await sender.run(asyncio.Event())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
