"""Everything that is recorded of accounts, read for those who check it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.points.contracts.ledger import Layer, OperationKind
from faregate.points.domain.account import Account
from faregate.points.domain.lots import ROLLING
from faregate.points.domain.reconciliation import Done, Records, ReversedTransfer
from faregate.points.store.rows import account_of, piece_of, reservation_of, stretch_of

_Q = load_queries("faregate.points.store")
Rows = Sequence[Mapping[str, Any]]


async def records_after(
    conn: Connection, *, after: int, limit: int, member_ids: Sequence[str] | None = None
) -> list[Records]:
    """Return what is recorded of the next accounts by number, of these members if they are named."""
    given = {"after": after, "limit": limit, "member_ids": None if member_ids is None else list(member_ids)}
    accounts = [account_of(row) for row in await _rows(conn, "accounts_after", **given)]
    numbers = {"numbers": [account.no for account in accounts]}
    of: dict[str, dict[int, Rows]] = {}
    for name in (
        "buckets_of",
        "done_by",
        "entries_of",
        "reservations_of",
        "reversals_of",
        "reversed_transfers_of",
        "cuts_of",
        "lots_of",
    ):
        of[name] = _grouped(await _rows(conn, name, **numbers), by="account_no")
    return [
        _records(account, {name: rows.get(account.no, ()) for name, rows in of.items()})
        for account in accounts
    ]


async def entry_sums(conn: Connection) -> dict[Layer, int]:
    """Return what all entries add up to in each layer."""
    return {Layer(row["layer"]): int(row["amount"]) for row in await _rows(conn, "entry_sums")}


async def _rows(conn: Connection, name: str, **given: Any) -> Rows:
    return await (await conn.execute(_Q[name], given)).fetchall()


def _grouped(rows: Rows, *, by: str) -> dict[int, Rows]:
    groups: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        groups[row[by]].append(row)
    return dict(groups)


def _records(account: Account, of: Mapping[str, Rows]) -> Records:
    buckets = {(row["expires_on"], row["no"]): row["amount"] for row in of["buckets_of"]}
    for key, amount in buckets.items():
        track = account.rolling if key[0] == ROLLING else account.fixed
        track.amounts[key] = amount
    account.fixed.buckets = sorted(key for key in account.fixed.amounts if key >= account.fixed.frontier[:2])
    cuts, lots = _grouped(of["cuts_of"], by="operation_no"), _grouped(of["lots_of"], by="operation_no")
    moved = _grouped(of["entries_of"], by="operation_no")
    done = [
        Done(
            no=row["no"],
            kind=OperationKind(row["kind"]),
            amount=row["amount"],
            at=row["at"],
            subject=row["subject_no"],
            balance={layer: row[layer] for layer in Layer},
            moved={Layer(entry["layer"]): int(entry["amount"]) for entry in moved.get(row["no"], ())},
            cuts=[stretch_of(cut) for cut in cuts.get(row["no"], ())],
            lots=[piece_of(lot) for lot in lots.get(row["no"], ())],
            active_until=row["active_until"],
        )
        for row in of["done_by"]
    ]
    return Records(
        account=account,
        buckets=buckets,
        done=done,
        reservations={row["operation_no"]: reservation_of(row) for row in of["reservations_of"]},
        reversed={row["subject_no"]: row["amount"] for row in of["reversals_of"]},
        transfers=[
            ReversedTransfer(**{name: row[name] for name in ("no", "amount", "arrived", "reversed", "given")})
            for row in of["reversed_transfers_of"]
        ],
    )
