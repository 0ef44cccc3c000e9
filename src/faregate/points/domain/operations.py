"""Decides operations one after the other on accounts in memory: guards in the documented order, then the entries.

`decide` changes the accounts that it is given and returns what is to be written. A refusal changes nothing. Keys were
looked at before: what comes here is new. The order of the guards is that of `Refusal`: what an operation refers to
first, balances last.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from typing import Any, Final, cast

from faregate.points.contracts.ledger import (
    AccountStatus,
    Adjust,
    Burn,
    Cancel,
    Confirm,
    Convert,
    Earn,
    EarnPending,
    Extend,
    Hold,
    Layer,
    OfMember,
    OfSubject,
    OperationKind,
    Post,
    Refusal,
    Request,
    Reverse,
    SetFloor,
    SetStatus,
    Transfer,
    Void,
)
from faregate.points.domain.account import Account
from faregate.points.domain.case import Case, Decided, Desk, Refused, Reservation, Subject, of_its_own
from faregate.points.domain.guards import (
    check_available,
    check_dates,
    check_room,
    check_unresolved,
    open_account,
    own_account,
    reserved,
    spending_account,
)
from faregate.points.domain.lots import NEVER, ROLLING
from faregate.points.domain.systems import ADJUSTED, CONVERTED, EXPIRED, ISSUED, SPENT
from faregate.points.domain.transfers import reverse_transfer, transfer


def decide(desk: Desk, request: Request) -> list[Decided]:
    """Decide a request, last but for what follows from it. What is due on its accounts comes first.

    Raises nothing that is expected: a refusal is what was decided.
    """
    subject = desk.subjects.get(request.subject) if isinstance(request, OfSubject) else None
    own = _own_account(desk, request, subject)
    accounts = _accounts(desk, request, subject=subject, own=own)
    decided = [one for account in accounts for one in settle_due(desk, account)]
    this = _begun(desk, request, subject=subject, account=own)
    try:
        received = _DECISIONS[type(request)](Case(desk=desk, this=this, request=request))
    except Refused as refused:
        this.refusal = refused.refusal
        return [*decided, this]
    decided += [_stamped(desk, one) for one in (this, *received)]
    return decided + [one for account in accounts for one in settle_due(desk, account)]


def settle_due(desk: Desk, account: Account) -> list[Decided]:
    """Release the holds whose time is over, then let points expire whose day is."""
    decided: list[Decided] = []
    for hold in desk.due.pop(account.no, []):
        if hold.reservation is not None and hold.reservation.resolved_by is None:
            this = of_its_own(desk, account, OperationKind.TIME_OUT, key=f"time_out:{hold.no}")
            this.subject, this.subject_no, this.amount = hold, hold.no, hold.reservation.amount
            _release(this, account, hold, posted=0)
            decided.append(_stamped(desk, this))
    if account.has_expired(desk.today):
        this = of_its_own(desk, account, OperationKind.EXPIRE, key=f"expire:{account.no}:{account.version}")
        this.changes.cuts = account.cut_expired(desk.today)
        this.amount = sum(cut.amount for cut in this.changes.cuts)
        account.move(this.changes, amount=this.amount, layer=Layer.POSTED, other=EXPIRED, is_in=False)
        decided.append(_stamped(desk, this))
    return decided


def _begun(desk: Desk, request: Request, *, subject: Subject | None, account: Account | None) -> Decided:
    named = request.member_id if isinstance(request, OfMember) else ""
    return Decided(
        key=request.key,
        kind=request.kind,
        at=desk.now,
        member_id=account.member_id if account else named,
        account=account,
        amount=getattr(request, "amount", None) or 0,
        by=request.by,
        details=request.details(),
        subject=subject,
        subject_no=request.subject if isinstance(request, OfSubject) else None,
    )


def _own_account(desk: Desk, request: Request, subject: Subject | None) -> Account | None:
    if isinstance(request, OfMember):
        return desk.accounts.get(request.member_id)
    return None if subject is None else desk.accounts.get(subject.member_id)


def _accounts(desk: Desk, request: Request, *, subject: Subject | None, own: Account | None) -> list[Account]:
    """Return the accounts that a request is about, its own first."""
    accounts = [] if own is None else [own]
    if isinstance(request, Transfer) and request.to_member_id in desk.accounts:
        accounts.append(desk.accounts[request.to_member_id])
    if isinstance(request, Reverse) and subject is not None and subject.receipt is not None:
        accounts.append(desk.accounts[subject.receipt.member_id])
    return accounts


def _stamped(desk: Desk, this: Decided) -> Decided:
    """Pay what is owed, and give the decision its time, later than the one before it on its account."""
    account = this.account
    if account is not None:
        if not account.has_expired(desk.today):  # else what follows at once pays
            account.pay_what_is_owed(this.changes)
        if account.last_at is not None and this.at <= account.last_at:
            this.at = account.last_at + timedelta(microseconds=1)
        account.last_at = this.at
        account.version += 1
        this.balance = account.balance()
    return this


def _earn(case: Case[Earn]) -> Sequence[Decided]:
    account = open_account(case.this)
    check_dates(case.desk, case.request)
    check_room(account, case.request.amount)
    if isinstance(case.request, EarnPending):
        account.move(
            case.this.changes, amount=case.request.amount, layer=Layer.PENDING, other=ISSUED, is_in=True
        )
    else:
        account.become_active(case.request.active_until)
        account.receive(
            case.this.changes,
            amount=case.request.amount,
            source=ISSUED,
            expires_on=day_of_lots(case.this.details),
        )
    return ()


def _confirm(case: Case[Confirm]) -> Sequence[Decided]:
    subject, reservation = reserved(case.this, OperationKind.EARN_PENDING)
    account = open_account(case.this)
    amount = case.this.amount = case.this.amount or reservation.amount
    check_unresolved(reservation)
    if amount > reservation.amount:
        raise Refused(Refusal.MORE_THAN_RESERVED)
    expires_on = day_of_lots(subject.details)
    if expires_on not in (NEVER, ROLLING) and expires_on < case.desk.today:
        raise Refused(Refusal.ALREADY_EXPIRED)
    account.move(case.this.changes, amount=reservation.amount, layer=Layer.PENDING, other=ISSUED, is_in=False)
    account.become_active(_date_of(subject.details, "active_until"))
    account.receive(case.this.changes, amount=amount, source=ISSUED, expires_on=expires_on)
    reservation.resolved_by, reservation.posted = OperationKind.CONFIRM, amount
    return ()


def _cancel(case: Case[Cancel]) -> Sequence[Decided]:
    _, reservation = reserved(case.this, OperationKind.EARN_PENDING)
    account = own_account(case.this)
    check_unresolved(reservation)
    case.this.amount = reservation.amount
    account.move(case.this.changes, amount=reservation.amount, layer=Layer.PENDING, other=ISSUED, is_in=False)
    reservation.resolved_by = OperationKind.CANCEL
    return ()


def _burn(case: Case[Burn]) -> Sequence[Decided]:
    account = spending_account(case.this)
    check_available(account, case.request.amount)
    account.become_active(case.request.active_until)
    _spend(case.this, account, case.request.amount, sink=SPENT)
    return ()


def _convert(case: Case[Convert]) -> Sequence[Decided]:
    account = spending_account(case.this)
    check_available(account, case.request.amount)
    _spend(case.this, account, case.request.amount, sink=CONVERTED)
    return ()


def _adjust(case: Case[Adjust]) -> Sequence[Decided]:
    account = open_account(case.this)
    if case.request.expires_on is not None and case.request.expires_on < case.desk.today:
        raise Refused(Refusal.ALREADY_EXPIRED)
    needs_second = abs(case.request.amount) > case.desk.rules.adjust_alone_max
    if needs_second and case.request.approved_by in ("", case.request.by):
        raise Refused(Refusal.SECOND_PERSON_NEEDED)
    if case.request.amount < 0:
        check_available(account, -case.request.amount)
        _spend(case.this, account, -case.request.amount, sink=ADJUSTED)
    else:
        check_room(account, case.request.amount)
        expires_on = case.request.expires_on or NEVER
        account.receive(case.this.changes, amount=case.request.amount, source=ADJUSTED, expires_on=expires_on)
    return ()


def _hold(case: Case[Hold]) -> Sequence[Decided]:
    account = spending_account(case.this)
    check_available(account, case.request.amount)
    case.this.expires_at = case.desk.now + timedelta(seconds=case.request.expires_in_s)
    case.this.changes.cuts = account.cut(case.request.amount)
    account.move(case.this.changes, amount=case.request.amount, layer=Layer.HELD, other=SPENT, is_in=False)
    return ()


def _post(case: Case[Post]) -> Sequence[Decided]:
    subject, reservation = reserved(case.this, OperationKind.HOLD)
    account = own_account(case.this)
    amount = case.this.amount = case.this.amount or reservation.amount
    check_unresolved(reservation)
    if amount > reservation.amount:
        raise Refused(Refusal.MORE_THAN_RESERVED)
    account.become_active(case.request.active_until)
    _release(case.this, account, subject, posted=amount)
    account.move(case.this.changes, amount=amount, layer=Layer.POSTED, other=SPENT, is_in=False)
    return ()


def _void(case: Case[Void]) -> Sequence[Decided]:
    subject, reservation = reserved(case.this, OperationKind.HOLD)
    account = own_account(case.this)
    check_unresolved(reservation)
    case.this.amount = reservation.amount
    _release(case.this, account, subject, posted=0)
    return ()


def _extend(case: Case[Extend]) -> Sequence[Decided]:
    _, reservation = reserved(case.this, OperationKind.HOLD)
    check_unresolved(reservation)
    until = case.desk.now + timedelta(seconds=case.request.expires_in_s)
    reservation.expires_at = max(until, reservation.expires_at or until)
    return ()


def _reverse(case: Case[Reverse]) -> Sequence[Decided]:
    subject = case.this.subject
    if subject is None:
        raise Refused(Refusal.SUBJECT_NOT_FOUND)
    if subject.kind is OperationKind.TRANSFER:
        return reverse_transfer(case, subject)
    if subject.kind not in _OTHER_SIDE:
        raise Refused(Refusal.SUBJECT_OF_ANOTHER_KIND)
    account = open_account(case.this)
    if subject.left == 0:
        raise Refused(Refusal.ALREADY_REVERSED)
    amount = case.this.amount = case.this.amount or subject.left
    if amount > subject.left:
        raise Refused(Refusal.MORE_THAN_LEFT)
    other = _OTHER_SIDE[subject.kind]
    if subject.lots:
        account.take_lot_back(case.this.changes, lots=subject.lots, amount=amount, to=other)
        subject.left -= amount
        return ()
    check_room(account, amount)
    kept, _ = account.divide(subject.cuts, subject.left)
    _, returned = account.divide(kept, subject.left - amount)
    account.give_back(returned)
    account.move(case.this.changes, amount=amount, layer=Layer.POSTED, other=other, is_in=True)
    subject.left -= amount
    return ()


def _set_status(case: Case[SetStatus]) -> Sequence[Decided]:
    account = own_account(case.this)
    is_empty = not (account.posted or account.pending or account.held or account.owed)
    if case.request.status is AccountStatus.CLOSED and not is_empty:
        raise Refused(Refusal.ACCOUNT_NOT_EMPTY)
    account.status = case.request.status
    return ()


def _set_floor(case: Case[SetFloor]) -> Sequence[Decided]:
    open_account(case.this).floor = case.request.floor
    return ()


def _release(this: Decided, account: Account, hold: Subject, *, posted: int) -> None:
    """End a hold: what is not spent is there again, with the dates that it had."""
    reservation = cast("Reservation", hold.reservation)
    account.move(this.changes, amount=reservation.amount, layer=Layer.HELD, other=SPENT, is_in=True)
    _, released = account.divide(hold.cuts, posted)
    account.give_back(released)
    reservation.resolved_by, reservation.posted = this.kind, posted
    hold.left = posted


def _spend(this: Decided, account: Account, amount: int, *, sink: int) -> None:
    this.changes.cuts = account.cut(amount)
    account.move(this.changes, amount=amount, layer=Layer.POSTED, other=sink, is_in=False)


def day_of_lots(details: Mapping[str, Any]) -> date:
    """Return the day on which the points of an earn expire."""
    return ROLLING if details.get("is_rolling") else _date_of(details, "expires_on") or NEVER


def _date_of(details: Mapping[str, Any], name: str) -> date | None:
    return date.fromisoformat(details[name]) if name in details else None


_OTHER_SIDE: Final = {
    OperationKind.EARN: ISSUED,
    OperationKind.CONFIRM: ISSUED,
    OperationKind.BURN: SPENT,
    OperationKind.POST: SPENT,
    OperationKind.ADJUST: ADJUSTED,
    OperationKind.CONVERT: CONVERTED,
}
"""What can be reversed, and the account on the other side of it."""

Decision = Callable[[Case[Any]], Sequence[Decided]]
_DECISIONS: Final[Mapping[type[Request], Decision]] = {
    SetStatus: _set_status,
    SetFloor: _set_floor,
    Earn: _earn,
    EarnPending: _earn,
    Confirm: _confirm,
    Cancel: _cancel,
    Burn: _burn,
    Adjust: _adjust,
    Hold: _hold,
    Post: _post,
    Void: _void,
    Extend: _extend,
    Reverse: _reverse,
    Transfer: transfer,
    Convert: _convert,
}
