"""Points that go to another member and come back: both sides, at the ratio and the amounts of the original."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import (
    AccountStatus,
    Burn,
    Earn,
    KeyReused,
    Operation,
    Refusal,
    Request,
    Reverse,
    SetStatus,
    Transfer,
)
from faregate.points.domain.conversion import NothingArrives, TransferRatio
from faregate.points.domain.reconciliation import breaks_of
from faregate.points.handlers import reading
from faregate.points.handlers.reconcile import reconcile
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from faregate.points.store.records import records_after
from tests.conftest import OpenDatabase
from tests.points_ledger import START, MovedClock, day_of, run_seed

pytestmark = [pytest.mark.requirement("L2"), pytest.mark.requirement("L13")]
TODAY = START.date()


@dataclass
class Pair:
    """A ledger with two members; everything in it is asked as of the test's clock."""

    api: PointsApi
    clock: MovedClock
    _keys: count[int] = field(default_factory=count)

    async def ask(self, kind: type[Request], **fields: Any) -> Operation:
        answer = await self.api.submit(kind(key=f"k{next(self._keys)}", **fields))
        assert isinstance(answer, Operation)
        return answer

    async def done(self, kind: type[Request], **fields: Any) -> int:
        answer = await self.ask(kind, **fields)
        assert answer.refusal is None, answer
        return answer.no

    async def earn(self, member: str, *lots: tuple[int, int]) -> None:
        for days, amount in lots:
            await self.done(Earn, member_id=member, amount=amount, expires_on=TODAY + timedelta(days=days))

    async def give(self, amount: int, arrives: int | None = None) -> int:
        return await self.done(Transfer, member_id="ada", to_member_id="bob", amount=amount, arrives=arrives)

    async def lots(self, member: str) -> list[tuple[int, int]]:
        """Return what can be spent, by days from today."""
        state = await reading.account_state(self.api.database, member, day_of=lambda _: TODAY)
        return [(((one.expires_on or date.max) - TODAY).days, one.amount) for one in state.expiries]

    async def owed(self, member: str) -> int:
        return (await self.api.account(member)).balance.owed


@pytest.fixture
async def pair(open_database: OpenDatabase, tmp_path: Path) -> Any:
    database = await open_database("points")
    clock = MovedClock()
    async with database.transaction() as conn:
        await open_accounts(conn, ["ada", "bob"], at=START)
    writer = LedgerWriter(database=database, day_of=day_of, clock=clock)
    api = PointsApi(database=database, writer=writer, day_of=day_of, anchor_file=tmp_path / "anchors")
    yield Pair(api=api, clock=clock)
    found = await reconcile(database)
    assert (found.breaks, found.unbalanced) == ({}, ())


async def test_a_reversal_gives_both_sides_what_they_had_with_its_days(pair: Pair) -> None:
    await pair.earn("ada", (10, 30), (20, 70))
    await pair.earn("bob", (5, 7))
    transfer = await pair.give(60)
    assert (await pair.lots("ada"), await pair.lots("bob")) == ([(20, 40)], [(5, 7), (10, 30), (20, 30)])
    await pair.done(Reverse, subject=transfer)
    assert (await pair.lots("ada"), await pair.lots("bob")) == ([(10, 30), (20, 70)], [(5, 7)])


async def test_a_part_comes_back_from_what_would_have_expired_last_on_both_sides(pair: Pair) -> None:
    await pair.earn("ada", (10, 30), (20, 70))
    transfer = await pair.give(100)
    await pair.done(Reverse, subject=transfer, amount=50)
    assert (await pair.lots("ada"), await pair.lots("bob")) == ([(20, 50)], [(10, 30), (20, 20)])
    await pair.done(Reverse, subject=transfer, amount=50)
    assert (await pair.lots("ada"), await pair.lots("bob")) == ([(10, 30), (20, 70)], [])


async def test_what_the_receiver_has_spent_is_owed_and_paid_by_what_comes_in_next(pair: Pair) -> None:
    await pair.earn("ada", (10, 100))
    transfer = await pair.give(100)
    await pair.done(Burn, member_id="bob", amount=80)
    await pair.done(Reverse, subject=transfer)
    assert (await pair.lots("ada"), await pair.lots("bob"), await pair.owed("bob")) == ([(10, 100)], [], 80)
    await pair.earn("bob", (30, 100))
    assert (await pair.lots("bob"), await pair.owed("bob")) == ([(30, 20)], 0)


async def test_a_transfer_at_a_ratio_comes_back_at_that_ratio_in_any_parts(pair: Pair) -> None:
    await pair.earn("ada", (10, 33), (20, 67))
    transfer = await pair.give(100, arrives=90)
    assert await pair.lots("bob") == [(10, 29), (20, 61)]
    for part in (1, 32, 33, 34):
        await pair.done(Reverse, subject=transfer, amount=part)
    assert (await pair.lots("ada"), await pair.lots("bob"), await pair.owed("bob")) == (
        [(10, 33), (20, 67)],
        [],
        0,
    )


