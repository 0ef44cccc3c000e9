"""What an operation is decided with, and what comes of it: the desk with its accounts, and one case on it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import Any, Generic, TypeVar

from faregate.points.contracts.ledger import Balance, Layer, OperationKind, Refusal, Request
from faregate.points.domain.account import Account, Changes
from faregate.points.domain.lots import Piece, Stretch


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What the issuer sets. An adjustment of more than `adjust_alone_max` points needs a second person."""

    adjust_alone_max: int = 10_000
    clock_skew_s: float = 60.0
    backdated_days_max: int = 400


@dataclass(slots=True, kw_only=True)
class Reservation:
    """What a hold reserved or a pending earn promised. `resolved_by` is the kind of what ended it."""

    amount: int
    layer: Layer
    expires_at: datetime | None = None
    resolved_by: OperationKind | None = None
    posted: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """The other side of a transfer: who received how much, and where it was put."""

    no: int
    member_id: str
    amount: int
    lots: Sequence[Piece] = ()


@dataclass(slots=True, kw_only=True)
class Subject:
    """An earlier operation that was done, as far as later ones need it.

    `left` is what was not reversed of it yet, `cuts` what it took out of the lots, `lots` what it put there, `receipt`
    the other side of a transfer.
    """

    no: int
    kind: OperationKind
    account_no: int
    member_id: str
    amount: int
    details: Mapping[str, Any]
    reservation: Reservation | None = None
    left: int = 0
    cuts: Sequence[Stretch] = ()
    lots: Sequence[Piece] = ()
    receipt: Receipt | None = None


@dataclass(slots=True, kw_only=True)
class Decided:
    """What became of a request, or was due, with what is to be written of it.

    `no` is given when all of a batch is decided. `follows` is the transfer of what a receiver gets, or its reversal,
    `expires_at` when a hold ends.
    """

    key: str
    kind: OperationKind
    at: datetime
    member_id: str
    account: Account | None = None
    amount: int = 0
    by: str = "system"
    details: Mapping[str, Any] = field(default_factory=dict)
    refusal: Refusal | None = None
    balance: Balance | None = None
    subject: Subject | None = None
    subject_no: int | None = None
    follows: Decided | None = None
    expires_at: datetime | None = None
    changes: Changes = field(default_factory=Changes)
    no: int = 0


class Refused(Exception):
    """Ends a decision. Never seen outside of this module."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal)
        self.refusal = refusal


@dataclass(slots=True, kw_only=True)
class Desk:
    """What decisions of one batch are made with: accounts by member, subjects by number, the time and the day.

    `due` are the holds of each account whose time is over, by its number; they are released before anything else.
    """

    accounts: Mapping[str, Account]
    subjects: Mapping[int, Subject]
    due: dict[int, list[Subject]]
    now: datetime
    today: date
    rules: Rules = Rules()


def of_its_own(desk: Desk, account: Account, kind: OperationKind, *, key: str) -> Decided:
    """Return an operation that nobody asked for, about to be decided."""
    return Decided(key=key, kind=kind, at=desk.now, member_id=account.member_id, account=account)


Asked = TypeVar("Asked", bound=Request)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case(Generic[Asked]):
    """A request while it is decided: what it is decided with, and what becomes of it."""

    desk: Desk
    this: Decided
    request: Asked
