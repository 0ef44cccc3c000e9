"""A statement: every operation of a period with its effect, and for each spend the earns that it came from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime

from faregate.points.contracts.ledger import Balance, OperationKind
from faregate.points.contracts.reading import Source, StatementLine
from faregate.points.domain.lots import NEVER, ROLLING, Piece

_WORDS = {
    OperationKind.EARN: "earned",
    OperationKind.EARN_PENDING: "promised",
    OperationKind.CONFIRM: "promise kept",
    OperationKind.CANCEL: "promise withdrawn",
    OperationKind.BURN: "spent",
    OperationKind.ADJUST: "corrected",
    OperationKind.HOLD: "held",
    OperationKind.POST: "hold spent",
    OperationKind.VOID: "hold released",
    OperationKind.EXTEND: "hold extended",
    OperationKind.REVERSE: "reversed",
    OperationKind.TRANSFER: "given away",
    OperationKind.RECEIVE: "received",
    OperationKind.GIVE_BACK: "given back",
    OperationKind.CONVERT: "converted",
    OperationKind.EXPIRE: "expired",
    OperationKind.TIME_OUT: "hold timed out",
    OperationKind.SET_STATUS: "account status",
    OperationKind.SET_FLOOR: "floor",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Lot:
    """Where the points of an earn lie, and when they were earned."""

    operation: int
    earned_at: datetime
    piece: Piece


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """An operation with what it took out of the lots, in the order in which it did, of which `spent` count."""

    no: int
    kind: OperationKind
    at: datetime
    amount: int
    subject: int | None
    balance: Balance
    details: Mapping[str, object]
    pieces: Sequence[Piece] = ()
    spent: int = 0


def lines_of(moved: Iterable[Moved], *, lots: Sequence[Lot], opening: Balance) -> Iterator[StatementLine]:
    """Return the lines of a statement, each with its effect on the balances before it."""
    before = opening
    for one in moved:
        yield StatementLine(
            operation=one.no,
            at=one.at,
            kind=one.kind,
            words=_WORDS[one.kind],
            change=one.balance.posted - before.posted,
            held=one.balance.held - before.held,
            balance=one.balance,
            subject=one.subject,
            reference=str(one.details.get("reference") or one.details.get("reason") or ""),
            sources=list(sources_of(one.pieces, lots=lots, amount=one.spent)),
        )
        before = one.balance


def sources_of(pieces: Iterable[Piece], *, lots: Sequence[Lot], amount: int) -> Iterator[Source]:
    """Return the earns from which the first so many points of some pieces came, in the order of the pieces."""
    for piece in pieces:
        inside = sorted((lot for lot in lots if lot.piece[:2] == piece[:2]), key=lambda lot: lot.piece.begin)
        for lot in inside:
            begin, end = max(lot.piece.begin, piece.begin), min(lot.piece.end, piece.end)
            size = min(end - begin, amount)
            if size > 0:
                amount -= size
                yield Source(
                    operation=lot.operation,
                    earned_at=lot.earned_at,
                    expires_on=_day(piece.expires_on),
                    amount=size,
                )


def _day(expires_on: date) -> date | None:
    return None if expires_on in (NEVER, ROLLING) else expires_on
