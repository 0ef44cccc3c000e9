"""What a batch of operations reads under its locks, and what it writes, each in as few round trips as it can.

Everything is read for all operations of the batch at once, and only as far as it may be needed: the lots of an account
from its frontier on, until there is enough for what may be cut. Deciding does not belong here.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import orjson
import psycopg

from faregate.infra.database import Connection, Database, execute_last
from faregate.infra.queries import load_queries
from faregate.kernel.errors import ConflictError
from faregate.points.contracts.ledger import Layer, Operation, OperationKind
from faregate.points.domain.account import Account
from faregate.points.domain.case import Decided, Receipt, Reservation, Subject
from faregate.points.domain.lots import Piece, Stretch
from faregate.points.store.rows import (
    account_of,
    details_of,
    operation_of,
    piece_of,
    reservation_of,
    stretch_of,
    take_in_buckets,
)

_Q = load_queries("faregate.points.store")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What stands under a key: the operation, and what was asked in `details`."""

    operation: Operation
    details: Mapping[str, Any]


@dataclass(slots=True, kw_only=True)
class Locked:
    """What was read under the locks. `now` is the database's clock; `numbers` are drawn for the operations to come."""

    accounts: dict[str, Account]
    known: dict[str, Known]
    reservations: list[Mapping[str, Any]]
    numbers: list[int]
    now: datetime


class KeyTaken(ConflictError):
    """A key was used by somebody else while this batch was decided."""


@asynccontextmanager
async def batch(database: Database) -> AsyncIterator[Connection]:
    """Lend a connection for the transaction of a batch. Raises KeyTaken when it ends."""
    try:
        async with database.transaction() as conn:
            yield conn
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != "operation_key_key":
            raise
        raise KeyTaken(str(error.diag.message_detail)) from error


async def open_accounts(conn: Connection, member_ids: Iterable[str], *, at: datetime) -> None:
    """Open accounts of members; those that have one keep it as it is."""
    await conn.execute(_Q["open_accounts"], {"member_ids": sorted(set(member_ids)), "at": at})


async def account_numbers(conn: Connection, member_ids: Iterable[str]) -> dict[str, int]:
    """Return the account numbers of members. They never change."""
    found = await conn.execute(_Q["account_numbers"], {"member_ids": list(member_ids)})
    return {row["member_id"]: row["no"] for row in await found.fetchall()}


