"""The durable run of one application: dispatch the checks, wait for them or for the deadline, decide."""

from __future__ import annotations

from datetime import datetime

from faregate.credit.handlers.checks import READY_SIGNAL
from faregate.credit.handlers.decide import APPLICATION_RUN, DecisionService
from faregate.infra.database import Connection, Database
from faregate.infra.telemetry.tracing import span_from
from faregate.infra.workflow import Run, Workflow


def application_workflow(
    *, service: DecisionService, database: Database, working_max: int, in_flight_max: int
) -> Workflow:
    """Return the workflow of an application; its steps write to `database`."""

    async def body(run: Run) -> None:
        traceparent = run.input.get("traceparent")

        async def dispatch(conn: Connection) -> dict[str, str]:
            with span_from(traceparent, "dispatch checks", application_id=run.id):
                return await service.dispatch(conn, run.id)

        async def decide(conn: Connection) -> dict[str, str]:
            with span_from(traceparent, "decide application", application_id=run.id):
                return await service.decide(conn, run.id)

        dispatched = await run.transaction("dispatch", dispatch)
        await run.signal(READY_SIGNAL, deadline=datetime.fromisoformat(dispatched["deadline"]))
        await run.transaction("decide", decide)

    return Workflow(
        name=APPLICATION_RUN,
        body=body,
        database=database,
        working_max=working_max,
        in_flight_max=in_flight_max,
    )
