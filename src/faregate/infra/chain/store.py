"""A chain's rows, by the SQL of whoever uses it: what is not sealed yet, the links, the lease of the sealer."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from faregate.infra.chain.links import Head, Link, Row
from faregate.infra.database import Connection
from faregate.infra.queries import Queries

PAGE = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """The right to seal. Every row with a number up to `settled_ord` was sealed, or never comes."""

    fence: int
    settled_ord: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Unsealed:
    """Rows without a link, with what the cursor must know of the snapshot that saw them."""

    rows: Sequence[Row]
    top: int
    xmin: int
    xmax: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecordedHead:
    """The end of the chain as the sealer recorded it."""

    head: Head
    settled_ord: int
    sealed_at: datetime | None = None


class ChainStore:
    """The rows of one chain. `name` is that of its sealer; each link is so much `apart` from the last in time."""

    def __init__(
        self,
        *,
        name: str,
        queries: Queries,
        links_table: str,
        sealer_table: str,
        apart: timedelta = timedelta(0),
    ) -> None:
        self.name = name
        self.links_table = links_table
        self.sealer_table = sealer_table
        self.apart = apart
        self._queries = queries

    async def acquire_lease(self, conn: Connection, *, holder: str, lease_s: float) -> Lease | None:
        """Take the lease, None while another holds it."""
        row = await (
            await conn.execute(self._queries["acquire_lease"], {"holder": holder, "lease_s": lease_s})
        ).fetchone()
        return Lease(**row) if row else None

    async def renew_lease(self, conn: Connection, *, fence: int, lease_s: float) -> bool:
        """Extend the lease; False if it was lost."""
        cursor = await conn.execute(self._queries["renew_lease"], {"fence": fence, "lease_s": lease_s})
        return await cursor.fetchone() is not None

    async def release_lease(self, conn: Connection, *, fence: int) -> None:
        """Give the lease back, if it is still ours."""
        await conn.execute(self._queries["release_lease"], {"fence": fence})

    async def unsealed_rows(
        self, conn: Connection, *, after: int, missing: Sequence[int], limit: int
    ) -> Unsealed:
        """Return rows without a link: those numbered above `after`, and the `missing` ones that came up."""
        await conn.execute(self._queries["read_exactly"])
        top = await self.last_ord(conn)
        given = {"after": after, "missing": list(missing), "limit": limit}
        found = await (await conn.execute(self._queries["unsealed_rows"], given)).fetchall()
        return Unsealed(
            rows=[_row(row) for row in found if row["ord"] is not None],
            top=top,
            xmin=int(found[0]["xmin"]),
            xmax=int(found[0]["xmax"]),
        )

    async def last_ord(self, conn: Connection) -> int:
        """Return the last number that was drawn, by whatever transaction."""
        [row] = await (await conn.execute(self._queries["last_ord"])).fetchall()
        return int(row["top"])

    async def numbers_without_link(self, conn: Connection, *, after: int, upto: int, limit: int) -> list[int]:
        """Return the numbers in a range that no link stands for: of rows that come, or never come."""
        given = {"after": after, "upto": upto, "limit": limit}
        cursor = await conn.execute(self._queries["numbers_without_link"], given)
        return [row["ord"] for row in await cursor.fetchall()]

    async def lock_head(self, conn: Connection, *, fence: int) -> RecordedHead | None:
        """Lock the end of the chain to the end of the transaction; None if the fence is an old one."""
        row = await (await conn.execute(self._queries["lock_head"], {"fence": fence})).fetchone()
        return _recorded(row) if row else None

    async def append_links(
        self, conn: Connection, links: Sequence[Link], *, fence: int, head: Head, settled_ord: int
    ) -> None:
        """Insert links and move the end of the chain, which the caller has locked."""
        if links:
            given = {
                "seqs": [link.seq for link in links],
                "subjects": [link.subject for link in links],
                "ords": [link.ord for link in links],
                "keys": [link.key for link in links],
                "row_sha256s": [link.row_sha256 for link in links],
                "column_sums": [link.column_sums for link in links],
                "sha256s": [link.sha256 for link in links],
                "sealed_ats": [link.sealed_at for link in links],
            }
            await conn.execute(self._queries["insert_links"], given)
        moved = {"fence": fence, "seq": head.seq, "sha256": head.sha256, "settled_ord": settled_ord}
        await conn.execute(self._queries["move_head"], moved)

    async def recorded_head(self, conn: Connection) -> RecordedHead:
        """Return the end of the chain as the sealer recorded it."""
        [row] = await (await conn.execute(self._queries["head"])).fetchall()
        return _recorded(row)

    async def covered_columns(self, conn: Connection) -> Mapping[str, Sequence[str]]:
        """Return the columns of each covered table, in their order."""
        cursor = await conn.execute(self._queries["columns"])
        return {row["table"]: row["columns"] for row in await cursor.fetchall()}

    async def links(self, conn: Connection, *, page: int = PAGE) -> AsyncIterator[tuple[Link, Row | None]]:
        """Yield the whole chain from its first link, each link with the row that it covers as it is now."""
        await conn.execute(self._queries["read_exactly"])
        after = 0
        while rows := await (
            await conn.execute(self._queries["links"], {"after": after, "limit": page})
        ).fetchall():
            for row in rows:
                yield _link(row), _row_now(row)
            after = rows[-1]["seq"]

    async def first_stranger(self, conn: Connection, *, settled_ord: int) -> tuple[str, str] | None:
        """Return table and key of the first row that should have been sealed long ago and was not."""
        row = await (await conn.execute(self._queries["strangers"], {"settled_ord": settled_ord})).fetchone()
        return (row["subject"], row["key"]) if row else None

    async def waiting(self, conn: Connection) -> tuple[int, float]:
        """Return how many rows are not sealed yet, and the age of the oldest of them in seconds."""
        [row] = await (await conn.execute(self._queries["waiting"])).fetchall()
        return row["rows"], row["seconds"]


def _row(row: Mapping[str, Any]) -> Row:
    return Row(
        subject=row["subject"],
        ord=row["ord"],
        key=row["key"],
        sha256=bytes(row["sha256"]),
        column_sums=bytes(row["column_sums"]),
        parts=tuple(row.get("parts") or ()),
    )


def _recorded(row: Mapping[str, Any]) -> RecordedHead:
    return RecordedHead(
        head=Head(seq=row["seq"], sha256=bytes(row["sha256"])),
        settled_ord=row["settled_ord"],
        sealed_at=row.get("sealed_at"),
    )


def _link(row: Mapping[str, Any]) -> Link:
    return Link(
        seq=row["seq"],
        subject=row["subject"],
        ord=row["ord"],
        key=row["key"],
        row_sha256=bytes(row["row_sha256"]),
        column_sums=bytes(row["column_sums"]),
        sealed_at=row["sealed_at"],
        sha256=bytes(row["sha256"]),
    )


def _row_now(row: Mapping[str, Any]) -> Row | None:
    if row["key_now"] is None:
        return None
    return Row(
        subject=row["subject"],
        ord=row["ord"],
        key=row["key_now"],
        sha256=bytes(row["row_sha256_now"]),
        column_sums=bytes(row["column_sums_now"]),
        parts=tuple(row.get("parts_now") or ()),
    )
