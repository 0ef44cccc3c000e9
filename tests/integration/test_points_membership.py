"""An account follows its member, and what the ledger keeps of an erased one says nothing about a person."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from faregate.events.base import PublishedEvent
from faregate.events.members import MemberErased, StatusChanged, UserRegistered
from faregate.infra.database import Database
from faregate.kernel.event import Event
from faregate.points.api import PointsApi
from faregate.points.consumers import consumer_groups
from faregate.points.contracts.ledger import (
    AccountStatus,
    Burn,
    Earn,
    Hold,
    Operation,
    Post,
    Refusal,
    SetStatus,
)
from faregate.points.handlers.reconcile import reconcile
from faregate.points.handlers.writer import LedgerWriter
from tests.conftest import OpenDatabase
from tests.member_desk import Desk, desk  # noqa: F401
from tests.points_ledger import day_of

pytestmark = [pytest.mark.requirement("L1"), pytest.mark.requirement("L13")]
NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OPEN, FROZEN, CLOSED = AccountStatus.OPEN, AccountStatus.FROZEN, AccountStatus.CLOSED


@dataclass(kw_only=True)
class Follower:
    """The points of members of whom events tell."""

    points: PointsApi
    database: Database

    async def tell(self, *events: PublishedEvent | Event, lost: bool = False) -> Sequence[Event]:
        """Handle events as the group does; `lost`: the transaction that would have remembered it is rolled back."""
        told = [one if isinstance(one, Event) else sent(one) for one in events]
        nothing: Any = None
        group, *_ = consumer_groups(points=self.points, earning=nothing, tiers=nothing)
        assert {event.type for event in told} <= set(group.types)
        async with self.database.connection() as conn, conn.transaction(force_rollback=lost):
            await group.handler(conn, told)
        return told

    async def status(self, member: str = "ada") -> AccountStatus:
        return (await self.points.account(member)).status

    async def by_hand(self, status: AccountStatus, *, key: str) -> None:
        answer = await self.points.submit(
            SetStatus(key=key, by="client:clerk", member_id="ada", status=status, reason="suspected")
        )
        assert isinstance(answer, Operation)
        assert answer.refusal is None

    async def earned(self, amount: int = 100) -> None:
        await self.points.submit(Earn(key="e", member_id="ada", amount=amount))


def sent(published: PublishedEvent) -> Event:
    new = published.to_event(id=uuid4(), time=NOW, traceparent=None)
    return Event(
        **{name: getattr(new, name) for name in new.__dataclass_fields__},
        seq=1,
    )


def registered(member: str = "ada") -> UserRegistered:
    return UserRegistered(member_id=member, source="registration", registered_at=NOW)


def changed(status: Any, member: str = "ada") -> StatusChanged:
    return StatusChanged(member_id=member, status=status, previous="active", reason="asked", changed_at=NOW)


def erased(member: str = "ada") -> MemberErased:
    return MemberErased(member_id=member, reason="asked", erased_at=NOW)


@pytest.fixture
async def follower(open_database: OpenDatabase, tmp_path: Path) -> Any:
    database = await open_database("points")
    points = PointsApi(
        database=database,
        writer=LedgerWriter(database=database, day_of=day_of),
        day_of=day_of,
        anchor_file=tmp_path / "anchors",
    )
    made = Follower(points=points, database=database)
    await made.tell(registered(), registered("bob"))
    yield made
    found = await reconcile(database)
    assert (found.breaks, found.unbalanced) == ({}, ())


async def test_a_frozen_member_spends_nothing_until_it_is_unfrozen(follower: Follower) -> None:
    await follower.earned()
    await follower.tell(changed("frozen"))
    assert (await follower.status(), await follower.status("bob")) == (FROZEN, OPEN)
    refused = await follower.points.submit(Burn(key="b", member_id="ada", amount=1))
    assert isinstance(refused, Operation)
    assert refused.refusal is Refusal.ACCOUNT_FROZEN
    await follower.tell(changed("active"))
    assert await follower.status() is OPEN


@pytest.mark.parametrize("end", ["closed", "erased"])
async def test_the_empty_account_of_a_member_who_left_is_closed(follower: Follower, end: str) -> None:
    await follower.tell(erased() if end == "erased" else changed("closed"))
    assert await follower.status() is CLOSED


@pytest.mark.parametrize(
    "end", [[erased()], [changed("closed"), erased()], [changed("frozen"), changed("closed")]]
)
async def test_an_account_with_points_is_frozen_instead_and_holds_come_to_their_end(
    follower: Follower, end: Sequence[PublishedEvent]
) -> None:
    await follower.earned()
    hold = await follower.points.submit(Hold(key="h", member_id="ada", amount=40))
    assert isinstance(hold, Operation)
    for event in end:
        await follower.tell(event)
    assert await follower.status() is FROZEN
    posted = await follower.points.submit(Post(key="p", subject=hold.no))
    assert isinstance(posted, Operation)
    assert (posted.refusal, (await follower.points.account("ada")).balance.posted) == (None, 60)


async def test_whoever_was_frozen_by_hand_stays_so_whatever_the_member_becomes(follower: Follower) -> None:
    await follower.by_hand(FROZEN, key="f")
    for status in ("frozen", "active"):
        await follower.tell(changed(status))
        assert await follower.status() is FROZEN
    await follower.by_hand(OPEN, key="o")
    await follower.tell(changed("frozen"))
    await follower.by_hand(FROZEN, key="f2")  # somebody looked at it, and wants it to stay
    await follower.tell(changed("active"))
    assert await follower.status() is FROZEN


async def test_of_one_batch_the_last_change_counts_and_a_new_member_may_be_in_it(follower: Follower) -> None:
    await follower.tell(
        registered("eve"),
        changed("frozen", "eve"),
        changed("frozen"),
        changed("active"),
        changed("closed", "bob"),
    )
    assert [await follower.status(name) for name in ("ada", "bob", "eve")] == [OPEN, CLOSED, FROZEN]


async def test_a_change_that_comes_again_does_nothing_again(follower: Follower) -> None:
    [frozen] = await follower.tell(changed("frozen"), lost=True)
    await follower.tell(frozen)
    await follower.by_hand(OPEN, key="o")
    await follower.tell(frozen)
    assert await follower.status() is OPEN
    assert (await reconcile(follower.database)).operations == 2


@pytest.mark.requirement("L1")
async def test_no_row_of_the_ledger_holds_what_a_member_was_called(
    follower: Follower,
    desk: Desk,  # noqa: F811
) -> None:
    member = await desk.whole_member()
    personal = [member.profile.name, member.profile.email, member.profile.phone]
    await follower.tell(registered(member.id))
    await follower.points.submit(Earn(key="w", member_id=member.id, amount=5, reference="pay_1"))
    await desk.do(lambda api, conn: api.erase(conn, member.id, reason="member_request", by="test"))
    await follower.tell(erased(member.id))
    async with follower.database.connection() as conn:
        rows = await (await conn.execute("select o::text as row from points.operation o")).fetchall()
        rows += await (await conn.execute("select a::text as row from points.account a")).fetchall()
    assert any(member.id in row["row"] for row in rows)
    assert [value for value in personal if any(str(value) in row["row"] for row in rows)] == []
