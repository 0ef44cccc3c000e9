"""Answers what is asked of the ledger. What is due at that moment is done in memory first, so that it never shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import date, datetime
from itertools import groupby

from faregate.infra.database import Connection, Database
from faregate.points.contracts.ledger import Balance, Layer, Operation, OperationKind
from faregate.points.contracts.reading import (
    AccountState,
    BalanceAt,
    Expiry,
    OpenReservation,
    OperationPage,
    Statement,
)
from faregate.points.domain.account import Account
from faregate.points.domain.case import Desk, Subject
from faregate.points.domain.history import account_at
from faregate.points.domain.lots import NEVER, ROLLING
from faregate.points.domain.operations import settle_due
from faregate.points.domain.statement import lines_of
from faregate.points.store import batch, reading
from faregate.points.store.reading import Standing
from faregate.points.store.records import records_after

ONE_INSTANT = "set transaction isolation level repeatable read, read only"


async def account_state(
    database: Database, member_id: str, *, day_of: Callable[[datetime], date]
) -> AccountState:
    """Return an account as it stands now, read at one instant. Raises AccountNotFound."""
    async with database.transaction() as conn:
        await conn.execute(ONE_INSTANT)
        standing = await reading.standing(conn, member_id)
    return _settled(standing, day_of=day_of)


async def balance_at(
    database: Database, member_id: str, *, at: datetime, day_of: Callable[[datetime], date]
) -> BalanceAt:
    """Return the balances at an instant, with what was due by then as done. Raises AccountNotFound."""
    async with database.transaction() as conn:
        await conn.execute(ONE_INSTANT)
        balance = await _balance_at(conn, member_id, at=at, day_of=day_of)
    return BalanceAt(member_id=member_id, at=at, balance=balance)


async def _balance_at(
    conn: Connection, member_id: str, *, at: datetime, day_of: Callable[[datetime], date]
) -> Balance:
    """Return the balances at an instant.

    Whoever touches an account does first what is due there. So what was due at an instant is what happened first after
    it, or nothing happened yet: else the last operation up to then says the balances.
    """
    following = await reading.first_after(conn, member_id, at=at)
    if following is None:
        standing = await reading.standing(conn, member_id)
        due = [one for one in standing.holds if one.reservation and _is_over(one.reservation.expires_at, at)]
        return _settle(standing.account, due, now=at, day_of=day_of)
    if following not in (OperationKind.TIME_OUT, OperationKind.EXPIRE):
        return await reading.balance_at(conn, member_id, at=at)
    [records] = await records_after(conn, after=0, limit=1, member_ids=[member_id])
    account, due = account_at(records, at)
    return _settle(account, due, now=at, day_of=day_of)


def _settle(
    account: Account, due: list[Subject], *, now: datetime, day_of: Callable[[datetime], date]
) -> Balance:
    """Do in memory what is due on an account, and return what is left."""
    settle_due(Desk(accounts={}, subjects={}, due={account.no: due}, now=now, today=day_of(now)), account)
    return account.balance()


async def is_key_used(database: Database, key: str) -> bool:
    """Whether something stands under a key."""
    async with database.connection() as conn:
        return await batch.operation_of_key(conn, key) is not None


async def operation(database: Database, no: int) -> Operation:
    """Return one operation. Raises OperationNotFound."""
    async with database.connection() as conn:
        return await reading.operation(conn, no)


async def operations(database: Database, member_id: str, *, before: int | None, limit: int) -> OperationPage:
    """Return a page of a member's operations, the newest first. Raises AccountNotFound or PageUnknown."""
    async with database.connection() as conn:
        found = await reading.operations_before(conn, member_id, before=before, limit=limit)
    return OperationPage(operations=found, before=found[-1].no if len(found) == limit else None)


async def statement(database: Database, member_id: str, *, since: datetime, until: datetime) -> Statement:
    """Return what happened in a period, read at one instant. Raises AccountNotFound."""
    async with database.transaction() as conn:
        await conn.execute(ONE_INSTANT)
        moved, lots, opening = await reading.moved_between(conn, member_id, since=since, until=until)
    return Statement(
        member_id=member_id,
        since=since,
        until=until,
        opening=opening,
        closing=moved[-1].balance if moved else opening,
        lines=list(lines_of(moved, lots=lots, opening=opening)),
    )


def _settled(standing: Standing, *, day_of: Callable[[datetime], date]) -> AccountState:
    account, now = standing.account, standing.now
    due = [hold for hold in standing.holds if hold.reservation and _is_over(hold.reservation.expires_at, now)]
    balance = _settle(account, due, now=now, day_of=day_of)
    over = {hold.no for hold in due}
    still_open = [
        (row, OpenReservation(no=row["operation_no"], amount=row["amount"], expires_at=row["expires_at"]))
        for row in standing.reservations
        if row["operation_no"] not in over
    ]
    return AccountState(
        member_id=account.member_id,
        at=now,
        status=account.status,
        floor=account.floor,
        balance=balance,
        expiries=list(_expiries(account)),
        holds=[found for row, found in still_open if row["layer"] == Layer.HELD],
        pending=[found for row, found in still_open if row["layer"] == Layer.PENDING],
    )


def _expiries(account: Account) -> Iterator[Expiry]:
    """Return what can be spent by the day on which it expires, those without one last."""
    pieces = [
        (account.rolling_until or NEVER if piece.expires_on == ROLLING else piece.expires_on, piece.amount)
        for track in (account.fixed, account.rolling)
        for piece in track.open_pieces()
    ]
    for day, group in groupby(sorted(pieces), key=lambda piece: piece[0]):
        yield Expiry(expires_on=None if day == NEVER else day, amount=sum(amount for _, amount in group))


def _is_over(ends: datetime | None, now: datetime) -> bool:
    return ends is not None and ends <= now
