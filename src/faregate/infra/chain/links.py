"""A chain: links over recorded rows, each covering the one before, and the first place where it is broken.

Pure: reading rows, numbering them and keeping the chain's end elsewhere do not belong here. The idea is that of linked
time-stamps (Haber and Stornetta, "How to time-stamp a digital document", Journal of Cryptology 3, 1991).
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

SUM_BYTES: Final = 8
_NO_VALUE: Final = bytes(SUM_BYTES)


@dataclass(frozen=True, slots=True, kw_only=True)
class Anchored:
    """The end of a chain as it is noted outside of the database: its last link's number and hash, in hex."""

    seq: int
    sha256: str
    anchored_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """A recorded row as it is read now. `sha256` is of all its columns, `column_sums` eight bytes a column in order.

    `parts` names what the sums are of where that is not the columns of a table.
    """

    subject: str
    ord: int
    key: str
    sha256: bytes
    column_sums: bytes
    parts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A row as it was when it was sealed. `sha256` covers all of this and the link before."""

    seq: int
    subject: str
    ord: int
    key: str
    row_sha256: bytes
    column_sums: bytes
    sealed_at: datetime
    sha256: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The end of a chain: its last link's number and hash."""

    seq: int = 0
    sha256: bytes = bytes(32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Break:
    """The first broken row: its table and key, the columns that changed if that can be told, and what is wrong."""

    table: str
    key: str
    columns: tuple[str, ...] = ()
    what: str

    def __str__(self) -> str:
        """Return one line that names the row."""
        columns = f" ({', '.join(self.columns)})" if self.columns else ""
        return f"{self.table} {self.key}{columns}: {self.what}"


def sealed(
    rows: Iterable[Row], *, after: Head, sealed_at: datetime, apart: timedelta = timedelta(0)
) -> list[Link]:
    """Return the links of rows, in their order, that go on from the end of the chain, each so much after the last."""
    links: list[Link] = []
    for number, row in enumerate(rows):
        link = Link(
            seq=after.seq + 1,
            subject=row.subject,
            ord=row.ord,
            key=row.key,
            row_sha256=row.sha256,
            column_sums=row.column_sums,
            sealed_at=sealed_at + number * apart,
            sha256=b"",
        )
        links.append(replace(link, sha256=link_sha256(link, previous=after.sha256)))
        after = Head(seq=link.seq, sha256=links[-1].sha256)
    return links


def link_sha256(link: Link, *, previous: bytes) -> bytes:
    """Return the SHA-256 of a link's canonical JSON (RFC 8785). Of integers and text, orjson writes the same form."""
    covered = {
        "seq": link.seq,
        "subject": link.subject,
        "ord": link.ord,
        "key": link.key,
        "row_sha256": link.row_sha256.hex(),
        "column_sums": link.column_sums.hex(),
        "sealed_at": link.sealed_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "previous_sha256": previous.hex(),
    }
    return hashlib.sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).digest()


class Inspection:
    """Walks a chain link by link, from the first one, and stops at the first that is broken.

    `columns` are the names of each table's columns in their order, `anchors` the ends that were noted outside, `links`
    and `sealer` the tables of the chain itself.
    """

    def __init__(
        self,
        *,
        columns: Mapping[str, Sequence[str]],
        anchors: Iterable[Anchored] = (),
        links: str = "audit_link",
        sealer: str = "audit_sealer",
    ) -> None:
        self.head = Head()
        self._links = links
        self._sealer = sealer
        self._columns = columns
        self._anchors: dict[int, list[Anchored]] = {}
        for anchor in anchors:
            self._anchors.setdefault(anchor.seq, []).append(anchor)

    def of_link(self, link: Link, row: Row | None) -> Break | None:
        """Go on to a link and the row that it covers, None if that is gone; return what is broken."""
        expected = self.head.seq + 1
        if link.seq != expected:
            return Break(table=self._links, key=str(expected), what="the link is gone")
        if link_sha256(link, previous=self.head.sha256) != link.sha256:
            changed = _changed_of_link(link, row, previous=self.head.sha256)
            what = "the link does not follow from what it covers and the link before"
            return Break(table=self._links, key=str(link.seq), columns=changed, what=what)
        if (broken := self._of_row(link, row) or self._of_anchor(link)) is None:
            self.head = Head(seq=link.seq, sha256=link.sha256)
        return broken

    def at_end(self, recorded: Head) -> Break | None:
        """Compare the end of the chain with the one that the sealer recorded and those noted outside."""
        reached = max([recorded.seq, *self._anchors])
        if reached > self.head.seq:
            seen = "the sealer" if recorded.seq == reached else "an anchor"
            what = f"the chain ends before it, although {seen} saw link {reached}"
            return Break(table=self._links, key=str(self.head.seq + 1), what=what)
        if recorded != self.head:
            column = "seq" if recorded.seq != self.head.seq else "sha256"
            what = f"the chain ends at link {self.head.seq}, which is another end"
            return Break(table=self._sealer, key=str(recorded.seq), columns=(column,), what=what)
        return None

    def _of_row(self, link: Link, row: Row | None) -> Break | None:
        if row is None:
            return Break(table=link.subject, key=link.key, what="the row is gone")
        if (row.sha256, row.key) == (link.row_sha256, link.key):
            return None
        if row.parts:
            changed = changed_parts(link.column_sums, row.column_sums, names=row.parts)
        else:
            changed = changed_columns(link.column_sums, row.column_sums, names=self._columns[link.subject])
        return Break(
            table=link.subject, key=link.key, columns=changed, what="the row is not as it was sealed"
        )

    def _of_anchor(self, link: Link) -> Break | None:
        for anchor in self._anchors.get(link.seq, []):
            if anchor.sha256 != link.sha256.hex():
                noted = anchor.anchored_at.isoformat(timespec="seconds")
                what = f"the chain was written anew: the anchor of {noted} has another hash of this link"
                return Break(table=self._links, key=str(link.seq), columns=("sha256",), what=what)
        return None


def changed_columns(sealed_sums: bytes, sums: bytes, *, names: Sequence[str]) -> tuple[str, ...]:
    """Return the columns whose sums differ. A column that was added later counts only if it has a value by now."""
    return tuple(
        name for place, name in enumerate(names) if _sum_at(place, sealed_sums) != _sum_at(place, sums)
    )


def changed_parts(sealed_sums: bytes, sums: bytes, *, names: Sequence[str]) -> tuple[str, ...]:
    """Return the parts of a row that are not as they were sealed, and how many are gone beside them."""
    sealed = Counter(_sum_at(place, sealed_sums) for place in range(len(sealed_sums) // SUM_BYTES))
    changed: list[str] = []
    for place, name in enumerate(names):
        now = _sum_at(place, sums)
        if sealed[now]:
            sealed[now] -= 1
        else:
            changed.append(name)
    gone = sealed.total() - len(changed)
    return (*changed, *([f"{gone} gone"] if gone > 0 else ()))


def _sum_at(place: int, sums: bytes) -> bytes:
    return sums[place * SUM_BYTES : (place + 1) * SUM_BYTES] or _NO_VALUE


def _changed_of_link(link: Link, row: Row | None, *, previous: bytes) -> tuple[str, ...]:
    """Return the column of a link that must have changed, if the covered row still tells its value."""
    if row is None:
        return ()
    restored = {
        "row_sha256": replace(link, row_sha256=row.sha256),
        "column_sums": replace(link, column_sums=row.column_sums),
        "key": replace(link, key=row.key),
    }
    return tuple(
        name for name, right in restored.items() if link_sha256(right, previous=previous) == link.sha256
    )
