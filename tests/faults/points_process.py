"""A process that works on the ledger until it is killed: `python -m tests.faults.points_process URL NAME MEMBER…`.

Sixteen clients earn, hold, post, void and burn. Each answer is a line of standard output: what was asked, and the
number that it got. What was not printed may have been done or not.
"""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Sequence
from datetime import date, timedelta
from itertools import count

import orjson

from faregate.infra.database import Database, DatabaseUnavailable
from faregate.points.contracts.ledger import Burn, Earn, Hold, Operation, Post, Request, Void
from faregate.points.handlers.writer import LedgerWriter

CLIENTS = 16
KINDS: dict[str, type[Request]] = {kind.__name__: kind for kind in (Burn, Earn, Hold, Post, Void)}


def request_of(line: str) -> Request:
    """Return what was asked, from a line of the output."""
    asked = orjson.loads(line)["asked"]
    if "expires_on" in asked:
        asked["expires_on"] = date.fromisoformat(asked["expires_on"])
    return KINDS[asked.pop("kind")](**asked)


def number_of(line: str) -> int:
    """Return the number of the operation, from a line of the output."""
    return int(orjson.loads(line)["no"])


async def work(url: str, name: str, members: Sequence[str]) -> None:
    database = await Database.open(url, role="faregate_points")
    writer = LedgerWriter(database=database, day_of=lambda instant: instant.date())
    today, numbers, chance = date.today(), count(), random.Random(name)  # noqa: DTZ011 - a day not far from here

    async def ask(kind: str, **fields: object) -> Operation:
        asked = {"key": f"{name}-{next(numbers)}", **fields}
        request = KINDS[kind](**asked)  # type: ignore[arg-type]
        while True:
            try:
                answer = await writer.submit(request)
            except DatabaseUnavailable:
                continue  # the pool has waited already
            assert isinstance(answer, Operation)
            line = orjson.dumps({"asked": {"kind": kind, **asked}, "no": answer.no})
            sys.stdout.write(line.decode() + "\n")
            sys.stdout.flush()
            return answer

    async def client() -> None:
        while True:
            member = chance.choice(members)
            day = today + timedelta(days=chance.randrange(1, 40))
            await ask("Earn", member_id=member, amount=chance.choice([1, 2, 4, 8]), expires_on=day)
            hold = await ask("Hold", member_id=member, amount=chance.choice([1, 2, 4, 8]))
            await ask(chance.choice(["Post", "Void"]), subject=hold.no)
            await ask("Burn", member_id=member, amount=1)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))


if __name__ == "__main__":
    asyncio.run(work(sys.argv[1], sys.argv[2], sys.argv[3:]))
