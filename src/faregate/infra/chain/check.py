"""Checks a chain from its first link to its end, and notes its end outside of the database."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from faregate.infra.chain.anchors import append_anchor, read_anchors
from faregate.infra.chain.links import Anchored, Break, Inspection
from faregate.infra.chain.store import ChainStore
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError


class ChainEmpty(ConflictError):
    """The chain has no link yet: there is no end to note."""


async def inspect(
    conn: Connection, *, store: ChainStore, anchors: Sequence[Anchored]
) -> tuple[int, Break | None]:
    """Return how many links hold from the first one on, and the first row that is broken."""
    inspection = Inspection(
        columns=await store.covered_columns(conn),
        anchors=anchors,
        links=store.links_table,
        sealer=store.sealer_table,
    )
    async for link, row in store.links(conn):
        if (broken := inspection.of_link(link, row)) is not None:
            return inspection.head.seq, broken
    recorded = await store.recorded_head(conn)
    if (broken := inspection.at_end(recorded.head)) is not None:
        return inspection.head.seq, broken
    if (stranger := await store.first_stranger(conn, settled_ord=recorded.settled_ord)) is not None:
        table, key = stranger
        what = "the row is not in the chain: it was put in afterwards, or its link was taken out"
        return inspection.head.seq, Break(table=table, key=key, what=what)
    return inspection.head.seq, None


async def note_anchor(database: Database, *, store: ChainStore, path: Path, clock: Clock) -> Anchored:
    """Note the end of the chain in a file, unless its last line says the same or there is no link yet."""
    async with database.connection() as conn:
        head = (await store.recorded_head(conn)).head
    noted = read_anchors(path)
    if noted and (noted[-1].seq, noted[-1].sha256) == (head.seq, head.sha256.hex()):
        return noted[-1]
    anchor = Anchored(seq=head.seq, sha256=head.sha256.hex(), anchored_at=clock.now())
    if head.seq:
        append_anchor(path, anchor)
    return anchor


def require_links(anchor: Anchored) -> Anchored:
    """Return an anchor that notes the end of some link. Raises ChainEmpty."""
    if not anchor.seq:
        raise ChainEmpty(
            "the chain has no link yet, so nothing was noted: let a worker seal it, then try again"
        )
    return anchor
