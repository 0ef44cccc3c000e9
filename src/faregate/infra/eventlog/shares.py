"""What a member of a group knows of the partitions it holds, and what it reads next. Pure, no SQL here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SAVE_EVERY = 10_000
"""How far a position may run ahead in memory, over events of other types, before it is saved …"""

SAVE_EVERY_LEASES = 3
"""… and for how many leases at most: what nobody has to handle any more may go to cold storage."""


@dataclass(slots=True, kw_only=True)
class Share:
    """One partition in this member's hands, under the fence it was given with.

    After a failure the events up to `careful_until` are handled one at a time, which finds the one at
    fault; until `retry_at` (monotonic seconds) the partition rests.
    """

    partition: int
    fence: int
    position: int
    saved: int
    careful_until: int = 0
    failures: int = 0
    retry_at: float = 0.0

    @property
    def careful(self) -> bool:
        """Whether its next events are handled alone, one at a time."""
        return self.position < self.careful_until

    def moved_to(self, position: int, *, saved: bool) -> None:
        """Everything up to the position was handled, or is of no concern."""
        self.position = position
        self.saved = position if saved else self.saved
        self.failures = 0

    def failed(self, *, at_seq: int, retry_at: float) -> None:
        """An event alone could not be handled: rest, then try it alone again."""
        self.careful_until = max(self.careful_until, at_seq)
        self.failures += 1
        self.retry_at = retry_at


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """Partitions to read together: they stand at the same position, and may be read up to `upto`."""

    shares: Sequence[Share]
    after: int
    upto: int
    limit: int

    @property
    def of_one_event(self) -> bool:
        """Whether a failure can only be the fault of the one event that was read."""
        return self.limit == 1 and len(self.shares) == 1


def updated(shares: Mapping[int, Share], rows: Iterable[Mapping[str, Any]]) -> dict[int, Share]:
    """Return the shares after a rebalance: what is held under the same fence keeps its memory."""
    result = {}
    for row in rows:
        known = shares.get(row["partition"])
        if known is None or known.fence != row["fence"]:
            position = row["position"]
            known = Share(partition=row["partition"], fence=row["fence"], position=position, saved=position)
        result[row["partition"]] = known
    return result


def reads(shares: Iterable[Share], *, now: float, batch_max: int, window: int) -> list[Read]:
    """Return what to read in one round: healthy partitions in common, careful ones alone if rested.

    Partitions at the same position share one read, and those behind read no farther than to the next
    ones, where they join. `window` bounds how many places of the log one read looks at.
    """
    held = sorted(shares, key=lambda share: share.position)
    healthy = [share for share in held if not share.careful]
    positions = sorted({share.position for share in healthy})
    common = []
    for index, after in enumerate(positions):
        upto = min([after + window, *positions[index + 1 : index + 2]])
        together = [share for share in healthy if share.position == after]
        common.append(Read(shares=together, after=after, upto=upto, limit=batch_max))
    alone = [
        Read(shares=[share], after=share.position, upto=share.position + window, limit=1)
        for share in held
        if share.careful and share.retry_at <= now
    ]
    return common + alone


def end_of(read: Read, *, head: int, seqs: Sequence[int]) -> int:
    """Return the position that a read has reached: its last event if cut short, else the end of its range."""
    return seqs[-1] if len(seqs) == read.limit else max(read.after, min(head, read.upto))
