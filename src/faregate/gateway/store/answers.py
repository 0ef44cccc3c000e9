"""The encrypted raw answers in the journal, for the rotation of the key that their owner encrypts them with."""

from __future__ import annotations

from collections.abc import Callable

from faregate.infra.database import Connection, Database
from faregate.infra.queries import load_queries

_QUERIES = load_queries(__package__)
_PAGE = 200

Reseal = Callable[[str, bytes], bytes]
"""Turns the answer to a request into the same answer under the current key; unchanged if it is already."""


async def reseal_answers(database: Database, *, reseal: Reseal, on_progress: Callable[[int], None]) -> int:
    """Put every raw answer of the connection's role under the current key; return how many changed.

    It works page by page and may be stopped and begun again at any time.
    """
    changed, after_request, after_ord = 0, "", 0
    while True:
        async with database.transaction() as conn:
            given = {"after_request": after_request, "after_ord": after_ord, "most": _PAGE}
            page = await (await conn.execute(_QUERIES["sealed_answers"], given)).fetchall()
            for row in page:
                changed += await _reseal_one(
                    conn, row["provider_request_id"], row["ord"], row["response"], reseal
                )
        if not page:
            return changed
        after_request = max(
            (r["provider_request_id"] for r in page if r["ord"] is None), default=after_request
        )
        after_ord = max((r["ord"] for r in page if r["ord"] is not None), default=after_ord)
        on_progress(changed)


async def _reseal_one(
    conn: Connection, provider_request_id: str, ord_: int | None, stored: bytes, reseal: Reseal
) -> bool:
    old = bytes(stored)
    new = reseal(provider_request_id, old)
    if new == old:
        return False
    given = {"provider_request_id": provider_request_id, "ord": ord_, "old": old, "new": new}
    row = await (await conn.execute(_QUERIES["reseal_answer"], given)).fetchone()
    return bool(row and row["resealed"])
