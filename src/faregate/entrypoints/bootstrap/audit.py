"""The role that seals what was recorded, and notes the end of the audit chain outside of the database."""

from __future__ import annotations

from faregate.credit.handlers.audit import chain_status
from faregate.credit.store.audit.chain import ANCHOR_FILE, CHAIN
from faregate.entrypoints.bootstrap.process import Opened, Process, instance
from faregate.infra.chain.check import note_anchor
from faregate.infra.chain.sealer import Sealer
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.periodic import run_periodically
from faregate.infra.telemetry.metrics import Metrics

ANCHOR_S = 300.0
"""How often the end of the audit chain is noted: what is older cannot be rewritten unnoticed."""


async def audit(process: Process) -> Opened:
    """Open the sealer, and what notes anchors."""
    database, clock = await process.database("credit"), SystemClock()
    path = process.site.settings.home / ANCHOR_FILE
    count_unsealed(process.metrics, database)

    async def anchor() -> None:
        await note_anchor(database, store=CHAIN, path=path, clock=clock)

    return Opened(
        loops={
            "sealer": Sealer(store=CHAIN, database=database, clock=clock, holder=instance()).run,
            "anchors": lambda stop: run_periodically(stop, name="anchors", every_s=ANCHOR_S, work=anchor),
        }
    )


def count_unsealed(metrics: Metrics, database: Database) -> None:
    """Add gauges that tell how far the audit chain is behind what was recorded."""
    links = metrics.gauge("faregate_audit_links", "Rows that the audit chain seals")
    rows = metrics.gauge("faregate_audit_unsealed_rows", "Rows that wait to be sealed")
    seconds = metrics.gauge("faregate_audit_unsealed_seconds", "Age of the oldest of them")

    async def probe() -> None:
        status = await chain_status(database)
        links.set(status.links)
        rows.set(status.unsealed)
        seconds.set(status.unsealed_s)

    metrics.add_probe(probe)
