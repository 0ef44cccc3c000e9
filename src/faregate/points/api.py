"""The door to points: operations of the ledger, one or many, and what stands in it.

An operation that is refused is an answer, not an error: it stands under its key like one that was done.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path

from faregate.infra.chain.check import note_anchor
from faregate.infra.chain.links import Anchored
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.points.contracts.ledger import (
    Answer,
    Convert,
    Operation,
    Request,
    RequestInvalid,
    Settle,
    Transfer,
)
from faregate.points.contracts.liability import Valuation
from faregate.points.contracts.membership import MemberChange
from faregate.points.contracts.reading import AccountState, BalanceAt, OperationPage, PeriodEmpty, Statement
from faregate.points.domain.conversion import (
    EVEN,
    Converted,
    LessThanOneBlock,
    NothingArrives,
    PartnerUnknown,
    Ratio,
    TransferRatio,
    arriving,
    convert,
)
from faregate.points.handlers import membership, reading
from faregate.points.handlers.approval import approved
from faregate.points.handlers.chain import ChainEnd, ChainReport, chain_end, verify
from faregate.points.handlers.liability import Liability, liability
from faregate.points.handlers.payments import PaymentEarning
from faregate.points.handlers.reconcile import Reconciliation, reconcile
from faregate.points.handlers.tiers import TierKeeper
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from faregate.points.store.chain import CHAIN

__all__ = ["BATCH_MAX", "PaymentEarning", "PointsApi", "TierKeeper"]

BATCH_MAX = 500


@dataclass(frozen=True, kw_only=True)
class PointsApi:
    """What other parts and clients do. `day_of` tells the programme's day of an instant.

    `anchor_file` is where the ends of the chain are noted. Points can be turned into the currency of `partners`, and be
    given to other members at the ratio of `transfers`.
    """

    database: Database
    writer: LedgerWriter
    day_of: Callable[[datetime], date]
    anchor_file: Path
    partners: Mapping[str, Ratio] = field(default_factory=dict)
    transfers: TransferRatio = EVEN

    async def conversion(self, *, key: str, by: str, member_id: str, amount: int, partner: str) -> Convert:
        """Return the operation that turns points into a partner's units, as many whole blocks as there are.

        A key that was used before is answered by what stands under it, whatever the terms are by now. Raises
        PartnerUnknown or LessThanOneBlock.
        """
        try:
            done = convert(amount, self._ratio(partner))
        except (PartnerUnknown, LessThanOneBlock):
            if not await reading.is_key_used(self.database, key):
                raise
            done = Converted(points=amount, units=0, left=0)
        return Convert(
            key=key,
            by=by,
            member_id=member_id,
            amount=done.points,
            partner=partner,
            gives=done.units,
            asked=amount if done.left else None,
        )

    async def transfer(
        self, *, key: str, by: str, member_id: str, to_member_id: str, amount: int
    ) -> Transfer:
        """Return the operation that gives points to another member, at the programme's ratio.

        A key that was used before is answered by what stands under it, whatever the ratio is by now. Raises
        NothingArrives.
        """
        try:
            arrives = arriving(amount, self.transfers)
        except NothingArrives:
            if not await reading.is_key_used(self.database, key):
                raise
            arrives = amount
        return Transfer(
            key=key,
            by=by,
            member_id=member_id,
            to_member_id=to_member_id,
            amount=amount,
            arrives=None if arrives == amount else arrives,
        )

    def _ratio(self, partner: str) -> Ratio:
        ratio = self.partners.get(partner)
        if ratio is None:
            raise PartnerUnknown(f"the programme has no partner {partner!r}", partner=partner)
        return ratio

    async def open_accounts(
        self, member_ids: Sequence[str], *, at: datetime, conn: Connection | None = None
    ) -> None:
        """Open accounts of members; one that is there stays as it is. Given a connection, in its transaction."""
        if conn is not None:
            await open_accounts(conn, member_ids, at=at)
            return
        async with self.database.transaction() as own:
            await open_accounts(own, member_ids, at=at)

    async def follow_members(self, changes: Sequence[MemberChange]) -> None:
        """Let accounts follow their members: frozen, opened again, or closed; one with points is frozen instead."""
        await membership.follow(self.database, self.writer, changes)

    async def submit(self, request: Request) -> Answer:
        """Carry out an operation, or return what came of it before. It is done together with what else arrives."""
        answer = await self.writer.submit(request)
        if answer is None:
            raise RequestInvalid("that is no operation")
        return answer

    async def convert(self, *, key: str, by: str, member_id: str, amount: int, partner: str) -> Answer:
        """Turn points into a partner's units. Raises PartnerUnknown or LessThanOneBlock."""
        return await self.submit(
            await self.conversion(key=key, by=by, member_id=member_id, amount=amount, partner=partner)
        )

    async def submit_many(self, requests: Sequence[Request]) -> list[Answer]:
        """Carry out at most BATCH_MAX operations in one transaction, in their order; each is done or refused alone."""
        if not 0 < len(requests) <= BATCH_MAX or any(isinstance(one, Settle) for one in requests):
            raise RequestInvalid(f"a batch has 1 to {BATCH_MAX} operations")
        return [answer for answer in await self.writer.write(requests) if answer is not None]

    async def approve(self, no: int, *, by: str) -> Operation:
        """Do a correction that waits for a second person, who is `by`; once, however often it is approved.

        Raises OperationNotFound, NothingToApprove or SamePerson.
        """
        answer = await self.submit(await approved(self.database, no, by=by))
        return answer if isinstance(answer, Operation) else await self.operation(no)

    async def account(self, member_id: str) -> AccountState:
        """Return an account as it stands. Raises AccountNotFound."""
        return await reading.account_state(self.database, member_id, day_of=self.day_of)

    async def balance_at(self, member_id: str, *, at: datetime) -> BalanceAt:
        """Return the balances at an instant, with what was due by then as done. Raises AccountNotFound."""
        return await reading.balance_at(self.database, member_id, at=at, day_of=self.day_of)

    async def operation(self, no: int) -> Operation:
        """Return an operation. Raises OperationNotFound."""
        return await reading.operation(self.database, no)

    async def operations(self, member_id: str, *, before: int | None, limit: int) -> OperationPage:
        """Return a page of a member's operations, the newest first. Raises AccountNotFound or PageUnknown."""
        return await reading.operations(self.database, member_id, before=before, limit=limit)

    async def statement(self, member_id: str, *, since: datetime, until: datetime) -> Statement:
        """Return what happened on an account from `since` and before `until`. Raises AccountNotFound."""
        if until <= since:
            raise PeriodEmpty("a statement ends after it begins")
        return await reading.statement(self.database, member_id, since=since, until=until)

    async def verify(self, *, anchor_file: Path | None = None) -> ChainReport:
        """Walk along the chain over all operations. Raises AnchorsUnreadable."""
        return await verify(self.database, anchor_file=anchor_file or self.anchor_file)

    async def anchor(self, *, clock: Clock, anchor_file: Path | None = None) -> Anchored:
        """Note the end of the chain in a file outside of the database."""
        path = anchor_file or self.anchor_file
        return await note_anchor(self.database, store=CHAIN, path=path, clock=clock)

    async def chain_end(self) -> ChainEnd:
        """Return where the chain ends, and what waits to be sealed."""
        return await chain_end(self.database)

    async def liability(self, *, valuation: Valuation) -> Liability:
        """Return what is owed for outstanding points."""
        return await liability(self.database, valuation=valuation, day_of=self.day_of)

    async def reconcile(
        self, *, member_ids: Sequence[str] | None = None, on_progress: Callable[[int], None] = lambda _: None
    ) -> Reconciliation:
        """Check that entries, balances, lots, holds and reversals add up, of all members or of some."""
        return await reconcile(self.database, member_ids=member_ids, on_progress=on_progress)
