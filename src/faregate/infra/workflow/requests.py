"""What other parts ask of workflows, inside their own transactions: start runs, send signals, look at runs."""

from __future__ import annotations

from collections.abc import Sequence

import orjson

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.infra.workflow.port import NewRun, RunState, Signal

_QUERIES = load_queries(__package__)


async def start_runs(conn: Connection, *, workflow: str, runs: Sequence[NewRun]) -> None:
    """Start runs when the caller's transaction commits. A run that was ever started is left alone."""
    if runs:
        rows = [{"id": run.id, "input": dict(run.input)} for run in runs]
        parameters = {"workflow": workflow, "runs": orjson.dumps(rows).decode()}
        await conn.execute(_QUERIES["start_runs"], parameters)


async def send_signals(conn: Connection, signals: Sequence[Signal]) -> None:
    """Send signals when the caller's transaction commits: to runs not started yet, running or ended, all harmless."""
    if signals:
        rows = [
            {"run_id": s.run_id, "name": s.name, "signal_id": s.signal_id, "payload": s.payload}
            for s in signals
        ]
        await conn.execute(_QUERIES["send_signals"], {"signals": orjson.dumps(rows).decode()})


async def unfinished(conn: Connection, *, rows_max: int = 1000) -> list[RunState]:
    """The runs that are queued, working or waiting, oldest first."""
    return await _runs(conn, states=["queued", "running"], rows_max=rows_max)


async def failed_runs(conn: Connection, *, rows_max: int = 1000) -> list[RunState]:
    """The runs that ended without success and that a person must look at, oldest first."""
    return await _runs(conn, states=["failed"], rows_max=rows_max)


async def failed_among(conn: Connection, run_ids: Sequence[str]) -> set[str]:
    """Return those of the runs that ended without success; one that was never started is none of them."""
    if not run_ids:
        return set()
    cursor = await conn.execute(_QUERIES["failed_among"], {"ids": list(run_ids)})
    return {row["id"] for row in await cursor.fetchall()}


async def waiting_for_a_worker(conn: Connection) -> int:
    """Count the open runs that have not begun or got a signal. Needs a connection as `faregate_workflow`."""
    row = await (await conn.execute(_QUERIES["waiting_for_a_worker"])).fetchone()
    return int(row["runs"]) if row else 0


async def _runs(conn: Connection, *, states: list[str], rows_max: int) -> list[RunState]:
    cursor = await conn.execute(_QUERIES["runs"], {"states": states, "rows_max": rows_max})
    return [RunState(**row) for row in await cursor.fetchall()]
