"""Points over real HTTP, on the API that all tests share.

from tests.credit_world import world  # noqa: F401
from tests.points_world import points_of_test  # noqa: F401
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from faregate.infra.database import Database
from faregate.points.handlers.reconcile import reconcile
from faregate.points.store.batch import open_accounts
from tests.conftest import OpenDatabase
from tests.credit_world import CreditWorld, Reply, new_key

__all__ = ["LEDGER", "PointsWorld", "points_of_test"]

LEDGER = "/api/points"
SCOPES = ["points:read", "points:write", "points:adjust", "points:approve"]
_members = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class PointsWorld:
    """A running ledger. `database` acts as its role."""

    world: CreditWorld
    database: Database

    async def member(self, amount: int = 0, **earned: Any) -> str:
        """Open the account of a new member, who has so many points; return the member's id."""
        member_id = f"mbr_{next(_members)}"
        async with self.database.transaction() as conn:
            await open_accounts(conn, [member_id], at=datetime.now(UTC))
        if amount:
            await self.done("earn", member_id=member_id, amount=amount, **earned)
        return member_id

    async def ask(self, kind: str, *, key: str | None = None, client: str = "clerk", **fields: Any) -> Reply:
        """Ask for an operation and return the answer, whatever it is."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
        body = orjson.dumps({"kind": kind, **fields})
        path = "/corrections" if kind in ("adjust", "set_status", "set_floor") else "/operations"
        return await self.world.request("POST", LEDGER + path, client=client, headers=headers, data=body)

    async def done(self, kind: str, **fields: Any) -> int:
        """Ask for an operation that must be done; return its number."""
        reply = await self.ask(kind, **fields)
        assert reply.status == 201, reply.body
        return int(reply.json["operation"])

    async def post(self, path: str, body: Any, *, client: str = "clerk") -> Reply:
        headers = {"Content-Type": "application/json"}
        return await self.world.request(
            "POST", LEDGER + path, client=client, headers=headers, data=orjson.dumps(body)
        )

    async def get(self, path: str) -> Reply:
        return await self.world.request("GET", LEDGER + path, client="clerk")

    async def account(self, member_id: str) -> dict[str, Any]:
        return dict((await self.get(f"/accounts/{member_id}")).json)

    async def available(self, member_id: str) -> int:
        return int((await self.account(member_id))["balance"]["available"])

    @asynccontextmanager
    async def nothing_but_the_refusal(self) -> AsyncIterator[None]:
        """Expect that no row of any table changes but for one more operation, which remembers the refusal."""
        before = await self.world.contents()
        yield
        after = await self.world.contents()
        rows = after["points.operation"][0]
        assert rows == before["points.operation"][0] + 1
        changed = {name for name in after if after[name] != before.get(name)}
        assert changed == {"points.operation"}

    async def check(self) -> None:
        """Everything in the ledger adds up."""
        found = await reconcile(self.database)
        assert found.breaks == {}
        assert found.unbalanced == ()


@pytest.fixture(name="points")
async def points_of_test(world: CreditWorld, open_database: OpenDatabase) -> AsyncIterator[PointsWorld]:
    """A ledger with two clients, `clerk` and `manager`; everything in it must add up at the end."""
    for client in ("clerk", "manager"):
        await world.add_key(client, client=client, scopes=SCOPES)
    running = PointsWorld(world=world, database=await open_database("points"))
    yield running
    await running.check()
