"""Puts what identifies travellers, and partners' raw answers, under the current key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from faregate.gateway.api import reseal_answers
from faregate.infra.database import Database
from faregate.travel.handlers.tools import Tools
from faregate.travel.store import redemptions as store

_PAGE: Final = 200


async def rotate_keys(database: Database, *, tools: Tools, on_progress: Callable[[int], None]) -> int:
    """Re-encrypt page by page; return how many values changed. It can be stopped and begun again at any time."""
    changed, after_id = 0, ""
    while True:
        async with database.transaction() as conn:
            page = await store.sealed_after(conn, after_id=after_id, limit=_PAGE)
            for redemption_id, sealed in page:
                now_sealed = tools.reseal(redemption_id, sealed)
                if now_sealed != sealed:
                    await store.reseal(conn, redemption_id, now_sealed)
                    changed += 1
        if not page:
            break
        after_id = page[-1][0]
        on_progress(changed)
    return changed + await reseal_answers(database, reseal=tools.reseal_answer, on_progress=on_progress)