async def test_the_receiver_is_told_and_the_statement_of_each_side_shows_it(pair: Pair) -> None:
    await pair.earn("ada", (10, 100))
    transfer = await pair.give(100, arrives=90)
    reversal = await pair.done(Reverse, subject=transfer)
    lines = {
        member: [
            (line.kind.value, line.change, line.subject, sum(source.amount for source in line.sources))
            for line in (await pair.api.statement(member, since=START, until=START + timedelta(days=1))).lines
        ]
        for member in ("ada", "bob")
    }
    assert lines["ada"][1:] == [("transfer", -100, None, 100), ("reverse", 100, transfer, 0)]
    assert lines["bob"] == [("receive", 90, transfer, 0), ("give_back", -90, reversal, 90)]


async def closed(pair: Pair, member: str) -> None:
    await pair.done(SetStatus, member_id=member, status=AccountStatus.CLOSED, reason="left")


async def test_a_reversal_is_refused_by_name_and_nothing_changes(pair: Pair) -> None:
    await pair.earn("ada", (10, 100))
    transfer = await pair.give(100)
    received = transfer + 1
    assert (await pair.ask(Reverse, subject=received)).refusal is Refusal.SUBJECT_OF_ANOTHER_KIND
    assert (await pair.ask(Reverse, subject=transfer, amount=101)).refusal is Refusal.MORE_THAN_LEFT
    await pair.done(Burn, member_id="bob", amount=100)
    await closed(pair, "bob")
    assert (await pair.ask(Reverse, subject=transfer)).refusal is Refusal.RECEIVER_CLOSED
    await pair.done(SetStatus, member_id="bob", status=AccountStatus.OPEN, reason="back")
    await closed(pair, "ada")
    assert (await pair.ask(Reverse, subject=transfer)).refusal is Refusal.ACCOUNT_CLOSED
    await pair.done(SetStatus, member_id="ada", status=AccountStatus.OPEN, reason="back")
    await pair.done(Reverse, subject=transfer)
    assert (await pair.ask(Reverse, subject=transfer)).refusal is Refusal.ALREADY_REVERSED


async def test_a_frozen_receiver_gives_back_all_the_same(pair: Pair) -> None:
    await pair.earn("ada", (10, 100))
    transfer = await pair.give(100)
    await pair.done(SetStatus, member_id="bob", status=AccountStatus.FROZEN, reason="stolen")
    await pair.done(Reverse, subject=transfer)
    assert (await pair.lots("ada"), await pair.lots("bob")) == ([(10, 100)], [])


async def test_a_day_that_is_over_meanwhile_is_over_for_what_comes_back(pair: Pair) -> None:
    await pair.earn("ada", (1, 40), (9, 60))
    transfer = await pair.give(100)
    pair.clock.time += timedelta(days=3)
    await pair.done(Reverse, subject=transfer)
    assert await pair.lots("ada") == [(9, 60)]
    assert await pair.owed("bob") == 40  # which had expired with bob, and was given back to ada all the same


async def test_the_programme_says_how_many_arrive_and_a_repeat_is_answered_as_the_first_time(
    pair: Pair,
) -> None:
    await pair.earn("ada", (10, 200))
    asked: dict[str, Any] = {
        "key": "t", "by": "clerk", "member_id": "ada", "to_member_id": "bob", "amount": 99
    }  # fmt: skip
    api = replace(pair.api, transfers=TransferRatio(points=10, units=9))
    first = await api.submit(await api.transfer(**asked))
    assert isinstance(first, Operation)
    assert (first.arrives, await pair.lots("bob")) == (89, [(10, 89)])
    for ratio in (TransferRatio(), TransferRatio(points=2), TransferRatio(points=1_000)):
        later = replace(api, transfers=ratio)
        assert await later.submit(await later.transfer(**asked)) == replace(first, is_replay=True)
        other = await later.submit(await later.transfer(**{**asked, "amount": 98}))
        assert other == KeyReused(key="t", field="amount")
    with pytest.raises(NothingArrives):
        await replace(api, transfers=TransferRatio(points=1_000)).transfer(**{**asked, "key": "new"})


async def test_a_receiver_who_gave_back_another_share_than_the_sender_got_is_found(pair: Pair) -> None:
    await pair.earn("ada", (10, 100))
    transfer = await pair.give(100, arrives=90)
    for part in (1, 32):
        await pair.done(Reverse, subject=transfer, amount=part)
    async with pair.api.database.connection() as conn:
        [records] = await records_after(conn, after=0, limit=1, member_ids=["ada"])
    [found] = records.transfers
    assert (found.reversed, found.given, found.is_even) == (33, 30, True)
    assert breaks_of(records) == []
    uneven = replace(records, transfers=[replace(found, given=29)])
    assert breaks_of(uneven) == [f"transfer {transfer} was reversed by 33, and its receiver gave back 29"]


async def reversed_transfers(pair: Pair) -> Sequence[int]:
    async with pair.api.database.connection() as conn:
        found = await conn.execute("select no from points.operation where kind = 'give_back'")
        return [row["no"] for row in await found.fetchall()]


async def test_random_histories_reverse_transfers_and_end_as_in_the_model(pair: Pair) -> None:
    for seed in range(40):
        await run_seed(pair.api.database, 5_000 + seed, operations=80, checked_each=False)
    assert len(await reversed_transfers(pair)) > 20
