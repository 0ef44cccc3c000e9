"""What is asked of the ledger: accounts at an instant, operations, and who has something due."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.points.contracts.ledger import AccountStatus, Balance, Operation, OperationKind
from faregate.points.contracts.reading import AccountNotFound, OperationNotFound, PageUnknown
from faregate.points.domain.account import ALL, Account
from faregate.points.domain.case import Subject
from faregate.points.domain.lots import ROLLING, Stretch
from faregate.points.domain.statement import Lot, Moved
from faregate.points.store.batch import hold_of, load_lots, load_moves
from faregate.points.store.rows import account_of, balance_of, cutter_of, details_of, operation_of, piece_of

_Q = load_queries("faregate.points.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """An account with all that is open of it, read at one instant."""

    account: Account
    now: datetime
    reservations: Sequence[Mapping[str, Any]]
    holds: Sequence[Subject]


async def standing(conn: Connection, member_id: str) -> Standing:
    """Return how an account stands; the caller's transaction makes it one instant. Raises AccountNotFound."""
    row = await _one(conn, "account_state", member_id=member_id)
    if row is None:
        raise AccountNotFound(f"{member_id} has no points account", member_id=member_id)
    account = account_of(row)
    accounts = {account.no: account}
    found = await conn.execute(_Q["open_reservations"], {"account_no": account.no, "member_id": member_id})
    reservations = await found.fetchall()
    numbers = [row["operation_no"] for row in reservations if row["expires_at"] is not None]
    cuts, _, _ = await load_moves(conn, accounts=accounts, cut_by=numbers, earned_by=())
    await load_lots(conn, account)
    holds = [
        hold_of(row, cuts=cuts.get(row["operation_no"], ()))
        for row in reservations
        if row["expires_at"] is not None
    ]
    return Standing(account=account, now=row["now"], reservations=reservations, holds=holds)


async def balance_at(conn: Connection, member_id: str, *, at: datetime) -> Balance:
    """Return the balances after the last operation up to an instant. Raises AccountNotFound."""
    account_no = await account_number(conn, member_id)
    row = await _one(conn, "balance_at", account_no=account_no, at=at)
    return Balance() if row is None else balance_of(row)


async def first_after(conn: Connection, member_id: str, *, at: datetime) -> OperationKind | None:
    """Return what happened first after an instant, None: nothing did. Raises AccountNotFound."""
    account_no = await account_number(conn, member_id)
    row = await _one(conn, "first_after", account_no=account_no, at=at)
    return None if row is None else OperationKind(row["kind"])


