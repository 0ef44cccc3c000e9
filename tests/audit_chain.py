"""The audit chain for tests: seal until nothing waits, inspect on a given connection, tamper past every trigger."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from faregate.credit.store.audit.chain import CHAIN
from faregate.infra.chain.check import inspect
from faregate.infra.chain.links import Anchored, Break
from faregate.infra.chain.sealer import Sealer, Sealing
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection, Database


@asynccontextmanager
async def sealing(
    database: Database, *, holder: str = "test", batch_max: int = 1_000
) -> AsyncIterator[Sealing]:
    """Hold the sealer's lease for the length of a block."""
    sealer = Sealer(store=CHAIN, database=database, clock=SystemClock(), holder=holder)
    async with database.connection() as conn:
        lease = await sealer.acquire(conn)
        assert lease is not None, "another holds the lease"
        yield Sealing(store=CHAIN, lease=lease, clock=SystemClock(), batch_max=batch_max)
        await CHAIN.release_lease(conn, fence=lease.fence)


async def seal_all(database: Database, *, batch_max: int = 1_000) -> None:
    """Seal until nothing waits."""
    async with sealing(database, batch_max=batch_max) as held, database.connection() as conn:
        while not await held.next_batch(conn) or (await CHAIN.waiting(conn))[0]:
            pass


async def broken_in(conn: Connection, *, anchors: Sequence[Anchored] = ()) -> Break | None:
    """Return the first broken row as this connection sees it, its own changes included."""
    return (await inspect(conn, store=CHAIN, anchors=anchors))[1]


@asynccontextmanager
async def tampering(conn: Connection) -> AsyncIterator[None]:
    """Act as a superuser with all triggers off, and take everything back at the end."""
    async with conn.transaction(force_rollback=True):
        await conn.execute("set local session_replication_role = replica")
        yield
