"""The sequencer's cursor against a model of snapshots: transactions draw, commit, roll back in any order."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from faregate.infra.eventlog import cursor as cursor_module
from faregate.infra.eventlog.cursor import Cursor, Scan

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.integers(0, 7)),
        st.tuples(st.just("commit"), st.integers(0, 7)),
        st.tuples(st.just("rollback"), st.integers(0, 7)),
        st.tuples(st.just("scan"), st.integers(1, 6)),
    ),
    max_size=120,
)


@dataclass
class Outbox:
    """Up to eight writers at once. A writer's transaction begins, and gets its xid, with its first draw."""

    open: dict[int, tuple[int, list[int]]] = field(default_factory=dict)
    committed: set[int] = field(default_factory=set)
    moved: list[int] = field(default_factory=list)
    next_xid: int = 100
    top: int = 0
    cursor: Cursor = field(default_factory=Cursor)

    def draw(self, writer: int) -> None:
        if writer not in self.open:
            self.open[writer] = (self.next_xid, [])
            self.next_xid += 1
        self.top += 1
        self.open[writer][1].append(self.top)

    def commit(self, writer: int) -> None:
        self.committed.update(self.open.pop(writer, (0, []))[1])

    def rollback(self, writer: int) -> None:
        self.open.pop(writer, None)

    def scan(self, limit: int) -> bool:
        visible = [o for o in sorted(self.committed) if o > self.cursor.after or o in self.cursor.missing]
        ords = visible[:limit]
        self.committed -= set(ords)
        self.moved += ords
        complete = len(ords) < limit
        xmin = min([xid for xid, _ in self.open.values()], default=self.next_xid)
        found = Scan(ords=ords, complete=complete, top=self.top, xmin=xmin, xmax=self.next_xid)
        self.cursor = self.cursor.advanced(found)
        return complete


@given(OPERATIONS)
def test_a_complete_scan_leaves_no_committed_row_behind(operations: list[tuple[str, int]]) -> None:
    outbox = Outbox()
    for name, argument in operations:
        complete = getattr(outbox, name)(argument)
        assert not (complete and outbox.committed)


@given(OPERATIONS)
def test_every_committed_row_is_moved_once_however_the_scans_fall(operations: list[tuple[str, int]]) -> None:
    outbox = Outbox()
    for name, argument in operations:
        getattr(outbox, name)(argument)
    for writer in list(outbox.open):
        outbox.commit(writer)
    while not outbox.scan(limit=5):
        pass
    assert not outbox.committed
    assert len(outbox.moved) == len(set(outbox.moved))


@given(OPERATIONS)
def test_nothing_is_remembered_once_every_transaction_has_ended(operations: list[tuple[str, int]]) -> None:
    outbox = Outbox()
    for name, argument in operations:
        getattr(outbox, name)(argument)
    outbox.open.clear()
    for _ in range(8):
        outbox.scan(limit=50)
    assert outbox.cursor.warm
    assert outbox.cursor.missing == frozenset()


def test_a_cursor_with_too_much_to_remember_reads_everything_again() -> None:
    warm = Cursor(after=10, warm=True)
    far = 10 + cursor_module.MISSING_MAX + 5
    assert warm.advanced(Scan(ords=[far], complete=True, top=far, xmin=5, xmax=6)).after == 0
