"""The durable run of a redemption: go on, do what the ledger or the cash desk is to do, wait for what partners say."""

from __future__ import annotations

from datetime import datetime, timedelta
from functools import partial
from typing import Any

from faregate.infra.database import Connection, Database
from faregate.infra.telemetry.tracing import span_from
from faregate.infra.workflow import Run, Workflow
from faregate.kernel.errors import UnavailableError
from faregate.travel.api import MOVED, REDEMPTION_RUN, Money, SagaDesk

ASK_AGAIN = timedelta(seconds=2)
"""How long to wait before the ledger or the cash desk is asked again that could not be asked."""


def redemption_workflow(*, desk: SagaDesk, money: Money, database: Database, working_max: int) -> Workflow:
    """Return the workflow of a redemption; its steps write to `database`.

    What `money` does commits by itself, before the step that records it: a step that comes again asks again under the
    same key, and is told what came of it.
    """

    async def body(run: Run) -> None:
        redemption_id = str(run.input["redemption_id"])
        traceparent = run.input.get("traceparent")

        async def advance(conn: Connection) -> dict[str, Any]:
            with span_from(traceparent, "advance redemption", redemption_id=redemption_id):
                return await desk.advance(conn, redemption_id)

        async def record(do: dict[str, Any], conn: Connection) -> dict[str, str]:
            with span_from(traceparent, f"redemption {do['action']}", redemption_id=redemption_id):
                try:
                    came = await money.carry_out(do)
                except UnavailableError:
                    return {"again": (desk.tools.clock.now() + ASK_AGAIN).isoformat()}
                await desk.record(conn, redemption_id, do=do, came=came)
                return {}

        while True:
            found = await run.transaction("advance", advance)
            if "end" in found:
                return
            if "do" in found:
                later = await run.transaction("record", partial(record, found["do"]))
                if "again" in later:
                    await run.sleep(until=datetime.fromisoformat(later["again"]))
            else:
                await run.signal(MOVED, deadline=datetime.fromisoformat(found["wait"]))

    return Workflow(name=REDEMPTION_RUN, body=body, database=database, working_max=working_max)
