"""What the credit context does when events arrive: start runs, process signals, refresh snapshots, tell clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from faregate.credit.handlers.announce import ANNOUNCED, announce_events
from faregate.credit.handlers.checks import process_signals
from faregate.credit.handlers.decide import APPLICATION_RUN, DecisionService
from faregate.credit.handlers.repull import decide_repulled
from faregate.credit.handlers.status import StatusSnapshots, refresh_snapshots
from faregate.events.credit import ApplicationSubmitted, DecisionFinalized, ExternalCompleted
from faregate.infra.database import Connection
from faregate.infra.eventlog import ConsumerGroup
from faregate.infra.workflow import NewRun, start_runs
from faregate.kernel.event import Event


def consumer_groups(*, service: DecisionService, snapshots: StatusSnapshots) -> list[ConsumerGroup]:
    """Return the consumer groups of this context."""

    async def processor(conn: Connection, events: Sequence[Event]) -> None:
        completed = [ExternalCompleted.from_event(event) for event in events]
        traces = traceparents(events)
        late = await process_signals(
            conn, completed, tools=service.tools, traceparents=traces, take_snapshots=snapshots.try_to_put
        )
        await decide_repulled(conn, late, service=service)

    async def refresher(conn: Connection, events: Sequence[Event]) -> None:
        finalized = [DecisionFinalized.from_event(event) for event in events]
        await refresh_snapshots(conn, finalized, snapshots=snapshots)

    return [
        ConsumerGroup(name="credit.runs", types=(ApplicationSubmitted.type,), handler=start_application_runs),
        ConsumerGroup(name="credit.signals", types=(ExternalCompleted.type,), handler=processor),
        ConsumerGroup(
            name="credit.snapshots", types=(DecisionFinalized.type,), handler=refresher, is_urgent=True
        ),
        ConsumerGroup(
            name="credit.webhooks", types=tuple(ANNOUNCED), handler=announce_events, is_urgent=True
        ),
    ]


async def start_application_runs(conn: Connection, events: Sequence[Event]) -> None:
    """Start the run of each submitted application; one that was started before stays as it is."""
    runs = [NewRun(id=event.aggregate_id, input={"traceparent": event.traceparent}) for event in events]
    await start_runs(conn, workflow=APPLICATION_RUN, runs=runs)


def traceparents(events: Sequence[Event]) -> Mapping[str, str]:
    """Return the newest trace context of each application in the batch."""
    return {event.aggregate_id: event.traceparent for event in events if event.traceparent}
