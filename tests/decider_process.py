"""Deciders in a process of their own: `python -m tests.decider_process APPLICATION DECIDERS`.

The database's URL is read from standard input. `ready` goes out when each decider has its connection; after a line
of input they decide at once, and what each was answered goes out as JSON.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import orjson

from faregate.credit.handlers.decide import DecisionService
from faregate.credit.handlers.tools import Tools
from faregate.credit.store.artefacts import load_check_plans, load_scorecard
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.rules.api import Rulesets


async def main(application: str, deciders: int) -> None:
    url = sys.stdin.readline().strip()
    hooks: Any = None  # deciding asks nobody
    service = DecisionService(
        tools=Tools(clock=SystemClock(), random_bytes=os.urandom),
        hooks=hooks,
        rulesets=Rulesets(),
        scorecard=load_scorecard("german-1"),
        plans=load_check_plans(),
    )
    database = await Database.open(url, role="faregate_credit", connections_max=deciders)
    connected, go = asyncio.Barrier(deciders + 1), asyncio.Event()

    async def decide() -> str:
        async with database.transaction() as conn:
            await connected.wait()
            await go.wait()
            return (await service.decide(conn, application))["status"]

    tasks = [asyncio.create_task(decide()) for _ in range(deciders)]
    await connected.wait()
    print("ready", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    go.set()
    print(orjson.dumps(await asyncio.gather(*tasks)).decode(), flush=True)  # noqa: T201
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
