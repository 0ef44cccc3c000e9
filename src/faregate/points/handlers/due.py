"""Does what is due in the ledger by itself: releases holds whose time is over, lets points expire whose day is.

Nobody depends on it for being right: whoever touches an account does first what is due there.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from itertools import count

from faregate.infra.database import Database
from faregate.kernel.clock import Clock
from faregate.points.contracts.ledger import Settle
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store import reading

PAGE = 500


class Due:
    """What is due. Any number of processes may do it at once: each account is done by who locks it first."""

    def __init__(
        self,
        *,
        database: Database,
        writer: LedgerWriter,
        day_of: Callable[[datetime], date],
        clock: Clock | None = None,
    ) -> None:
        self._database = database
        self._writer = writer
        self._day_of = day_of
        self._clock = clock

    async def release_holds(self) -> int:
        """Release holds whose time is over; return on how many accounts."""
        released = 0
        while members := await self._with_due_holds():
            await self._settle(members)
            released += len(members)
        return released

    async def expire_points(self) -> int:
        """Let points expire whose day is over, once for each day; return how many accounts were looked at.

        The day before is looked at again: at midnight a lot of it may still have been on its way.
        """
        async with self._database.connection() as conn:
            done_until, now = await reading.expired_until(conn, now=self._now())
        today = self._day_of(now)
        yesterday = today - timedelta(days=1)
        after = looked_at = 0
        while done_until < yesterday:
            async with self._database.connection() as conn:
                members, after = await reading.members_with_expiring(
                    conn, since=done_until - timedelta(days=1), today=today, after=after, limit=PAGE
                )
            await self._settle(members)
            looked_at += len(members)
            if len(members) < PAGE:
                async with self._database.connection() as conn:
                    await reading.note_expired_until(conn, yesterday)
                break
        return looked_at

    async def _with_due_holds(self) -> list[str]:
        async with self._database.connection() as conn:
            return await reading.members_of_due_holds(conn, now=self._now(), limit=PAGE)

    async def _settle(self, members: list[str]) -> None:
        if members:
            keys = count()
            await self._writer.write([Settle(key=f"settle:{next(keys)}", member_id=one) for one in members])

    def _now(self) -> datetime | None:
        return None if self._clock is None else self._clock.now()
