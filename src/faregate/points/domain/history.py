"""An account as it stood at an instant, with the lots that it had then, made again from all that was done up to it."""

from __future__ import annotations

from bisect import insort
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from datetime import date, datetime

from faregate.points.contracts.ledger import Layer, OperationKind
from faregate.points.domain.account import Account
from faregate.points.domain.case import Reservation, Subject
from faregate.points.domain.lots import ROLLING, OpenLots, Piece, Place
from faregate.points.domain.reconciliation import ENDS_A_HOLD, Bucket, Done, Records, middle, pieces_of

_ACTIVE = (
    OperationKind.EARN,
    OperationKind.CONFIRM,
    OperationKind.BURN,
    OperationKind.POST,
    OperationKind.RECEIVE,
)
"""What shows that a member is active, and lets rolling points live on."""


class _Lots:
    """What is there of each bucket."""

    def __init__(self) -> None:
        self.earned: Counter[Bucket] = Counter()
        self._open: dict[Bucket, list[tuple[int, int]]] = defaultdict(list)

    def add(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            insort(self._open[piece[:2]], (piece.begin, piece.end))

    def remove(self, pieces: Iterable[Piece]) -> None:
        for piece in pieces:
            self._open[piece[:2]] = [
                part
                for begin, end in self._open[piece[:2]]
                for part in ((begin, min(end, piece.begin)), (max(begin, piece.end), end))
                if part[0] < part[1]
            ]

    def track(self, *, is_rolling: bool) -> OpenLots:
        """Return the lots of a track: all of them from the beginning, but for what is not there."""
        amounts = {key: size for key, size in self.earned.items() if (key[0] == ROLLING) is is_rolling}
        return OpenLots(
            frontier=Place(date.min, 0, 0),
            buckets=sorted(amounts),
            amounts=amounts,
            holes=[hole for key in sorted(amounts) for hole in self._missing(key)],
            newest=max((number for _, number in amounts), default=0),
        )

    def _missing(self, key: Bucket) -> Iterator[Piece]:
        place = 0
        for begin, end in self._open[key]:
            if place < begin:
                yield Piece(*key, place, begin)
            place = max(place, end)
        if place < self.earned[key]:
            yield Piece(*key, place, self.earned[key])


def account_at(records: Records, at: datetime) -> tuple[Account, list[Subject]]:
    """Return an account by the operations up to an instant, and its holds whose time was over by then."""
    done = [one for one in records.done if one.at <= at]
    by_no = {one.no: one for one in done}
    lots, ended = _Lots(), set[int]()
    reversed_: Counter[int] = Counter()
    for one in done:
        for lot in one.lots:
            lots.earned[lot[:2]] += lot.amount
        lots.add(one.lots)
        lots.remove(pieces_of(records, one.cuts))
        subject = by_no.get(one.subject) if one.subject is not None else None
        if subject is not None:
            lots.add(_returned(records, one, subject, by_no, reversed_))
            ended |= {subject.no} if one.kind in ENDS_A_HOLD else set()
    before = records.account
    account = Account(
        no=before.no,
        member_id=before.member_id,
        fixed=lots.track(is_rolling=False),
        rolling=lots.track(is_rolling=True),
        rolling_until=_active_until(done, by_no, default=before.rolling_until),
    )
    if done:
        last = done[-1]
        account.last_at = last.at
        account.posted, account.pending, account.held, account.owed = (last.balance[layer] for layer in Layer)
    return account, list(_over(records, by_no, ended, at))


def _returned(
    records: Records, one: Done, subject: Done, by_no: Mapping[int, Done], reversed_: Counter[int]
) -> Iterator[Piece]:
    """Return the points that an operation gave back to the lots."""
    if one.kind in ENDS_A_HOLD:
        spent = one.amount if one.kind is OperationKind.POST else 0
        yield from middle(records, subject.cuts, after=spent, upto=subject.amount)
    if one.kind is OperationKind.REVERSE and not subject.lots:
        left = abs(subject.amount) - reversed_[subject.no]
        reversed_[subject.no] += one.amount
        is_post = subject.kind is OperationKind.POST and subject.subject is not None
        spender = by_no[subject.subject] if is_post and subject.subject else subject
        yield from middle(records, spender.cuts, after=left - one.amount, upto=left)


def _active_until(done: Iterable[Done], by_no: Mapping[int, Done], *, default: date | None) -> date | None:
    said = []
    for one in done:
        told = by_no.get(one.subject or 0, one) if one.kind is OperationKind.CONFIRM else one
        if one.kind in _ACTIVE and told.active_until is not None:
            said.append(told.active_until)
    return max(said, default=default)


def _over(records: Records, by_no: Mapping[int, Done], ended: set[int], at: datetime) -> Iterator[Subject]:
    for no, held in records.reservations.items():
        is_open = held.layer is Layer.HELD and no in by_no and no not in ended
        if is_open and held.expires_at is not None and held.expires_at <= at:
            yield Subject(
                no=no,
                kind=OperationKind.HOLD,
                account_no=records.account.no,
                member_id=records.account.member_id,
                amount=held.amount,
                details={},
                reservation=Reservation(amount=held.amount, layer=held.layer, expires_at=held.expires_at),
                cuts=by_no[no].cuts,
            )
