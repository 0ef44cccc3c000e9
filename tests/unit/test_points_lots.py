"""Lots as ranges do what a list of single points does, whatever is cut, given back, added late or taken out of turn."""

from __future__ import annotations

from datetime import date, timedelta
from operator import itemgetter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from faregate.points.domain.lots import OpenLots, Piece, Place, Stretch

pytestmark = [pytest.mark.requirement("L13")]

FIRST = date(2026, 1, 1)
Point = tuple[date, int]
"""A point by its day and its age."""

days = st.integers(0, 5).map(lambda number: FIRST + timedelta(days=number))
amounts = st.integers(1, 6)


class Lots(RuleBasedStateMachine):
    """Beside the ranges goes a plain list of points."""

    def __init__(self) -> None:
        super().__init__()
        self.lots = OpenLots(frontier=Place(date.min, 0, 0), buckets=[], amounts={})
        self.there: list[Point] = []
        self.names: dict[tuple[date, int, int], Point] = {}
        self.cuts: list[list[Stretch]] = []
        self.earned: list[Piece] = []
        self.ever: list[tuple[list[Stretch], list[Point]]] = []
        self.age = 0

    def named(self, pieces: list[Piece]) -> list[Point]:
        return [self.names[day, bucket, at] for day, bucket, begin, end in pieces for at in range(begin, end)]

    def forget(self, points: list[Point]) -> None:
        for point in points:
            self.there.remove(point)

    @rule(day=days, amount=amounts)
    def add(self, day: date, amount: int) -> None:
        piece = self.lots.add(day, amount)
        assert piece.amount == amount
        for at in range(piece.begin, piece.end):
            self.age += 1
            self.names[day, piece.bucket, at] = (day, self.age)
            self.there.append((day, self.age))
        self.there.sort()
        self.earned.append(piece)

    @rule(amount=st.integers(1, 12), until=days)
    def take(self, amount: int, until: date) -> None:
        expected = [point for point in self.there if point[0] <= until][:amount]
        cut = self.lots.take(amount, until=until)
        assert self.named(list(self.lots.pieces(cut))) == expected
        assert sum(stretch.amount for stretch in cut) == len(expected)
        self.forget(expected)
        self.cuts.append(cut)
        self.ever.append((cut, expected))

    @precondition(lambda self: self.cuts)
    @rule(data=st.data())
    def give_all_back(self, data: st.DataObject) -> None:
        cut = self.cuts.pop(data.draw(st.integers(0, len(self.cuts) - 1)))
        points = self.named(list(self.lots.pieces(cut)))
        self.lots.give_back(cut)
        self.there = sorted(self.there + points)

    @precondition(lambda self: self.cuts)
    @rule(data=st.data())
    def give_a_part_back(self, data: st.DataObject) -> None:
        cut = self.cuts.pop(data.draw(st.integers(0, len(self.cuts) - 1)))
        points = self.named(list(self.lots.pieces(cut)))
        kept = data.draw(st.integers(0, len(points)))
        first, rest = self.lots.split(cut, kept)
        assert self.named(list(self.lots.pieces(first))) == points[:kept]
        assert self.named(list(self.lots.pieces(rest))) == points[kept:]
        self.lots.give_back(rest)
        self.there = sorted(self.there + points[kept:])
        if first:
            self.cuts.append(first)

    @precondition(lambda self: self.earned)
    @rule(data=st.data(), amount=amounts)
    def take_from(self, data: st.DataObject, amount: int) -> None:
        lot = data.draw(st.sampled_from(self.earned))
        expected = [point for point in self.named([lot]) if point in self.there][:amount]
        taken = self.lots.take_from(lot, amount)
        assert self.named(list(self.lots.pieces(taken))) == expected
        self.forget(expected)

    @invariant()
    def a_cut_names_the_same_points_for_ever(self) -> None:
        for cut, points in self.ever:
            assert self.named(list(self.lots.pieces(cut))) == points

    @invariant()
    def what_is_there_is_the_same_in_the_same_order(self) -> None:
        assert self.named(list(self.lots.open_pieces())) == self.there
        assert self.there == sorted(self.there, key=itemgetter(0, 1))


TestLots = Lots.TestCase
TestLots.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
