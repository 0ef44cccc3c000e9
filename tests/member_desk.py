"""The members context for tests: the real one on the test's database, with a clock that tests move.

    from tests.member_desk import desk  # noqa: F401

`desk.do(lambda api, conn: ...)` acts in a transaction of its own.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, TypeVar

import psycopg
import pytest
from psycopg.rows import dict_row

from faregate.infra.database import Connection
from faregate.infra.security.blind_index import BlindIndex
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.security.keys import KeyRing, KeySet
from faregate.members.api import HouseholdDesk, MemberDesk, MembersApi, MemberVault, Tools
from faregate.members.contracts import ConsentChange, ConsentPurpose, Member, Preferences, Profile
from tests.conftest import OpenDatabase

__all__ = ["BY", "Desk", "desk", "vault_of"]

BY = "client:acme"
OLD, NEW = (
    KeySet(current="k1", keys={"k1": b"o" * 32}),
    KeySet(current="k2", keys={"k1": b"o" * 32, "k2": b"n" * 32}),
)
_numbers = itertools.count(1)
Result = TypeVar("Result")


@dataclass
class ManualClock:
    """Stands still until a test moves it."""

    at: datetime = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)

    def now(self) -> datetime:
        return self.at


def vault_of(keys: KeySet = OLD) -> MemberVault:
    ring = KeyRing.fixed(keys)
    return MemberVault(cipher=FieldCipher(ring=ring), index=BlindIndex(ring=ring))


@dataclass(kw_only=True)
class Desk:
    """Members on an empty database. `url` is the superuser's, who sees every table."""

    api: MembersApi
    url: str
    clock: ManualClock = field(default_factory=ManualClock)

    async def do(self, act: Callable[[MembersApi, Connection], Awaitable[Result]]) -> Result:
        async with self.api.database.transaction() as conn:
            return await act(self.api, conn)

    async def member(self, **changes: Any) -> Member:
        """Register somebody whom no other call registered."""
        given = {"name": "Zyx Quillfeather", "email": f"zyx{next(_numbers)}@example.com", **changes}
        return await self.do(lambda api, conn: api.register(conn, Profile(**given), by=BY))

    async def whole_member(self) -> Member:
        """Register somebody of whom everything is known."""
        made = await self.member(phone="+41791234567", date_of_birth=date(1961, 2, 3))
        likes = Preferences(language="de", hotel_chains=("HI",))
        made = await self.do(
            lambda api, conn: api.set_preferences(conn, made.id, likes, version=made.version, by=BY)
        )
        await self.consent(made.id, given=True)
        made = await self.api.get(made.id)
        return await self.do(
            lambda api, conn: api.set_home_airports(conn, made.id, ["ZRH"], version=made.version, by=BY)
        )

    async def consent(self, member_id: str, *, given: bool, text: str = "2026-10") -> Member:
        change = ConsentChange(purpose=ConsentPurpose.MARKETING, given=given, text_version=text)
        return await self.do(lambda api, conn: api.set_consent(conn, member_id, change, by=BY))

    async def sql(self, query: str, *values: Any) -> list[dict[str, Any]]:
        """Run a statement as the superuser and return its rows."""
        async with await psycopg.AsyncConnection.connect(
            self.url, autocommit=True, row_factory=dict_row
        ) as connection:
            cursor = await connection.execute(query, values or None)
            return await cursor.fetchall() if cursor.description else []

    async def events(self, kind: str = "%") -> list[Mapping[str, Any]]:
        """Return the data of the events that were appended, in their order."""
        rows = await self.sql(
            "select type, payload from eventlog.outbox where type like %s order by ord", kind
        )
        return [{"type": row["type"], **row["payload"]} for row in rows]

    async def tables(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        """Return every row of every table of the schema, by table."""
        found = await self.sql("select tablename from pg_tables where schemaname = 'members'")
        names = [row["tablename"] for row in found]
        return {name: await self.sql(f"select * from members.{name}") for name in names}

    def pass_by(self, **units: float) -> None:
        self.clock.at += timedelta(**units)


@pytest.fixture
async def desk(open_database: OpenDatabase, database_url: str) -> Desk:
    clock = ManualClock()
    tools = Tools(clock=clock, random_bytes=os.urandom)
    member_desk = MemberDesk(tools=tools, vault=vault_of(), households=HouseholdDesk(tools=tools))
    api = MembersApi(database=await open_database("members"), desk=member_desk)
    return Desk(api=api, url=database_url, clock=clock)
