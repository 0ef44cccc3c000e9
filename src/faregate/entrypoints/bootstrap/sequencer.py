"""The roles that look after the event log: the sequencer, and the relay to another bus where there is one."""

from __future__ import annotations

from faregate.entrypoints.bootstrap.archive import hot_probe, segments_loop
from faregate.entrypoints.bootstrap.backlog import count_lag
from faregate.entrypoints.bootstrap.events import log_relay
from faregate.entrypoints.bootstrap.process import GATHER_S, Opened, Process, instance
from faregate.infra.database import Database
from faregate.infra.eventlog import Sequencer, unsequenced
from faregate.infra.kafka import RELAY_GROUP
from faregate.infra.telemetry.metrics import Metrics


async def sequencer(process: Process) -> Opened:
    """Open what gives committed events their place in the log, and makes room for more."""
    log = await process.database("eventlog")
    _count_unsequenced(process.metrics, log)
    process.metrics.add_probe(hot_probe(process.metrics, log))
    leading = Sequencer(database=log, holder=instance(), pause_s=GATHER_S)
    return Opened(loops={"sequencer": leading.run, "segments": segments_loop(log)})


async def relay(process: Process) -> Opened:
    """Open what passes the log on to another bus: nothing where there is none."""
    log = await process.database("eventlog")
    publishing = await log_relay(process.stack, process.site.settings, log, holder=instance())
    if publishing is None:
        return Opened()
    count_lag(process.metrics, log, groups=[RELAY_GROUP], members_max=1)
    return Opened(loops={"relay": publishing.run}, checks={"relay": publishing.check})


def _count_unsequenced(metrics: Metrics, log: Database) -> None:
    """Add gauges that tell what no group can read yet: much of it means that no sequencer leads."""
    waiting = metrics.gauge(
        "faregate_eventlog_unsequenced_events", "Committed events that no group can read yet"
    )
    age = metrics.gauge("faregate_eventlog_unsequenced_seconds", "Age of the oldest of them")

    async def probe() -> None:
        async with log.connection() as conn:
            behind = await unsequenced(conn)
        waiting.set(behind.events)
        age.set(behind.seconds)

    metrics.add_probe(probe)
