"""Compares what is kept of an account with what its operations add up to: entries, lots, cuts, holds and reversals.

The fold here is written apart from the deciding code and shares only the meaning of a stretch with it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime

from faregate.points.contracts.ledger import Layer, OperationKind
from faregate.points.domain.account import Account
from faregate.points.domain.case import Reservation
from faregate.points.domain.lots import ROLLING, Piece, Stretch

Bucket = tuple[date, int]
ENDS_A_HOLD = (OperationKind.POST, OperationKind.VOID, OperationKind.TIME_OUT)
_ENDS = {Layer.HELD: ENDS_A_HOLD, Layer.PENDING: (OperationKind.CONFIRM, OperationKind.CANCEL)}


@dataclass(frozen=True, slots=True, kw_only=True)
class Done:
    """An operation that was done, with what it moved of the account's points."""

    no: int
    kind: OperationKind
    amount: int
    at: datetime
    subject: int | None
    balance: Mapping[Layer, int]
    moved: Mapping[Layer, int]
    cuts: Sequence[Stretch] = ()
    lots: Sequence[Piece] = ()
    active_until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReversedTransfer:
    """A transfer of which so much was `reversed`: of `amount` points so many `arrived`, and `given` came back."""

    no: int
    amount: int
    arrived: int
    reversed: int
    given: int

    @property
    def is_even(self) -> bool:
        """Whether the receiver gave back the share of what the sender got back."""
        kept = self.arrived * (self.amount - self.reversed) // self.amount
        return self.given == self.arrived - kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All that is recorded of one account, its operations in their order."""

    account: Account
    buckets: Mapping[Bucket, int]
    done: Sequence[Done]
    reservations: Mapping[int, Reservation]
    reversed: Mapping[int, int]
    transfers: Sequence[ReversedTransfer] = ()


@dataclass(slots=True)
class _Fold:
    balance: Counter[Layer] = field(default_factory=Counter)
    open: Counter[Bucket] = field(default_factory=Counter)
    earned: Counter[Bucket] = field(default_factory=Counter)
    reserved: int = 0
    reversed: Counter[int] = field(default_factory=Counter)
    ended: Counter[int] = field(default_factory=Counter)
    last_at: datetime | None = None


def breaks_of(records: Records) -> list[str]:
    """Return what does not add up, each as a sentence; nothing when all does."""
    fold, found = _Fold(), list[str]()
    by_no = {one.no: one for one in records.done}
    for one in records.done:
        found += _fold_one(fold, one, by_no, records)
    return [*found, *_compared(fold, records), *_uneven(records)]


def _fold_one(fold: _Fold, one: Done, by_no: Mapping[int, Done], records: Records) -> Iterator[str]:
    if fold.last_at is not None and one.at <= fold.last_at:
        yield f"operation {one.no} is not later than the one before it"
    fold.last_at = one.at
    for layer, change in one.moved.items():
        fold.balance[layer] += change
    if any(fold.balance[layer] != one.balance[layer] for layer in Layer):
        yield f"operation {one.no} says another balance than the entries up to it"
    if not 0 <= fold.balance[Layer.HELD] <= fold.balance[Layer.POSTED]:
        yield f"operation {one.no} leaves less than nothing available"
    for lot in one.lots:
        fold.open[lot[:2]] += lot.amount
        fold.earned[lot[:2]] += lot.amount
    for piece in pieces_of(records, one.cuts):
        fold.open[piece[:2]] -= piece.amount
    subject = by_no.get(one.subject) if one.subject is not None else None
    if subject is not None:
        yield from _fold_subject(fold, one, subject, by_no, records)


def _fold_subject(
    fold: _Fold, one: Done, subject: Done, by_no: Mapping[int, Done], records: Records
) -> Iterator[str]:
    reservation = records.reservations.get(subject.no)
    if reservation is not None and one.kind in _ENDS[reservation.layer]:
        fold.ended[subject.no] += 1
        spent = one.amount if one.kind is OperationKind.POST else 0
        if one.kind in ENDS_A_HOLD:
            _give_back(fold, records, subject.cuts, after=spent, upto=subject.amount)
        if fold.ended[subject.no] > 1 or one.kind is not reservation.resolved_by:
            yield f"reservation {subject.no} was resolved otherwise than operation {one.no} did"
        ends = reservation.expires_at
        if one.kind is OperationKind.TIME_OUT and ends is not None and one.at < ends:
            yield f"hold {subject.no} was released before its time"
    if one.kind is OperationKind.REVERSE:
        left = abs(subject.amount) - fold.reversed[subject.no]
        fold.reversed[subject.no] += one.amount
        if one.amount > left:
            yield f"operation {subject.no} was reversed more than once"
        spender = (
            by_no[subject.subject] if subject.kind is OperationKind.POST and subject.subject else subject
        )
        if not subject.lots:
            _give_back(fold, records, spender.cuts, after=left - one.amount, upto=left)


def _give_back(fold: _Fold, records: Records, cuts: Sequence[Stretch], *, after: int, upto: int) -> None:
    """Let the points of cuts count again, from one on to another, in the order in which they were cut."""
    for piece in middle(records, cuts, after=after, upto=upto):
        fold.open[piece[:2]] += piece.amount


def _compared(fold: _Fold, records: Records) -> Iterator[str]:
    account = records.account
    kept = {
        Layer.POSTED: account.posted,
        Layer.PENDING: account.pending,
        Layer.HELD: account.held,
        Layer.OWED: account.owed,
    }
    for layer, amount in kept.items():
        if fold.balance[layer] != amount:
            yield f"{layer} is {amount}, and the entries add up to {fold.balance[layer]}"
    for layer in (Layer.HELD, Layer.PENDING):
        reserved = sum(
            one.amount
            for one in records.reservations.values()
            if one.layer is layer and one.resolved_by is None
        )
        if reserved != kept[layer]:
            yield f"{layer} is {kept[layer]}, and what is reserved adds up to {reserved}"
    there: Counter[Bucket] = Counter()
    for track in (account.fixed, account.rolling):
        for piece in track.open_pieces():
            there[piece[:2]] += piece.amount
    if sum(there.values()) != account.posted - account.held:
        yield f"{account.available} are available, and the lots hold {sum(there.values())}"
    for bucket in sorted(there.keys() | fold.open.keys()):
        if there[bucket] != fold.open[bucket]:
            yield f"of the lots of {bucket[0]} ({bucket[1]}) {there[bucket]} are there, not {fold.open[bucket]}"
    if dict(fold.earned) != dict(records.buckets):
        yield "the buckets are not what was earned"
    if {no: amount for no, amount in fold.reversed.items() if amount} != dict(records.reversed):
        yield "what is counted as reversed is not what was reversed"


def _uneven(records: Records) -> Iterator[str]:
    for one in records.transfers:
        if not one.is_even:
            yield f"transfer {one.no} was reversed by {one.reversed}, and its receiver gave back {one.given}"


def pieces_of(records: Records, cuts: Sequence[Stretch]) -> Iterator[Piece]:
    """Return what cuts consist of, in the order in which it was cut."""
    for cut in cuts:
        track = records.account.rolling if cut.end.expires_on == ROLLING else records.account.fixed
        yield from track.pieces([cut])


def middle(records: Records, cuts: Sequence[Stretch], *, after: int, upto: int) -> Iterator[Piece]:
    """Return the points of cuts from one on to another, in the order in which they were cut."""
    place = 0
    for piece in pieces_of(records, cuts):
        begin, end = max(place, after), min(place + piece.amount, upto)
        if begin < end:
            yield piece._replace(begin=piece.begin + begin - place, end=piece.begin + end - place)
        place += piece.amount
