"""One LISTEN connection a process wakes every consumer in it. Reading events does not belong here."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from types import TracebackType

import structlog

from faregate.infra.database import Connection, Database
from faregate.infra.eventlog.outage import OUTAGES, Backoff

_log = structlog.get_logger(__name__)


class Listener:
    """`async with Listener(database) as listener:` listens until the end of the block.

    It may miss notifications while the database restarts, so consumers also look for themselves now and then.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._waiting: dict[frozenset[str] | None, asyncio.Event] = {}
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Listener:
        self._task = asyncio.create_task(self._listen_for_ever(), name="eventlog-listener")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    def next_batch(self, types: frozenset[str] | None = None) -> asyncio.Event:
        """Return the flag that the next batch sets which has an event of these types, of any if None.

        Take it before you look: then none is missed.
        """
        return self._waiting.setdefault(types, asyncio.Event())

    async def _listen_for_ever(self) -> None:
        backoff = Backoff()
        while True:
            try:
                async with await self._database.connect() as conn:
                    await self._listen(conn, backoff)
            except OUTAGES as error:
                pause_s = backoff.next_s()
                _log.warning("eventlog.listener_disconnected", error=str(error), retry_s=pause_s)
                await asyncio.sleep(pause_s)

    async def _listen(self, conn: Connection, backoff: Backoff) -> None:
        await conn.execute("listen eventlog")
        backoff.reset()
        self._wake(frozenset())
        async for notice in conn.notifies():
            self._wake(frozenset(notice.payload.split()))

    def _wake(self, written: frozenset[str]) -> None:
        """Wake those who wait for one of these types, everybody if none is named."""
        for types in [types for types in self._waiting if not written or types is None or types & written]:
            self._waiting.pop(types).set()
