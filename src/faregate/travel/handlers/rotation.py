"""Puts what identifies travellers, their accounts at partners, and partners' raw answers under the current key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from faregate.gateway.api import reseal_answers
from faregate.infra.database import Connection, Database
from faregate.travel.handlers.tools import Tools
from faregate.travel.store import redemptions, transfers

_PAGE: Final = 200


async def rotate_keys(database: Database, *, tools: Tools, on_progress: Callable[[int], None]) -> int:
    """Re-encrypt page by page; return how many values changed. It can be stopped and begun again at any time."""
    changed = await _rotate(
        database, redemptions.sealed_after, redemptions.reseal, tools.reseal, on_progress=on_progress
    )
    changed += await _rotate(
        database,
        transfers.sealed_accounts_after,
        transfers.reseal_account,
        tools.reseal_account,
        on_progress=on_progress,
    )
    return changed + await reseal_answers(database, reseal=tools.reseal_answer, on_progress=on_progress)


async def _rotate(
    database: Database,
    page_after: Any,
    save: Callable[[Connection, str, bytes], Awaitable[None]],
    reseal: Callable[[str, bytes], bytes],
    *,
    on_progress: Callable[[int], None],
) -> int:
    changed, after_id = 0, ""
    while True:
        async with database.transaction() as conn:
            page = await page_after(conn, after_id=after_id, limit=_PAGE)
            for id_, sealed in page:
                now_sealed = reseal(id_, sealed)
                if now_sealed != sealed:
                    await save(conn, id_, now_sealed)
                    changed += 1
        if not page:
            return changed
        after_id = page[-1][0]
        on_progress(changed)
