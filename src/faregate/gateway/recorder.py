"""Writes what became of intents: journal, successors and the owner's own rows in one transaction for many.

What to write is decided before (`settlement`). Lock order: callbacks, intents by id, then the owner's rows.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from faregate.gateway.hooks import Hooks
from faregate.gateway.intent import Settled
from faregate.gateway.metrics import REFUSED, SETTLED
from faregate.gateway.store import journal
from faregate.gateway.store.journal import Write
from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Connection, Database
from faregate.kernel.errors import ConflictError


class SuccessorRefused(ConflictError):
    """A further attempt could not be declared: another request about the same check stands in its way."""


async def write_changes(conn: Connection, writes: Sequence[Write], *, hooks: Hooks) -> set[str]:
    """Write in the caller's transaction, tell the owner, and return the ids that were still ours to write."""
    recorded = await journal.record(conn, writes)
    kept = sorted(
        (write for write in writes if write.change.intent.provider_request_id in recorded),
        key=lambda write: write.change.intent.provider_request_id,
    )
    told = {write.change.intent.subject_id for write in kept if write.change.successor or write.change.tell}
    if told:
        await hooks.lock(conn, told)
    await _declare_successors(conn, kept, hooks=hooks)
    results = [result for write in kept if (result := _settled(write))]
    if results:
        await hooks.settled(conn, results)
    return recorded


class Recorder:
    """Gathers the outcomes of all pools of a process and writes them together.

    `pause_s` is the least time from one transaction to the next: under load it makes batches, when idle the
    first outcome is written at once.
    """

    def __init__(
        self, *, database: Database, hooks: Hooks, batch_max: int = 200, pause_s: float = 0.01
    ) -> None:
        self._database = database
        self._hooks = hooks
        self._pause_s = pause_s
        self._coalescer = Coalescer[Write, bool](write=self._write, batch_max=batch_max, writers_max=1)

    async def record(self, write: Write) -> bool:
        """Write one outcome together with others; False when the claim was lost and nothing was written."""
        written = await self._coalescer.submit(write)
        if not written:
            REFUSED.labels(write.change.intent.provider).inc()
        return written

    async def _write(self, writes: Sequence[Write]) -> Sequence[bool]:
        async with self._database.transaction() as conn:
            recorded = await write_changes(conn, writes, hooks=self._hooks)
        await asyncio.sleep(self._pause_s)
        return [write.change.intent.provider_request_id in recorded for write in writes]


async def _declare_successors(conn: Connection, writes: Sequence[Write], *, hooks: Hooks) -> None:
    successors = [write.change.successor for write in writes if write.change.successor]
    if not successors:
        return
    declared = await journal.declare(conn, successors)
    if len(declared) != len(successors):
        refused = len(successors) - len(declared)
        raise SuccessorRefused("an attempt could not be followed by the next", refused=refused)
    await hooks.requested(conn, declared)


def _settled(write: Write) -> Settled | None:
    intent, status = write.change.intent, write.change.tell
    if status is None:
        return None
    SETTLED.labels(intent.provider, status).inc()
    return Settled(
        subject_id=intent.subject_id,
        check=intent.check,
        provider=intent.provider,
        provider_request_id=intent.provider_request_id,
        attempt=intent.attempt,
        status=status,
        facts=write.change.facts,
        reason=intent.reason,
        received_at=write.received_at,
        traceparent=intent.traceparent,
    )
