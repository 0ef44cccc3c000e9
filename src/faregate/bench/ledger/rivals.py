"""What one would write on PostgreSQL without a second thought, done properly: one transaction an operation.

Both remember every answer under its key, hold and post, and add transfers. The programme's own side has no row whose
balance every transfer would have to change: that would only make them slower.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from faregate.bench.ledger.port import DONE, Holding
from faregate.infra.database import Connection, Database
from faregate.infra.queries import load_queries

QUERIES = load_queries(__package__)
PROGRAMME = "programme"


class _Rival:
    """What both have in common."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def open(self, accounts: Sequence[str]) -> None:
        """Make the tables anew, with these accounts."""
        async with self._database.connection() as conn:
            for statement in QUERIES["make_tables"].split(";"):
                await conn.execute(statement)
            await conn.execute(QUERIES["open_accounts"], {"accounts": list(accounts)})

    async def balance(self, account: str) -> Holding:
        """Return what an account has."""
        async with self._database.connection() as conn:
            row: Any = await self._one(conn, "balance", account=account)
        return Holding(posted=row["posted"], held=row["held"])

    @staticmethod
    async def _one(conn: Connection, name: str, **given: Any) -> Any:
        return await (await conn.execute(QUERIES[name], given)).fetchone()

    @staticmethod
    async def _do(conn: Connection, name: str, **given: Any) -> None:
        await conn.execute(QUERIES[name], given)


class ForUpdate(_Rival):
    """`SELECT … FOR UPDATE` for each operation: read, decide in the program, write."""

    async def earn(self, key: str, account: str, amount: int) -> str:
        """Add points."""
        async with self._database.transaction() as conn:
            if answer := await self._known(conn, key, f"earn {account} {amount}"):
                return answer
            await self._one(conn, "lock_account", account=account)
            await self._do(conn, "change_account", account=account, posted=amount, held=0)
            await self._do(conn, "insert_transfer", key=key, debit=PROGRAMME, credit=account, amount=amount)
            return await self._remember(conn, key, f"earn {account} {amount}", DONE)

    async def hold(self, key: str, account: str, amount: int) -> str:
        """Reserve points."""
        asked = f"hold {account} {amount}"
        async with self._database.transaction() as conn:
            row = await self._one(conn, "lock_account", account=account)
            if answer := await self._known(conn, key, asked):
                return answer
            if row["posted"] - row["held"] < amount:
                return await self._remember(conn, key, asked, "insufficient")
            await self._do(conn, "insert_hold", key=key, account=account, amount=amount)
            await self._do(conn, "change_account", account=account, posted=0, held=amount)
            return await self._remember(conn, key, asked, DONE)

    async def post(self, key: str, hold: str, account: str) -> str:
        """Spend what is held."""
        return await self._end(key, hold, account, state="posted")

    async def void(self, key: str, hold: str, account: str) -> str:
        """Release what is held."""
        return await self._end(key, hold, account, state="voided")

    async def _end(self, key: str, hold: str, account: str, *, state: str) -> str:
        async with self._database.transaction() as conn:
            await self._one(conn, "lock_account", account=account)
            if answer := await self._known(conn, key, f"{state} {hold}"):
                return answer
            row = await self._one(conn, "lock_hold", hold=hold)
            if row["state"] != "open":
                return await self._remember(conn, key, f"{state} {hold}", "ended")
            spent = row["amount"] if state == "posted" else 0
            await self._do(conn, "end_hold", hold=hold, state=state)
            await self._do(conn, "change_account", account=account, posted=-spent, held=-row["amount"])
            if spent:
                await self._do(
                    conn, "insert_transfer", key=key, debit=account, credit=PROGRAMME, amount=spent
                )
            return await self._remember(conn, key, f"{state} {hold}", DONE)

    async def _known(self, conn: Connection, key: str, asked: str) -> str:
        row = await self._one(conn, "known", key=key)
        if row is None:
            return ""
        return str(row["answer"]) if row["fingerprint"] == asked else "key reused"

    async def _remember(self, conn: Connection, key: str, asked: str, answer: str) -> str:
        await self._do(conn, "remember", key=key, fingerprint=asked, answer=answer)
        return answer


class AtomicUpdate(_Rival):
    """A single conditional `UPDATE` decides each operation, so that nothing is read before it is written."""

    async def earn(self, key: str, account: str, amount: int) -> str:
        """Add points."""
        async with self._database.transaction() as conn:
            if answer := await self._claim(conn, key, f"earn {account} {amount}"):
                return answer
            await self._do(conn, "change_account", account=account, posted=amount, held=0)
            await self._do(conn, "insert_transfer", key=key, debit=PROGRAMME, credit=account, amount=amount)
        return DONE

    async def hold(self, key: str, account: str, amount: int) -> str:
        """Reserve points."""
        async with self._database.transaction() as conn:
            if answer := await self._claim(conn, key, f"hold {account} {amount}"):
                return answer
            if await self._one(conn, "hold_if_available", account=account, amount=amount) is None:
                await self._do(conn, "answer_claimed", key=key, answer="insufficient")
                return "insufficient"
            await self._do(conn, "insert_hold", key=key, account=account, amount=amount)
        return DONE

    async def post(self, key: str, hold: str, account: str) -> str:
        """Spend what is held."""
        return await self._end(key, hold, account, state="posted")

    async def void(self, key: str, hold: str, account: str) -> str:
        """Release what is held."""
        return await self._end(key, hold, account, state="voided")

    async def _end(self, key: str, hold: str, account: str, *, state: str) -> str:
        async with self._database.transaction() as conn:
            if answer := await self._claim(conn, key, f"{state} {hold}"):
                return answer
            row = await self._one(conn, "end_open_hold", hold=hold, state=state)
            if row is None:
                await self._do(conn, "answer_claimed", key=key, answer="ended")
                return "ended"
            spent = row["amount"] if state == "posted" else 0
            await self._do(conn, "change_account", account=account, posted=-spent, held=-row["amount"])
            if spent:
                await self._do(
                    conn, "insert_transfer", key=key, debit=account, credit=PROGRAMME, amount=spent
                )
        return DONE

    async def _claim(self, conn: Connection, key: str, asked: str) -> str:
        if await self._one(conn, "claim", key=key, fingerprint=asked) is not None:
            return ""
        row = await self._one(conn, "known", key=key)
        return str(row["answer"]) if row["fingerprint"] == asked else "key reused"
