"""Deciders in a process of their own: `python -m tests.decider_process HOME APPLICATION DECIDERS`.

The database's URL is read from standard input. `ready` goes out when each decider has its connection; after a line
of input they decide at once, and what each was answered goes out as JSON.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import orjson
from pydantic import SecretStr

from faregate.infra.database import Database
from faregate.infra.settings import Settings
from tests.credit_desk import service


async def main(home: str, application: str, deciders: int) -> None:
    url = SecretStr(sys.stdin.readline().strip())
    settings = Settings(_env_file=None, home=Path(home), database_url=url)  # type: ignore[call-arg]
    single = service(settings)
    database = await Database.open(url.get_secret_value(), role="faregate_credit", connections_max=deciders)

    async def decide(go: asyncio.Event) -> str:
        async with database.transaction() as conn:
            await conn.execute("select 1")
            await go.wait()
            return (await single.decide(conn, application))["status"]

    go = asyncio.Event()
    tasks = [asyncio.create_task(decide(go)) for _ in range(deciders)]
    await asyncio.sleep(0)
    print("ready", flush=True)  # noqa: T201
    await asyncio.to_thread(sys.stdin.readline)
    go.set()
    print(orjson.dumps(await asyncio.gather(*tasks)).decode(), flush=True)  # noqa: T201
    await database.close()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3])))
