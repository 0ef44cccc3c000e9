"""Points that go to another member, and come back.

The receiver gets lots with the days of what the sender gave. Of a transfer at a ratio the programme keeps a part; the
share of each day is rounded down along the way, in the order in which they were cut, so that the shares add up to what
arrives.

A reversal undoes both sides at the ratio and the amounts of then. The sender has the very points again, those last that
would have expired last. From the receiver the lots of those days are taken first, then what expires first; the rest is
owed. The receiver pays the programme, and the programme the sender: nobody waits for what is owed.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date
from typing import cast

from faregate.points.contracts.ledger import AccountStatus, Layer, OperationKind, Refusal, Reverse, Transfer
from faregate.points.domain.account import Account
from faregate.points.domain.case import Case, Decided, Receipt, Refused, Subject, of_its_own
from faregate.points.domain.guards import (
    check_available,
    check_room,
    open_account,
    own_account,
    spending_account,
)
from faregate.points.domain.lots import ROLLING, Stretch
from faregate.points.domain.systems import ISSUED, WITHHELD


def transfer(case: Case[Transfer]) -> Sequence[Decided]:
    """Give points to another member, with their days. What follows is what the receiver gets."""
    request = case.request
    account = own_account(case.this)
    receiver = case.desk.accounts.get(request.to_member_id)
    if receiver is None:
        raise Refused(Refusal.RECEIVER_UNKNOWN)
    if receiver is account:
        raise Refused(Refusal.ACCOUNTS_EQUAL)
    spending_account(case.this)
    if receiver.status is AccountStatus.CLOSED:
        raise Refused(Refusal.RECEIVER_CLOSED)
    arrives = request.amount if request.arrives is None else request.arrives
    check_room(receiver, arrives)
    check_available(account, request.amount)
    changes = case.this.changes
    changes.cuts = account.cut(request.amount)
    account.move(changes, amount=arrives, layer=Layer.POSTED, other=receiver.no, is_in=False)
    if request.amount > arrives:
        account.move(
            changes, amount=request.amount - arrives, layer=Layer.POSTED, other=WITHHELD, is_in=False
        )
    received = of_its_own(case.desk, receiver, OperationKind.RECEIVE, key=f"receive:{request.key}")
    received.amount, received.follows = arrives, case.this
    _put_down(account, receiver, changes.cuts, received)
    return (received,)


def _put_down(account: Account, receiver: Account, cuts: Sequence[Stretch], received: Decided) -> None:
    """Open lots at the receiver with the days of what was cut. The sender's entry moved the points already."""
    amounts: dict[date, int] = {}
    for cut in cuts:
        track = account.rolling if cut.end.expires_on == ROLLING else account.fixed
        for piece in track.pieces([cut]):
            amounts[piece.expires_on] = amounts.get(piece.expires_on, 0) + piece.amount
    whole, passed, given = sum(amounts.values()), 0, 0
    for expires_on, amount in amounts.items():
        passed += amount
        share = received.amount * passed // whole - given
        if share:
            track = receiver.rolling if expires_on == ROLLING else receiver.fixed
            received.changes.lots.append(track.add(expires_on, share))
            given += share
    receiver.posted += given
    if ROLLING in amounts and account.rolling_until is not None:
        receiver.become_active(account.rolling_until)
        received.details = {"active_until": account.rolling_until.isoformat()}


def reverse_transfer(case: Case[Reverse], subject: Subject) -> Sequence[Decided]:
    """Undo a transfer on both sides, in full or in part. What follows is what the receiver gives back."""
    account, receipt = open_account(case.this), cast("Receipt", subject.receipt)
    receiver = case.desk.accounts[receipt.member_id]
    if receiver.status is AccountStatus.CLOSED:
        raise Refused(Refusal.RECEIVER_CLOSED)
    if subject.left == 0:
        raise Refused(Refusal.ALREADY_REVERSED)
    amount = case.this.amount = case.this.amount or subject.left
    if amount > subject.left:
        raise Refused(Refusal.MORE_THAN_LEFT)
    check_room(account, amount)
    share = _arrived(subject, receipt, subject.left) - _arrived(subject, receipt, subject.left - amount)
    kept, _ = account.divide(subject.cuts, subject.left)
    _, returned = account.divide(kept, subject.left - amount)
    account.give_back(returned)
    for part, other in ((share, ISSUED), (amount - share, WITHHELD)):
        if part:
            account.move(case.this.changes, amount=part, layer=Layer.POSTED, other=other, is_in=True)
    subject.left -= amount
    if not share:
        return ()
    given = of_its_own(case.desk, receiver, OperationKind.GIVE_BACK, key=f"give_back:{case.request.key}")
    given.amount, given.follows = share, case.this
    receiver.take_lot_back(given.changes, lots=receipt.lots[::-1], amount=share, to=ISSUED)
    return (given,)


def _arrived(subject: Subject, receipt: Receipt, amount: int) -> int:
    """Return how much of the first so many points arrived."""
    return receipt.amount * amount // subject.amount
