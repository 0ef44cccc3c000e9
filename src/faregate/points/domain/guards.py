"""What is examined before anything is moved, each guard with its own refusal. Their order is each operation's."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from faregate.points.contracts.ledger import AMOUNT_MAX, AccountStatus, Earn, OperationKind, Refusal
from faregate.points.domain.account import Account
from faregate.points.domain.case import Decided, Desk, Refused, Reservation, Subject


def own_account(this: Decided) -> Account:
    """Return the account of an operation. Refuses a member who has none."""
    if this.account is None:
        raise Refused(Refusal.MEMBER_UNKNOWN)
    return this.account


def open_account(this: Decided) -> Account:
    """Return the account of an operation. Refuses one that is closed."""
    account = own_account(this)
    if account.status is AccountStatus.CLOSED:
        raise Refused(Refusal.ACCOUNT_CLOSED)
    return account


def spending_account(this: Decided) -> Account:
    """Return the account of an operation that spends. Refuses one that is frozen."""
    account = open_account(this)
    if account.status is AccountStatus.FROZEN:
        raise Refused(Refusal.ACCOUNT_FROZEN)
    return account


def reserved(this: Decided, kind: OperationKind) -> tuple[Subject, Reservation]:
    """Return what an operation resolves. Refuses what reserved nothing of that kind."""
    subject = this.subject
    if subject is None:
        raise Refused(Refusal.SUBJECT_NOT_FOUND)
    if subject.kind is not kind or subject.reservation is None:
        raise Refused(Refusal.SUBJECT_OF_ANOTHER_KIND)
    return subject, subject.reservation


_RESOLVED: Final = {
    OperationKind.POST: Refusal.ALREADY_POSTED,
    OperationKind.CONFIRM: Refusal.ALREADY_POSTED,
    OperationKind.VOID: Refusal.ALREADY_VOIDED,
    OperationKind.CANCEL: Refusal.ALREADY_VOIDED,
    OperationKind.TIME_OUT: Refusal.HOLD_EXPIRED,
}


def check_unresolved(reservation: Reservation) -> None:
    """Refuse what was resolved before."""
    if reservation.resolved_by is not None:
        raise Refused(_RESOLVED[reservation.resolved_by])


def check_dates(desk: Desk, request: Earn) -> None:
    """Refuse what happened too late or too long ago, or would have expired by now."""
    if request.occurred_at is not None:
        if request.occurred_at > desk.now + timedelta(seconds=desk.rules.clock_skew_s):
            raise Refused(Refusal.IN_THE_FUTURE)
        if request.occurred_at < desk.now - timedelta(days=desk.rules.backdated_days_max):
            raise Refused(Refusal.TOO_LONG_AGO)
    until = request.active_until if request.is_rolling else request.expires_on
    if until is not None and until < desk.today:
        raise Refused(Refusal.ALREADY_EXPIRED)


def check_room(account: Account, amount: int) -> None:
    """Refuse more than an account can hold."""
    if account.posted + account.pending + amount > AMOUNT_MAX:
        raise Refused(Refusal.BALANCE_TOO_LARGE)


def check_available(account: Account, amount: int) -> None:
    """Refuse more than can be spent."""
    if account.available - amount < account.floor:
        raise Refused(Refusal.INSUFFICIENT_POINTS)