async def operation(conn: Connection, no: int) -> Operation:
    """Return one operation. Raises OperationNotFound."""
    return (await asked(conn, no)).operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An operation with all that was asked, and by whom."""

    operation: Operation
    by: str
    details: Mapping[str, Any]


async def asked(conn: Connection, no: int) -> Asked:
    """Return what an operation asked for. Raises OperationNotFound."""
    row = await _one(conn, "operation", no=no)
    if row is None:
        raise OperationNotFound(f"there is no operation {no}", no=no)
    return Asked(operation=operation_of(row), by=row["asked_by"], details=details_of(row))


async def operations_before(
    conn: Connection, member_id: str, *, before: int | None, limit: int
) -> list[Operation]:
    """Return the operations of a member before one, None: the newest. Raises AccountNotFound or PageUnknown."""
    account_no = await account_number(conn, member_id)
    given: dict[str, Any] = {"account_no": account_no, "before": 0, "at": "infinity", "limit": limit}
    if before is not None:
        place = await _one(conn, "operation_of_account", no=before, account_no=account_no)
        if place is None:
            raise PageUnknown(f"{member_id} has no operation {before}", before=before)
        given |= {"before": before, "at": place["at"]}
    rows = await (await conn.execute(_Q["operations_before"], given)).fetchall()
    return [operation_of(row) for row in rows]


async def moved_between(
    conn: Connection, member_id: str, *, since: datetime, until: datetime
) -> tuple[list[Moved], list[Lot], Balance]:
    """Return what was done in a period, the lots that it spent, and the balances before it.

    The caller's transaction makes it one instant. Raises AccountNotFound.
    """
    account_no = await account_number(conn, member_id)
    opening = await _one(conn, "balance_at", account_no=account_no, at=since - timedelta(microseconds=1))
    given = {"account_no": account_no, "since": since, "until": until}
    rows = await (await conn.execute(_Q["operations_between"], given)).fetchall()
    row = await _one(conn, "account_state", member_id=member_id)
    account = account_of(row or {})
    cutters = {row["no"]: cutter_of(row) for row in rows}
    cuts, _, _ = await load_moves(
        conn, accounts={account_no: account}, cut_by=sorted(set(cutters.values())), earned_by=()
    )
    moved = [_moved(row, account, cuts.get(cutters[row["no"]], ())) for row in rows]
    buckets = sorted({piece[:2] for one in moved for piece in one.pieces})
    given = {
        "account_no": account_no,
        "days": [day for day, _ in buckets],
        "numbers": [no for _, no in buckets],
    }
    lots = await (await conn.execute(_Q["lots_in_buckets"], given)).fetchall()
    return moved, [_lot(row) for row in lots], Balance() if opening is None else balance_of(opening)


def _moved(row: Mapping[str, Any], account: Account, cuts: Sequence[Stretch]) -> Moved:
    kind = OperationKind(row["kind"])
    pieces = [
        piece
        for cut in cuts
        for piece in (account.rolling if cut.end.expires_on == ROLLING else account.fixed).pieces([cut])
    ]
    return Moved(
        no=row["no"],
        kind=kind,
        at=row["at"],
        amount=row["amount"],
        subject=row["subject_no"],
        balance=balance_of(row),
        details=row["details"] or {},
        pieces=pieces,
        spent=0 if kind is OperationKind.HOLD else row["amount"] if kind is OperationKind.POST else ALL,
    )


def _lot(row: Mapping[str, Any]) -> Lot:
    return Lot(operation=row["operation_no"], earned_at=row["at"], piece=piece_of(row))


async def account_number(conn: Connection, member_id: str) -> int:
    """Return the number of a member's account. Raises AccountNotFound."""
    row = await _one(conn, "account_of_member", member_id=member_id)
    if row is None:
        raise AccountNotFound(f"{member_id} has no points account", member_id=member_id)
    return int(row["no"])


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusSet:
    """The status of an account, and who set it last; None: nobody did, or it is open."""

    status: AccountStatus
    by: str | None


async def statuses(conn: Connection, member_ids: Sequence[str]) -> dict[str, StatusSet]:
    """Return the status of members' accounts. Who has none is left out."""
    rows = await (await conn.execute(_Q["statuses"], {"member_ids": list(member_ids)})).fetchall()
    return {
        row["member_id"]: StatusSet(status=AccountStatus(row["status"]), by=row["set_by"]) for row in rows
    }


async def members_of_due_holds(conn: Connection, *, now: datetime | None, limit: int) -> list[str]:
    """Return members with holds whose time is over."""
    rows = await (await conn.execute(_Q["members_of_due_holds"], {"now": now, "limit": limit})).fetchall()
    return [row["member_id"] for row in rows]


async def expired_until(conn: Connection, *, now: datetime | None) -> tuple[date, datetime]:
    """Return the last day whose points have been let expire, and the time."""
    row: Any = await _one(conn, "expired_until", now=now)
    return row["expired_until"], row["now"]


async def note_expired_until(conn: Connection, day: date) -> None:
    """Remember that the points of all days up to one have been let expire."""
    await conn.execute(_Q["note_expired_until"], {"day": day})


async def members_with_expiring(
    conn: Connection, *, since: date, today: date, after: int, limit: int
) -> tuple[list[str], int]:
    """Return members who may have points that are over, and the number of the last one's account."""
    given = {"since": since, "today": today, "after": after, "limit": limit}
    rows = await (await conn.execute(_Q["members_with_expiring"], given)).fetchall()
    return [row["member_id"] for row in rows], rows[-1]["no"] if rows else after


async def _one(conn: Connection, name: str, **given: Any) -> Mapping[str, Any] | None:
    return await (await conn.execute(_Q[name], given)).fetchone()
