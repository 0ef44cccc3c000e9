"""Fills a database with as many decided applications as wanted, by copying real ones with all that belongs to them.

Copies are for volume only: what is hashed over an id, such as a decision's inputs, is not recomputed, and the audit
chain has no links for them, so that an audit of them must fail. Only for a database of a benchmark's own, while no
worker runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from faregate.infra.database import Connection, Database
from faregate.infra.queries import load_queries
from faregate.kernel.errors import InvalidError

_QUERIES = load_queries(__package__)
COPIES_A_BATCH = 10_000


class NothingToCopy(InvalidError):
    """None of the applications has been decided and is at its end."""


async def fill(
    database: Database, *, originals: Sequence[str], size: int, on_progress: Callable[[int], None]
) -> int:
    """Copy the applications with these ids until there are about `size` in all; return how many there are.

    `database` acts as the server's superuser. Less than one copy of each original is not made: a store that is larger
    than `size` stays as it is.
    """
    async with await database.connect() as conn:
        stored = await _stored(conn)
        noted = await conn.execute(_QUERIES["note_originals"], {"ids": list(originals)})
        if noted.rowcount < 1:
            raise NothingToCopy("there is no finished application that could be copied")
        for name in ("make_copies_table", "make_copier", "make_copy_of_everything", "without_triggers"):
            await conn.execute(_QUERIES[name])
        for first, last in _batches(wanted=(size - stored) // noted.rowcount, originals=noted.rowcount):
            # Numbers that no earlier fill used: the store only grows.
            await conn.execute(_QUERIES["name_copies"], {"first": stored + first, "last": stored + last})
            await conn.execute(_QUERIES["copy_everything"])
            await conn.execute(_QUERIES["forget_copies"])
            on_progress(stored + last * noted.rowcount)
        for name in (
            "consumers_have_read_everything",
            "the_chain_goes_on_after_the_copies",
            "tidy",
            "write_everything_out",
        ):
            await conn.execute(_QUERIES[name])
        return await _stored(conn)


def _batches(*, wanted: int, originals: int) -> list[tuple[int, int]]:
    """Return the first and the last copy of each batch, counted from 1."""
    step = max(1, COPIES_A_BATCH // originals)
    return [(first, min(first + step - 1, wanted)) for first in range(1, wanted + 1, step)]


async def _stored(conn: Connection) -> int:
    row = await (await conn.execute(_QUERIES["stored"])).fetchone()
    return int(row["applications"]) if row else 0
