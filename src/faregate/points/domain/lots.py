"""The lots of one account as ranges: spending ten thousand of them moves one mark and writes one row.

Points that expire on one day lie in a *bucket*, one after the other in the order in which they were earned, so a lot is
a range of offsets in a bucket. Buckets are ordered by day, then by number, which rises with each bucket that an account
gets. What is spent is cut from the front: everything before the *frontier* is gone, but for *gaps*, which came back
or were earned late; everything from the frontier on is there, but for *holes*, which were taken out of turn. What a cut
took is a *stretch* from one place to another. Buckets that came later than the cut are not of it, which is why it
carries the number of the newest that it knew. A bucket that a cut has gone through never grows again, not even when the
frontier went back before it, so a stretch names the same points for ever.

Pure: amounts and refusals are `account`'s business, rows the store's.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate, takewhile
from operator import itemgetter
from typing import NamedTuple

NEVER = date.max
"""The day on which points expire that do not."""
ROLLING = date.min
"""Stands for the day of points that live as long as their member is active: it is a field of the account."""


class Place(NamedTuple):
    """A place in the order of all points of an account: where a bucket is cut."""

    expires_on: date
    bucket: int
    offset: int


class Piece(NamedTuple):
    """A range of offsets in one bucket."""

    expires_on: date
    bucket: int
    begin: int
    end: int

    @property
    def amount(self) -> int:
        """How many points that is."""
        return self.end - self.begin


class Stretch(NamedTuple):
    """What one cut took: all of the buckets from `begin` to `end` that are not newer than `newest`."""

    begin: Place
    end: Place
    newest: int
    amount: int


class LotsNotLoaded(RuntimeError):
    """More was cut than was read: the reader of the lots has a defect, and nothing may be written."""


@dataclass(slots=True)
class OpenLots:
    """What is there of the points of an account, and what is changed of it.

    `buckets` are those from the frontier on, in order and without a break, but perhaps not all of them: enough for what
    is to be cut, and all of them when `is_complete`. `amounts` has all that were read, by day and number; `fresh` are
    those that became larger or new. Buckets up to number `closed` never grow again.
    """

    frontier: Place
    buckets: list[tuple[date, int]]
    amounts: dict[tuple[date, int], int]
    gaps: list[Piece] = field(default_factory=list)
    holes: list[Piece] = field(default_factory=list)
    newest: int = 0
    newest_behind: int = 0
    closed: int = 0
    is_complete: bool = True
    fresh: set[tuple[date, int]] = field(default_factory=set)

    def add(self, expires_on: date, amount: int) -> Piece:
        """Add points that expire on a day, and return where they lie."""
        if expires_on < self.frontier.expires_on:
            return self._add_behind(expires_on, amount)
        bucket = self._newest_of(expires_on)
        if bucket is None:
            bucket = self._new_bucket(expires_on)
            if self.is_complete or (self.buckets and (expires_on, bucket) < self.buckets[-1]):
                insort(self.buckets, (expires_on, bucket))
        key = (expires_on, bucket)
        begin = self.amounts[key]
        self.amounts[key] = begin + amount
        self.fresh.add(key)
        return Piece(expires_on, bucket, begin, begin + amount)

    def take(self, amount: int, *, until: date = NEVER) -> list[Stretch]:
        """Cut at most so many points that expire by a day, those first that expire first."""
        taken: list[Stretch] = []
        while amount and self.gaps and self.gaps[0].expires_on <= until:
            gap = self.gaps[0]
            size = min(amount, gap.amount)
            taken.append(self._stretch(Piece(gap.expires_on, gap.bucket, gap.begin, gap.begin + size)))
            rest = gap._replace(begin=gap.begin + size)
            self.gaps[:1] = [rest] if rest.amount else []
            amount -= size
        return taken + (self._advance(amount, until) if amount else [])

    def take_over(self, until: date) -> list[Stretch]:
        """Cut all points that expire by a day."""
        pieces = takewhile(lambda piece: piece.expires_on <= until, self.open_pieces())
        return self.take(sum(piece.amount for piece in pieces), until=until)

    def take_from(self, lot: Piece, amount: int) -> list[Stretch]:
        """Cut at most so many points of one lot, wherever it lies; return what was there to be cut."""
        taken: list[Piece] = []
        for piece in list(self._open_in(lot)):
            part = piece._replace(end=min(piece.end, piece.begin + amount))
            if part.amount <= 0:
                break
            self._cut_out(part)
            taken.append(part)
            amount -= part.amount
        return [self._stretch(piece) for piece in taken]

    def give_back(self, stretches: Sequence[Stretch]) -> None:
        """Undo a cut: the very points are there again, with their dates and in their order."""
        for stretch in reversed(stretches):
            if stretch.end == self.frontier and self.newest_behind <= stretch.newest:
                self.frontier = stretch.begin
                self._reread(stretch)
                self._close(stretch)
            else:
                for piece in self.pieces([stretch]):
                    insort(self.gaps, piece)

    def pieces(self, stretches: Iterable[Stretch]) -> Iterator[Piece]:
        """Return what stretches consist of, bucket by bucket, in order."""
        for begin, end, newest, _ in stretches:
            if begin[:2] == end[:2]:
                yield Piece(begin.expires_on, begin.bucket, begin.offset, end.offset)
                continue
            for key in self._between(begin[:2], end[:2]):
                low = begin.offset if key == begin[:2] else 0
                high = end.offset if key == end[:2] else self.amounts[key]
                if key[1] <= newest and low < high:
                    yield Piece(*key, low, high)

    def split(self, stretches: Sequence[Stretch], amount: int) -> tuple[list[Stretch], list[Stretch]]:
        """Divide stretches after so many points: those that expire first, and the rest."""
        first: list[Stretch] = []
        for number, stretch in enumerate(stretches):
            if amount < stretch.amount:
                front, back = self._divide(stretch, amount)
                return first + front, [*back, *stretches[number + 1 :]]
            first.append(stretch)
            amount -= stretch.amount
        return first, []

    def open_pieces(self) -> Iterator[Piece]:
        """Return everything that is there and was read, in the order in which it is spent."""
        yield from self.gaps
        for expires_on, bucket in self._ahead():
            begin = self.frontier.offset if (expires_on, bucket) == self.frontier[:2] else 0
            for hole in self._holes_in(expires_on, bucket):
                if begin < hole.begin:
                    yield Piece(expires_on, bucket, begin, hole.begin)
                begin = max(begin, hole.end)
            if begin < self.amounts[expires_on, bucket]:
                yield Piece(expires_on, bucket, begin, self.amounts[expires_on, bucket])

    def _advance(self, amount: int, until: date) -> list[Stretch]:
        """Move the frontier on over so many points that are there; a hole on the way begins a new stretch.

        `at` counts from the beginning of the first bucket; so do `ends`, which stand before and after each bucket.
        """
        ahead = self._ahead()
        reached = ahead[: bisect_right(ahead, until, key=itemgetter(0))]
        ends = list(accumulate(map(self.amounts.__getitem__, reached), initial=0))
        start = at = self.frontier.offset if reached[:1] == [self.frontier[:2]] else 0
        begin, taken = self.frontier, []
        for hole in sorted(self.holes):
            index = bisect_left(reached, hole[:2])
            if amount == 0 or index == len(reached):
                break
            before = ends[index] + hole.begin
            step = min(amount, before - at)
            at, amount = at + step, amount - step
            if at < before:
                break
            if at > start:
                taken.append(Stretch(begin, Place(*hole[:2], hole.begin), self.newest, at - start))
            self.holes.remove(hole)
            begin, start = Place(*hole[:2], hole.end), ends[index] + hole.end
            at = start
        step = min(amount, ends[-1] - at)
        if step < amount and reached == ahead and not self.is_complete:
            raise LotsNotLoaded(f"{amount - step} points more than were read")
        at += step
        self.frontier = begin
        if at > start:
            index = bisect_left(ends, at) - 1
            self.frontier = Place(*reached[index], at - ends[index])
            taken.append(Stretch(begin, self.frontier, self.newest, at - start))
        return taken

    def _add_behind(self, expires_on: date, amount: int) -> Piece:
        bucket = self._new_bucket(expires_on)
        self.newest_behind = bucket
        self.amounts[expires_on, bucket] = amount
        piece = Piece(expires_on, bucket, 0, amount)
        insort(self.gaps, piece)
        return piece

    def _new_bucket(self, expires_on: date) -> int:
        self.newest += 1
        self.amounts[expires_on, self.newest] = 0
        self.fresh.add((expires_on, self.newest))
        return self.newest

    def _newest_of(self, expires_on: date) -> int | None:
        """Return the bucket of a day that may still grow, if there is one: the last, from the frontier on."""
        known = [bucket for day, bucket in self.amounts if day == expires_on]
        newest = max(known, default=None)
        if newest is None or newest <= self.closed or (expires_on, newest) < self.frontier[:2]:
            return None
        return newest

    def _ahead(self) -> list[tuple[date, int]]:
        return self.buckets[bisect_left(self.buckets, self.frontier[:2]) :]

    def _between(self, first: tuple[date, int], last: tuple[date, int]) -> list[tuple[date, int]]:
        return sorted(key for key in self.amounts if first <= key <= last)

    def _reread(self, stretch: Stretch) -> None:
        """Let buckets count again that lie from the frontier on since it went back over a stretch."""
        for key in self._between(stretch.begin[:2], stretch.end[:2]):
            place = bisect_left(self.buckets, key)
            if self.buckets[place : place + 1] != [key]:
                self.buckets.insert(place, key)

    def _close(self, stretch: Stretch) -> None:
        """Let no bucket grow any more that a stretch went out of: it would come to name points that it did not take."""
        gone_through = [
            key for key in self._between(stretch.begin[:2], stretch.end[:2]) if key != stretch.end[:2]
        ]
        self.closed = max([self.closed, *(bucket for _, bucket in gone_through)])

    def _holes_in(self, expires_on: date, bucket: int) -> list[Piece]:
        if not self.holes:
            return []
        return sorted(hole for hole in self.holes if hole[:2] == (expires_on, bucket))

    def _open_in(self, lot: Piece) -> Iterator[Piece]:
        """Return what is there of a lot."""
        key = lot[:2]
        for gap in self.gaps:
            if gap[:2] == key and max(gap.begin, lot.begin) < min(gap.end, lot.end):
                yield Piece(*key, max(gap.begin, lot.begin), min(gap.end, lot.end))
        if key < self.frontier[:2]:
            return
        begin = max(lot.begin, self.frontier.offset) if key == self.frontier[:2] else lot.begin
        for hole in self._holes_in(*key):
            if begin < min(hole.begin, lot.end):
                yield Piece(*key, begin, min(hole.begin, lot.end))
            begin = max(begin, hole.end)
        if begin < lot.end:
            yield Piece(*key, begin, lot.end)

    def _cut_out(self, piece: Piece) -> None:
        """Take a piece that is there out of a gap, or make a hole of it."""
        key = piece[:2]
        for gap in self.gaps:
            if gap[:2] == key and gap.begin <= piece.begin and piece.end <= gap.end:
                self.gaps.remove(gap)
                for rest in (gap._replace(end=piece.begin), gap._replace(begin=piece.end)):
                    if rest.amount:
                        insort(self.gaps, rest)
                return
        insort(self.holes, piece)

    def _stretch(self, piece: Piece) -> Stretch:
        begin, end = Place(*piece[:2], piece.begin), Place(*piece[:2], piece.end)
        return Stretch(begin, end, self.newest, piece.amount)

    def _divide(self, stretch: Stretch, amount: int) -> tuple[list[Stretch], list[Stretch]]:
        if amount == 0:
            return [], [stretch]
        left = amount
        for piece in self.pieces([stretch]):
            if left <= piece.amount:
                middle = Place(*piece[:2], piece.begin + left)
                return (
                    [stretch._replace(end=middle, amount=amount)],
                    [stretch._replace(begin=middle, amount=stretch.amount - amount)],
                )
            left -= piece.amount
        raise LotsNotLoaded(f"a stretch of {stretch.amount} points was read in part")
