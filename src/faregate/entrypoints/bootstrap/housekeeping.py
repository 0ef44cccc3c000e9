"""The role that decides what is overdue, and forgets what its published retention has ended for."""

from __future__ import annotations

from datetime import timedelta

from faregate.credit.handlers.decide import DecisionService, decide_overdue
from faregate.credit.handlers.following import adopt_strays
from faregate.credit.store.audit.notices import count_open
from faregate.entrypoints.bootstrap.decisions import decision_service
from faregate.entrypoints.bootstrap.process import Loop, Opened, Process
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.eventlog.admin import INBOX_RETENTION_DAYS, prune_inbox
from faregate.infra.http.idempotency_store import prune_keys
from faregate.infra.periodic import run_periodically
from faregate.infra.telemetry.metrics import Metrics

PRUNE_S = 3600.0
OVERDUE_S = 10.0


async def housekeeping(process: Process) -> Opened:
    """Open the sweeps."""
    database, log = await process.database("credit"), await process.database("eventlog")
    count_notices(process.metrics, database)
    return Opened(
        loops={
            "housekeeping": _pruning(database, log),
            "overdue": _overdue(database, await process.once(decision_service)),
        }
    )


def _pruning(database: Database, log: Database) -> Loop:
    """Return the loop that forgets."""

    async def prune() -> None:
        now = SystemClock().now()
        await prune_inbox(log, before=now - timedelta(days=INBOX_RETENTION_DAYS))
        async with database.transaction() as conn:
            await prune_keys(conn, now=now)

    return lambda stop: run_periodically(stop, name="housekeeping", every_s=PRUNE_S, work=prune)


def _overdue(database: Database, service: DecisionService) -> Loop:
    """Return the loop that decides what no run decided, and queues for review what stands in no queue."""

    async def sweep() -> None:
        await decide_overdue(database, service=service)
        await adopt_strays(database, tools=service.tools)

    return lambda stop: run_periodically(stop, name="overdue", every_s=OVERDUE_S, work=sweep)


def count_notices(metrics: Metrics, database: Database) -> None:
    """Add gauges that tell how many notices of adverse action are still to be sent."""
    waiting = metrics.gauge("faregate_notices_open", "Notices of adverse action that were not sent yet")
    late = metrics.gauge("faregate_notices_overdue", "Those of them whose 30 days have passed")

    async def probe() -> None:
        async with database.connection() as conn:
            total, overdue = await count_open(conn, now=SystemClock().now())
        waiting.set(total)
        late.set(overdue)

    metrics.add_probe(probe)
