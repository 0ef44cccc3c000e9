"""A producer as a process of its own, `python -m tests.eventlog_producer`, to be killed."""

from __future__ import annotations

import asyncio
import random
import sys

from faregate.infra.database import Database
from faregate.infra.eventlog import append
from tests.eventlog import event

FACTS = "facts"
"""Under this name the facts stand among the effects."""


async def main(url: str, start: int) -> None:
    """Write facts and append their events, three to a transaction that dawdles, until killed."""
    database = await Database.open(url, role="faregate_credit")
    n = start
    while True:
        async with database.transaction() as conn:
            for _ in range(3):
                fact = event(f"app_{n % 5}", n=n)
                await append(conn, [fact])
                await asyncio.sleep(random.uniform(0, 0.003))
                await conn.execute(
                    "insert into credit.effect (consumer_group, event_id, key, n) values (%s, %s, %s, %s)",
                    (FACTS, fact.id, fact.aggregate_id, n),
                )
                n += 1


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
