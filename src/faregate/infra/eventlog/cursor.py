"""Where the sequencer stands in the outbox: which rows it need not look for any more. Pure, no SQL here.

`ord` values commit out of order, so the sequencer may not simply read on from the last one it saw. Reading
the whole outbox each time walks over every dead row that some old snapshot keeps from being vacuumed. So it
reads on from the last `ord`, and remembers each one that it found missing until that one appears or until
every transaction that could have drawn it has ended.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

MISSING_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Scan:
    """What one look at the outbox found. `xmin` and `xmax` are the bounds of its snapshot.

    `top` is the last `ord` that was drawn before the snapshot was taken; `ords` are the rows found,
    ascending; `complete` is false when there may be more than these.
    """

    ords: Sequence[int]
    complete: bool
    top: int
    xmin: int
    xmax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Every `ord` up to `top` was drawn by a transaction older than `xmax`."""

    top: int
    xmax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cursor:
    """Every `ord` up to `after` was moved, never comes, or is in `missing`. A cold one reads everything."""

    after: int = 0
    missing: frozenset[int] = field(default_factory=frozenset)
    warm: bool = False
    checkpoint: Checkpoint | None = None

    def advanced(self, scan: Scan) -> Cursor:
        """Return the cursor after the rows of a scan were moved."""
        cursor = self._past_checkpoint(scan)
        if cursor.warm:
            cursor = cursor._past_rows(scan.ords)
        if len(cursor.missing) > MISSING_MAX:
            return Cursor()  # reading everything is slower and always right
        if cursor.checkpoint is None and (cursor.missing or not cursor.warm):
            cursor = replace(cursor, checkpoint=Checkpoint(top=scan.top, xmax=scan.xmax))
        return cursor

    def _past_checkpoint(self, scan: Scan) -> Cursor:
        """Forget what is still missing though all transactions that could bring it ended before the scan."""
        passed = self.checkpoint
        if passed is None or not scan.complete or scan.xmin < passed.xmax:
            return self
        return replace(
            self,
            after=self.after if self.warm else passed.top,
            missing=frozenset(ord_ for ord_ in self.missing if ord_ > passed.top),
            warm=True,
            checkpoint=None,
        )

    def _past_rows(self, ords: Sequence[int]) -> Cursor:
        last = max(self.after, ords[-1] if ords else 0)
        skipped = range(self.after + 1, last)
        if len(skipped) > MISSING_MAX + len(ords):
            return Cursor()
        if not skipped and not self.missing:
            return replace(self, after=last)
        missing = (self.missing | frozenset(skipped)) - frozenset(ords)
        return replace(self, after=last, missing=missing)
