"""Looks after many pools at once: one question tells which of them have something to do, and those are woken.

Without it each pool asks for itself, some twenty times a second; with thirty providers that is most of what a process
does. A pool that is woken for nothing, or not woken at all, loses nothing: it looks for itself now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from faregate.gateway.poller import Intervals, Poller
from faregate.gateway.pool import ProviderPool
from faregate.gateway.store.journal import due_providers
from faregate.infra.database import Database

SCOUTED: Final = Intervals(busy_s=1.0, idle_s=1.0)
"""How often a pool looks for itself that a scout wakes."""


class Scout:
    """Wakes the pools of one owner. `intervals` are those at which it asks."""

    def __init__(self, *, database: Database, pools: Sequence[ProviderPool], intervals: Intervals) -> None:
        self._database = database
        self._pools = {pool.provider: pool for pool in pools}
        self._poller = Poller(name="scout", work=self._wake_due, intervals=intervals)

    async def run(self, stop: asyncio.Event) -> None:
        """Wake pools until `stop` is set."""
        await self._poller.run(stop)

    async def _wake_due(self) -> int:
        async with self._database.connection() as conn:
            due = await due_providers(conn, list(self._pools))
        for provider in due:
            self._pools[provider].wake()
        return len(due)
