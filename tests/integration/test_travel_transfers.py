"""Points for a partner's currency: taken once, told by file, given back when rejected, whatever comes twice or half."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from faregate.entrypoints.bootstrap.transfers import transfer_desk
from faregate.entrypoints.bootstrap.travel_needs import LedgerExchange
from faregate.sandbox.faults import Fault, FaultPlan, Faults, Script
from faregate.sandbox.journal import Journal
from faregate.sandbox.partners.transfer_e import NAME, TransferE
from faregate.travel.contracts.transfers import NewTransfer, TransferStatus, TransferView
from faregate.travel.handlers.transfers import TransferDesk, TransferPartnerNotFound
from faregate.travel.partners.transfer_file import Drop
from faregate.travel.store.transfers import TransferNotFound
from tests.travel_world import HAS, Travel, travel

__all__ = ["travel"]
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("L3")]


class Partner:
    """The twin on a folder of a test's own, with the desk that shares it."""

    def __init__(self, travel: Travel, folder: Path, twin: TransferE, faults: Faults) -> None:
        self.travel, self.twin, self.faults = travel, twin, faults
        made = transfer_desk(
            travel.api.database,
            LedgerExchange(travel.ledger),
            settings=travel.process.site.settings,
            tools=travel.api.counter.tools,
        )
        self.desk: TransferDesk = replace(made, drop=Drop(folder))

    async def begin(self, member: str, *, points: int = 3_500, account: str = "EM1") -> str:
        wanted = NewTransfer(member_id=member, partner="skymiles", account=account, points=points)
        async with self.travel.api.database.transaction() as conn:
            return await self.travel.api.begin_transfer(conn, wanted)

    async def until(self, transfer: str, status: TransferStatus) -> TransferView:
        """Turn until a transfer has a status."""
        async with asyncio.timeout(20):
            while (view := await self.travel.api.transfer(transfer)).status is not status:
                await self.desk.turn()
                await asyncio.sleep(0.05)
        return view


@pytest_asyncio.fixture(loop_scope="module")
async def partner(travel: Travel, tmp_path: Path) -> AsyncIterator[Partner]:
    async with AsyncExitStack() as stack:
        journal, records = Journal.open(tmp_path / "credited.jsonl")
        stack.push_async_callback(journal.close)
        faults = Faults(FaultPlan())
        twin = TransferE(tmp_path / "drop", journal=journal, records=records, faults=lambda: faults)
        watching = asyncio.create_task(twin.watch())
        stack.callback(watching.cancel)
        yield Partner(travel, tmp_path / "drop", twin, faults)


async def test_points_are_taken_in_whole_blocks_and_credited_once(travel: Travel, partner: Partner) -> None:
    member = await travel.member()
    transfer = await partner.begin(member)
    view = await partner.until(transfer, TransferStatus.ACCEPTED)
    assert (view.points, view.units) == (3_000, 1_000)
    assert partner.twin.credited[transfer] == 1_000
    assert await travel.balance(member) == (HAS - 3_000, 0)
    await partner.desk.turn()
    assert await travel.balance(member) == (HAS - 3_000, 0)


async def test_what_the_partner_rejects_comes_back(travel: Travel, partner: Partner) -> None:
    member = await travel.member()
    transfer = await partner.begin(member, account="EM-X")
    view = await partner.until(transfer, TransferStatus.RETURNED)
    assert view.reason == "unknown_account"
    assert await travel.balance(member) == (HAS, 0)
    assert transfer not in partner.twin.credited


async def test_what_the_ledger_refuses_is_told_to_nobody(travel: Travel, partner: Partner) -> None:
    poor, little = await travel.member(points=10), await travel.member()
    for transfer, reason in (
        (await partner.begin(poor), "insufficient_points"),
        (await partner.begin(little, points=1_499), "less-than-one-block"),
    ):
        assert (await partner.until(transfer, TransferStatus.REFUSED)).reason == reason
    assert partner.twin.credited == {}


async def test_half_an_answer_waits_for_the_whole_one(travel: Travel, partner: Partner) -> None:
    for fault in (Fault.HANG_BEFORE, Fault.MALFORMED):
        partner.faults.script(Script(provider=NAME, fault=fault, times=2))
    transfer = await partner.begin(await travel.member())
    await partner.until(transfer, TransferStatus.ACCEPTED)
    assert list(partner.twin.credited) == [transfer]


async def test_several_desks_at_once_take_and_tell_each_transfer_once(
    travel: Travel, partner: Partner
) -> None:
    members = [await travel.member() for _ in range(6)]
    transfers = [await partner.begin(member) for member in members]
    await asyncio.gather(*(partner.desk.turn() for _ in range(4)))
    for transfer in transfers:
        await partner.until(transfer, TransferStatus.ACCEPTED)
    assert partner.twin.credited == dict.fromkeys(transfers, 1_000)
    for member in members:
        assert await travel.balance(member) == (HAS - 3_000, 0)


async def test_a_file_that_was_lost_before_it_was_written_is_written_again(
    travel: Travel, partner: Partner
) -> None:
    """As when a process dies between the rows and the file."""
    transfer = await partner.begin(await travel.member())
    hidden = replace(partner.desk, drop=Drop(Path("/dev/null/nowhere")))
    with pytest.raises(OSError, match="Not a directory"):
        await hidden.turn()
    assert (await travel.api.transfer(transfer)).status is TransferStatus.FILED
    await partner.until(transfer, TransferStatus.ACCEPTED)


async def test_a_partner_that_takes_no_points_and_a_transfer_that_is_not_there_are_named(
    travel: Travel,
) -> None:
    wanted = NewTransfer(member_id="m", partner="nobody", account="1", points=1)
    async with travel.api.database.transaction() as conn:
        with pytest.raises(TransferPartnerNotFound):
            await travel.api.begin_transfer(conn, wanted)
    with pytest.raises(TransferNotFound):
        await travel.api.transfer("trf_0")
