"""One account while an operation is decided: its balances, its lots, and what the operation changes of them.

The two tracks of lots are those that expire on a day and those that live with the member's activity. A cut takes
from whichever expires first; on the same day from the dated ones. What can be spent but is owed is paid at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Final, NamedTuple

from faregate.points.contracts.ledger import SYSTEM_NUMBERS, AccountStatus, Balance, Layer, System
from faregate.points.domain.lots import NEVER, ROLLING, OpenLots, Piece, Stretch

ALL: Final = 1 << 62
"""More points than an account can have."""
_DAY: Final = timedelta(days=1)


class Entry(NamedTuple):
    """A movement of points from one account to another, in one layer. Entries are only ever added."""

    debit: int
    credit: int
    amount: int
    layer: Layer


@dataclass(slots=True)
class Changes:
    """What an operation writes besides itself."""

    entries: list[Entry] = field(default_factory=list)
    lots: list[Piece] = field(default_factory=list)
    cuts: list[Stretch] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Account:
    """A member's account as it stands between two operations. Its methods change it and note the entries."""

    no: int
    member_id: str
    fixed: OpenLots
    rolling: OpenLots
    status: AccountStatus = AccountStatus.OPEN
    floor: int = 0
    posted: int = 0
    pending: int = 0
    held: int = 0
    owed: int = 0
    version: int = 0
    last_at: datetime | None = None
    rolling_until: date | None = None

    @property
    def available(self) -> int:
        """What can be spent."""
        return self.posted - self.held

    def balance(self) -> Balance:
        """Return the balances as they are now."""
        return Balance(posted=self.posted, pending=self.pending, held=self.held, owed=self.owed)

    def move(self, changes: Changes, *, amount: int, layer: Layer, other: int, is_in: bool) -> None:
        """Move points into one layer of the account or out of it, from or to another account."""
        debit, credit = (other, self.no) if is_in else (self.no, other)
        changes.entries.append(Entry(debit, credit, amount, layer))
        change = amount if is_in else -amount
        match layer:
            case Layer.POSTED:
                self.posted += change
            case Layer.PENDING:
                self.pending += change
            case Layer.HELD:
                self.held -= change
            case Layer.OWED:
                self.owed -= change

    def become_active(self, until: date | None) -> None:
        """Let points that live with the member's activity live until a day, or for longer if they would anyway."""
        if until is not None:
            self.rolling_until = max(until, self.rolling_until or until)

    def receive(self, changes: Changes, *, amount: int, source: int, expires_on: date) -> None:
        """Take points in as a new lot; `expires_on` is ROLLING for points that live with the member's activity."""
        self.move(changes, amount=amount, layer=Layer.POSTED, other=source, is_in=True)
        track = self.rolling if expires_on == ROLLING else self.fixed
        changes.lots.append(track.add(expires_on, amount))

    def cut(self, amount: int) -> list[Stretch]:
        """Take out of the lots what expires first."""
        if not self.rolling.amounts:
            return self.fixed.take(amount)
        taken = self.fixed.take(amount, until=self.rolling_until or NEVER)
        amount -= _size(taken)
        taken += (more := self.rolling.take(amount) if amount else [])
        amount -= _size(more)
        return taken + (self.fixed.take(amount) if amount else [])

    def cut_expired(self, today: date) -> list[Stretch]:
        """Take out of the lots what expired before a day."""
        yesterday = today - _DAY
        is_over = self.rolling_until is not None and self.rolling_until < today
        return self.fixed.take_over(yesterday) + (self.rolling.take_over(NEVER) if is_over else [])

    def give_back(self, cuts: Sequence[Stretch]) -> None:
        """Put back into the lots what was cut, with its dates."""
        for track, is_rolling in ((self.fixed, False), (self.rolling, True)):
            if mine := [cut for cut in cuts if (cut.end.expires_on == ROLLING) is is_rolling]:
                track.give_back(mine)

    def divide(self, cuts: Sequence[Stretch], amount: int) -> tuple[list[Stretch], list[Stretch]]:
        """Divide cuts after so many points, in the order in which they were spent."""
        first: list[Stretch] = []
        for number, cut in enumerate(cuts):
            if amount < cut.amount:
                track = self.rolling if cut.end.expires_on == ROLLING else self.fixed
                front, back = track.split([cut], amount)
                return first + front, [*back, *cuts[number + 1 :]]
            first.append(cut)
            amount -= cut.amount
        return first, []

    def take_lot_back(self, changes: Changes, *, lots: Sequence[Piece], amount: int, to: int) -> None:
        """Take back what an earn gave: of its own lots, then of those that expire first; the rest is owed."""
        cuts: list[Stretch] = []
        for lot in lots:
            track = self.rolling if lot.expires_on == ROLLING else self.fixed
            cuts += track.take_from(lot, amount - _size(cuts))
        cuts += self.cut(min(amount - _size(cuts), self.available - _size(cuts)))
        changes.cuts += cuts
        taken = _size(cuts)
        if taken:
            self.move(changes, amount=taken, layer=Layer.POSTED, other=to, is_in=False)
        if amount > taken:
            self.move(changes, amount=amount - taken, layer=Layer.OWED, other=to, is_in=False)

    def pay_what_is_owed(self, changes: Changes) -> None:
        """Pay what is owed out of what can be spent: while anything is owed nothing is available."""
        paid = min(self.owed, self.available)
        if paid > 0:
            issued = SYSTEM_NUMBERS[System.ISSUED]
            changes.cuts += self.cut(paid)
            self.move(changes, amount=paid, layer=Layer.POSTED, other=issued, is_in=False)
            self.move(changes, amount=paid, layer=Layer.OWED, other=issued, is_in=True)

    def has_expired(self, today: date) -> bool:
        """Whether anything that is there expired before a day."""
        if self.rolling_until is not None and self.rolling_until < today and _has_open(self.rolling):
            return True
        first = next(self.fixed.open_pieces(), None)
        return first is not None and first.expires_on < today


def _size(cuts: Sequence[Stretch]) -> int:
    return sum(cut.amount for cut in cuts)


def _has_open(track: OpenLots) -> bool:
    return next(track.open_pieces(), None) is not None
