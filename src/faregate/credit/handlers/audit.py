"""The audit record: is it whole, where does it end, and what does it say of one application."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from faregate.credit.contracts.record import (
    AuditTrace,
    ChainReport,
    ChainStatus,
    Verification,
)
from faregate.credit.store import decisions
from faregate.credit.store.audit import chain, trace
from faregate.credit.store.audit.chain import CHAIN
from faregate.gateway.api import history
from faregate.infra.chain.anchors import read_anchors
from faregate.infra.chain.check import inspect
from faregate.infra.database import Database
from faregate.kernel.clock import Clock


async def verify_chain(database: Database, *, anchor_file: Path, clock: Clock) -> ChainReport:
    """Walk along the whole chain, in one snapshot, and remember what was found. Raises AnchorsUnreadable."""
    anchors = read_anchors(anchor_file)
    async with database.transaction() as conn:
        await trace.take_one_snapshot(conn)
        links, broken = await inspect(conn, store=CHAIN, anchors=anchors)
        unsealed, unsealed_s = await CHAIN.waiting(conn)
    verification = Verification(
        at=clock.now(), links=links, broken=None if broken is None else asdict(broken)
    )
    async with database.transaction() as conn:
        await chain.insert_verification(conn, verification)
    return ChainReport(
        verification=verification, anchors=len(anchors), unsealed=unsealed, unsealed_s=unsealed_s
    )


async def chain_status(database: Database) -> ChainStatus:
    """Return where the chain ends and what waits to be sealed."""
    async with database.connection() as conn:
        recorded = await CHAIN.recorded_head(conn)
        unsealed, unsealed_s = await CHAIN.waiting(conn)
        last = await chain.last_verification(conn)
    return ChainStatus(
        links=recorded.head.seq,
        sha256=recorded.head.sha256.hex(),
        unsealed=unsealed,
        unsealed_s=unsealed_s,
        last_verification=last,
    )


async def trace_of(database: Database, *, application_id: str) -> AuditTrace:
    """Return all that is recorded of one application, as of one instant; raise ApplicationNotFound."""
    async with database.transaction() as conn:
        await trace.take_one_snapshot(conn)
        return AuditTrace(
            application=await trace.application(conn, application_id),
            entries=await trace.entries(conn, application_id),
            decisions=await trace.decisions(conn, application_id),
            signals=await decisions.signals_of(conn, application_id),
            requests=await history(conn, subject_id=application_id),
            notices=await trace.notices(conn, application_id),
        )
