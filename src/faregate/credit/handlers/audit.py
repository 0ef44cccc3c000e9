"""The audit record: is it whole, where does it end, and what does it say of one application."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from faregate.credit.contracts.record import (
    Anchored,
    AuditTrace,
    ChainReport,
    ChainStatus,
    Verification,
)
from faregate.credit.domain.audit_chain import Break, Inspection
from faregate.credit.store import decisions
from faregate.credit.store.audit import chain, trace
from faregate.credit.store.audit.anchors import append_anchor, read_anchors
from faregate.gateway.api import history
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock


async def verify_chain(database: Database, *, anchor_file: Path, clock: Clock) -> ChainReport:
    """Walk along the whole chain, in one snapshot, and remember what was found. Raises AnchorsUnreadable."""
    anchors = read_anchors(anchor_file)
    async with database.transaction() as conn:
        await trace.take_one_snapshot(conn)
        links, broken = await inspect(conn, anchors=anchors)
        unsealed, unsealed_s = await chain.waiting(conn)
    verification = Verification(
        at=clock.now(), links=links, broken=None if broken is None else asdict(broken)
    )
    async with database.transaction() as conn:
        await chain.insert_verification(conn, verification)
    return ChainReport(
        verification=verification, anchors=len(anchors), unsealed=unsealed, unsealed_s=unsealed_s
    )


async def inspect(conn: Connection, *, anchors: Sequence[Anchored]) -> tuple[int, Break | None]:
    """Return how many links hold from the first one on, and the first row that is broken."""
    inspection = Inspection(columns=await chain.covered_columns(conn), anchors=anchors)
    async for link, row in chain.links(conn):
        if (broken := inspection.of_link(link, row)) is not None:
            return inspection.head.seq, broken
    recorded = await chain.recorded_head(conn)
    if (broken := inspection.at_end(recorded.head)) is not None:
        return inspection.head.seq, broken
    if (stranger := await chain.first_stranger(conn, settled_ord=recorded.settled_ord)) is not None:
        table, key = stranger
        what = "the row is not in the chain: it was put in afterwards, or its link was taken out"
        return inspection.head.seq, Break(table=table, key=key, what=what)
    return inspection.head.seq, None


async def chain_status(database: Database) -> ChainStatus:
    """Return where the chain ends and what waits to be sealed."""
    async with database.connection() as conn:
        recorded = await chain.recorded_head(conn)
        unsealed, unsealed_s = await chain.waiting(conn)
        last = await chain.last_verification(conn)
    return ChainStatus(
        links=recorded.head.seq,
        sha256=recorded.head.sha256.hex(),
        unsealed=unsealed,
        unsealed_s=unsealed_s,
        last_verification=last,
    )


async def note_anchor(database: Database, *, path: Path, clock: Clock) -> Anchored:
    """Note the end of the chain in a file, unless the file's last line says the same already."""
    async with database.connection() as conn:
        head = (await chain.recorded_head(conn)).head
    noted = read_anchors(path)
    if noted and (noted[-1].seq, noted[-1].sha256) == (head.seq, head.sha256.hex()):
        return noted[-1]
    anchor = Anchored(seq=head.seq, sha256=head.sha256.hex(), anchored_at=clock.now())
    if head.seq:
        append_anchor(path, anchor)
    return anchor


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