async def subjects(conn: Connection, numbers: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Return the operations that others refer to and that were done, as far as they never change."""
    found = await conn.execute(_Q["subjects"], {"numbers": list(numbers)})
    return {row["no"]: row for row in await found.fetchall()}


async def receipts(conn: Connection, transfers: Sequence[int]) -> dict[int, Mapping[str, Any]]:
    """Return what transfers brought their receivers."""
    found = await conn.execute(_Q["receipts"], {"numbers": list(transfers)})
    return {row["no"]: row for row in await found.fetchall()}


async def lock(
    conn: Connection,
    *,
    wanted: Mapping[int, int],
    keys: Sequence[str],
    subjects: Sequence[int],
    earned: Iterable[tuple[int, date]],
    now: datetime | None,
    load_until: date,
) -> Locked:
    """Lock accounts, and read all that is needed to decide a batch, in one round trip.

    `wanted` says by account how much may be cut of it; all lots that end before `load_until` are read besides. `earned`
    are the days on which something is earned. `now` None: by the database's clock.
    """
    days = sorted(set(earned))
    given = {
        "accounts": list(wanted),
        "wanted": list(wanted.values()),
        "keys": list(keys),
        "subjects": list(subjects),
        "earned_by": [no for no, _ in days],
        "earned_on": [day for _, day in days],
        "draws": len(keys),
        "at": now,
        "load_until": load_until,
    }
    row: Any = await (await conn.execute(_Q["open_batch"], given)).fetchone()
    found = orjson.loads(row["found"])
    accounts = {row["member_id"]: _account(row) for row in found["accounts"] or ()}
    by_no = {account.no: account for account in accounts.values()}
    for no, day, number, amount in found["newest"] or ():
        by_no[no].fixed.amounts[date.fromisoformat(day), number] = amount
    return Locked(
        accounts=accounts,
        known={row["key"]: _known(_with_times(row, "at")) for row in found["known"] or ()},
        reservations=[_with_times(row, "expires_at") for row in found["reservations"] or ()],
        numbers=found["numbers"],
        now=datetime.fromisoformat(found["now"]),
    )


def _account(row: dict[str, Any]) -> Account:
    """Return an account with its lots, of a document."""
    for name in ("frontier_on", "rolling_until"):
        row[name] = row[name] and date.fromisoformat(row[name])
    account = account_of(_with_times(row, "last_at"))
    row["days"] = [date.fromisoformat(day) for day in row["days"] or ()]
    take_in_buckets(account.fixed, row)
    return account


def _with_times(row: dict[str, Any], name: str) -> Mapping[str, Any]:
    row[name] = row[name] and datetime.fromisoformat(row[name])
    return row


async def draw_numbers(conn: Connection, count: int) -> list[int]:
    """Return numbers for so many operations more."""
    found = await conn.execute(_Q["draw_numbers"], {"count": count})
    return [row["no"] for row in await found.fetchall()]


async def load_lots(conn: Connection, account: Account) -> None:
    """Read all lots of an account from the frontier on."""
    place = account.fixed.frontier
    found = await conn.execute(
        _Q["buckets"],
        {
            "account_no": account.no,
            "since_on": place.expires_on,
            "since_bucket": place.bucket,
        },
    )
    row: Any = await found.fetchone()
    take_in_buckets(account.fixed, row)


async def load_moves(
    conn: Connection, *, accounts: Mapping[int, Account], cut_by: Sequence[int], earned_by: Sequence[int]
) -> tuple[dict[int, list[Stretch]], dict[int, list[Piece]], dict[int, int]]:
    """Read what operations cut and earned, with the buckets in between, and how much of each was reversed."""
    cuts: dict[int, list[Stretch]] = {}
    lots: dict[int, list[Piece]] = {}
    async with conn.pipeline():
        found = await conn.execute(_Q["cuts"], {"numbers": list(cut_by)})
        between = await conn.execute(_Q["cut_buckets"], {"numbers": list(cut_by)})
        earned = await conn.execute(_Q["lots"], {"numbers": list(earned_by)})
        reversed_ = await conn.execute(_Q["reversals"], {"numbers": list(earned_by)})
    for row in await found.fetchall():
        cuts.setdefault(row["operation_no"], []).append(stretch_of(row))
    for row in await between.fetchall():
        accounts[row["account_no"]].fixed.amounts[row["expires_on"], row["no"]] = row["amount"]
    for row in await earned.fetchall():
        lots.setdefault(row["operation_no"], []).append(piece_of(row))
    return cuts, lots, {row["subject_no"]: row["amount"] for row in await reversed_.fetchall()}


async def save(conn: Connection, decided: Sequence[Decided], *, accounts: Iterable[Account]) -> None:
    """Write what was decided, together with the COMMIT of the transaction."""
    done = [one for one in decided if one.refusal is None]
    touched = {one.subject.no: one.subject for one in done if one.subject is not None}
    changed = list(accounts)
    lists = {
        "operations": [_operation_row(one) for one in decided],
        "entries": [row for one in done for row in _entry_rows(one)],
        "lots": [row for one in done for row in _lot_rows(one)],
        "cuts": [row for one in done for row in _cut_rows(one)],
        "buckets": [row for account in changed for row in _bucket_rows(account)],
        "reservations": [*_new_reservations(done), *_resolved(touched.values())],
        "reversals": [_reversal_row(one) for one in touched.values() if _is_reversed(one, done)],
        "balances": [_balance_row(account) for account in changed],
    }
    document = orjson.dumps({name: rows for name, rows in lists.items() if rows}).decode()
    await execute_last(conn, _Q["write_batch"], {"batch": document})


def new_reservation(decided: Decided) -> Reservation | None:
    """Return what a hold or a pending earn that was just done keeps back."""
    if decided.kind is OperationKind.HOLD:
        return Reservation(amount=decided.amount, layer=Layer.HELD, expires_at=decided.expires_at)
    if decided.kind is OperationKind.EARN_PENDING:
        return Reservation(amount=decided.amount, layer=Layer.PENDING)
    return None


def subject_of(
    row: Mapping[str, Any],
    *,
    reservation: Mapping[str, Any] | None,
    reversed_amount: int,
    cuts: Sequence[Stretch],
    lots: Sequence[Piece],
    receipt: Receipt | None = None,
) -> Subject:
    """Put together what is known of an earlier operation."""
    return Subject(
        no=row["no"],
        kind=OperationKind(row["kind"]),
        account_no=row["account_no"],
        member_id=row["member_id"],
        amount=abs(row["amount"]),
        details=row["details"] or {},
        reservation=None if reservation is None else reservation_of(reservation),
        left=abs(row["amount"]) - reversed_amount,
        cuts=cuts,
        lots=lots,
        receipt=receipt,
    )


def receipt_of(row: Mapping[str, Any] | None, *, lots: Mapping[int, Sequence[Piece]]) -> Receipt | None:
    """Put together what is known of the other side of a transfer."""
    if row is None:
        return None
    return Receipt(
        no=row["no"], member_id=row["member_id"], amount=row["amount"], lots=lots.get(row["no"], ())
    )


def hold_of(row: Mapping[str, Any], *, cuts: Sequence[Stretch]) -> Subject:
    """Put together what is known of a hold to which nobody refers, because its time is over."""
    return Subject(
        no=row["operation_no"],
        kind=OperationKind.HOLD,
        account_no=row["account_no"],
        member_id=row["member_id"],
        amount=row["amount"],
        details={},
        reservation=reservation_of(row),
        cuts=cuts,
    )


def _known(row: Mapping[str, Any]) -> Known:
    return Known(operation=operation_of(row, is_replay=True), details=details_of(row))


def _operation_row(one: Decided) -> Mapping[str, Any]:
    details = dict(one.details)
    if one.account is None and one.member_id:
        details["member_id"] = one.member_id
    balance = one.balance
    return {
        "no": one.no,
        "account_no": one.account.no if one.account else None,
        "amount": one.amount,
        "subject_no": one.follows.no if one.follows else one.subject_no,
        "at": one.at,
        "posted": balance.posted if balance else None,
        "pending": balance.pending if balance else None,
        "held": balance.held if balance else None,
        "owed": balance.owed if balance else None,
        "kind": one.kind,
        "key": one.key,
        "asked_by": one.by,
        "refusal": one.refusal,
        "details": details or None,
    }


def _entry_rows(one: Decided) -> Iterable[Mapping[str, Any]]:
    for line, entry in enumerate(one.changes.entries):
        yield {
            "operation_no": one.no,
            "line": line,
            "debit_no": entry.debit,
            "credit_no": entry.credit,
            "amount": entry.amount,
            "layer": entry.layer,
        }


def _lot_rows(one: Decided) -> Iterable[Mapping[str, Any]]:
    for lot in one.changes.lots:
        yield {
            "operation_no": one.no,
            "account_no": one.account.no if one.account else None,
            "expires_on": lot.expires_on,
            "bucket": lot.bucket,
            "first": lot.begin,
            "amount": lot.amount,
        }


def _cut_rows(one: Decided) -> Iterable[Mapping[str, Any]]:
    for line, cut in enumerate(one.changes.cuts):
        yield {
            "operation_no": one.no,
            "line": line,
            "amount": cut.amount,
            "from_on": cut.begin.expires_on,
            "from_bucket": cut.begin.bucket,
            "from_offset": cut.begin.offset,
            "to_on": cut.end.expires_on,
            "to_bucket": cut.end.bucket,
            "to_offset": cut.end.offset,
            "newest": cut.newest,
        }


def _bucket_rows(account: Account) -> Iterable[Mapping[str, Any]]:
    for track in (account.fixed, account.rolling):
        for key in sorted(track.fresh):
            yield {"account_no": account.no, "expires_on": key[0], "no": key[1], "amount": track.amounts[key]}


def _new_reservations(done: Sequence[Decided]) -> Iterable[Mapping[str, Any]]:
    for one in done:
        reservation = new_reservation(one)
        if reservation is not None and one.account is not None:
            yield _reservation_row(one.no, one.account.no, reservation)


def _resolved(touched: Iterable[Subject]) -> Iterable[Mapping[str, Any]]:
    for subject in touched:
        if subject.reservation is not None:
            yield _reservation_row(subject.no, subject.account_no, subject.reservation)


def _reservation_row(no: int, account_no: int, reservation: Reservation) -> Mapping[str, Any]:
    return {
        "operation_no": no,
        "account_no": account_no,
        "amount": reservation.amount,
        "posted": reservation.posted,
        "expires_at": reservation.expires_at,
        "layer": reservation.layer,
        "resolved_by": reservation.resolved_by,
    }


def _is_reversed(subject: Subject, done: Sequence[Decided]) -> bool:
    return subject.left < subject.amount and any(
        one.kind is OperationKind.REVERSE and one.subject is subject for one in done
    )


def _reversal_row(subject: Subject) -> Mapping[str, Any]:
    return {"subject_no": subject.no, "amount": subject.amount - subject.left}


def _balance_row(account: Account) -> Mapping[str, Any]:
    fixed, rolling = account.fixed, account.rolling
    return {
        "account_no": account.no,
        "status": account.status,
        "floor": account.floor,
        "posted": account.posted,
        "pending": account.pending,
        "held": account.held,
        "owed": account.owed,
        "version": account.version,
        "last_at": account.last_at,
        "frontier_on": fixed.frontier.expires_on,
        "frontier_bucket": fixed.frontier.bucket,
        "frontier_offset": fixed.frontier.offset,
        "newest_bucket": fixed.newest,
        "newest_behind": fixed.newest_behind,
        "closed_bucket": fixed.closed,
        "rolling_offset": rolling.frontier.offset,
        "rolling_until": account.rolling_until,
        "gaps": _ranges(rolling.gaps, fixed.gaps),
        "holes": _ranges(rolling.holes, fixed.holes),
    }


def _ranges(*tracks: Sequence[Piece]) -> list[list[Any]] | None:
    return [list(piece) for pieces in tracks for piece in pieces] or None


async def operation_of_key(conn: Connection, key: str) -> Operation | None:
    """Return what stands under a key, None if it was never used."""
    row = await (await conn.execute(_Q["operation_of_key"], {"key": key})).fetchone()
    return None if row is None else operation_of(row, is_replay=True)
