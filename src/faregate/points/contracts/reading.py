"""What the ledger says when it is asked: balances, histories, statements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime

from faregate.kernel.errors import InvalidError, NotFoundError
from faregate.points.contracts.ledger import AccountStatus, Balance, Operation, OperationKind


class AccountNotFound(NotFoundError):
    """The member has no points account."""


class OperationNotFound(NotFoundError):
    """The ledger has no operation of this number."""


class PageUnknown(InvalidError):
    """`before` is no operation of this account. Begin without it, and go on with the `before` of each page."""


class PeriodEmpty(InvalidError):
    """A statement must end after it begins."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Expiry:
    """Points that expire when a day is over, None for those that never do."""

    expires_on: date | None
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenReservation:
    """A hold, or a pending earn, which has no end."""

    no: int
    amount: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AccountState:
    """An account at one instant: everything in it belongs together.

    What is due counts as done: holds whose time is over are released, points whose day is over are gone.
    """

    member_id: str
    at: datetime
    status: AccountStatus
    floor: int
    balance: Balance
    expiries: Sequence[Expiry]
    holds: Sequence[OpenReservation]
    pending: Sequence[OpenReservation]


@dataclass(frozen=True, slots=True, kw_only=True)
class BalanceAt:
    """The balances at an instant: by the operations up to then, with what was due by then as done.

    At an instant to come they are what they will be if nothing else happens.
    """

    member_id: str
    at: datetime
    balance: Balance


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationPage:
    """Operations of a member, the newest first. `before` begins the next page, None ends the list."""

    operations: Sequence[Operation]
    before: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Points of a spend that came from one earn. `expires_on` None: they never did, or with the member's activity."""

    operation: int
    earned_at: datetime
    expires_on: date | None
    amount: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatementLine:
    """One operation on a statement. `change` is of what is posted, `held` of what is held."""

    operation: int
    at: datetime
    kind: OperationKind
    words: str
    change: int
    held: int
    balance: Balance
    subject: int | None
    reference: str
    sources: Sequence[Source]


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What happened on an account in a period: from `since`, before `until`."""

    member_id: str
    since: datetime
    until: datetime
    opening: Balance
    closing: Balance
    lines: Sequence[StatementLine]
