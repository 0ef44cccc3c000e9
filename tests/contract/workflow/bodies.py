"""The bodies of the workflow contract. They do what a run's input says, among it dying at a named place, once."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import psycopg

from faregate.infra.database import Connection, url_with_role
from faregate.infra.workflow import RetryPolicy, Run

RETRY = RetryPolicy(attempts_max=3, wait_s=0.01)

EFFECTS = """
create table credit.effect (
    run text, step text, detail jsonb, pid integer,
    began_at timestamptz not null default clock_timestamp(), ended_at timestamptz
);
create table credit.attempt (run text, pid integer)
"""
"""Nothing here is unique: what is done twice shows twice."""


def effect(run: Run, step: str, detail: Any = None) -> Callable[[Connection], Any]:
    """One row a step: what must exist exactly once, whatever was killed."""

    async def work(conn: Connection) -> Any:
        values = {"run": run.id, "step": step, "detail": detail, "pid": os.getpid()}
        await conn.execute(
            "insert into credit.effect (run, step, detail, pid)"
            " values (%(run)s, %(step)s, to_jsonb(%(detail)s::text), %(pid)s)",
            values,
        )
        await at(f"inside {step}", run)
        await conn.execute("select pg_sleep(%s)", (run.input.get("work_s", 0),))
        await conn.execute(
            "update credit.effect set ended_at = clock_timestamp() where run = %(run)s and step = %(step)s",
            values,
        )
        return {"by": os.getpid(), "tuple": (1, 2)}

    return work


async def at(place: str, run: Run) -> None:
    """Die or halt here, if the input says so and nobody did before."""
    if run.input.get("always_die_at") == place:
        os.kill(os.getpid(), signal.SIGKILL)
    for what in ("die", "halt"):
        if run.input.get(f"{what}_at") == place and _first(Path(run.input["folder"]) / f"{what} {run.id}"):
            if what == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            await until_exists(Path(run.input["folder"]) / f"go on {run.id}")


def _first(mark: Path) -> bool:
    try:
        mark.touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def is_there(path: Path) -> bool:
    return path.exists()


async def until_exists(path: Path) -> None:
    while not is_there(path):  # noqa: ASYNC110 - a file cannot be awaited
        await asyncio.sleep(0.01)


async def two_steps(run: Run) -> None:
    """A step, a wait, a step: the shape of a credit application."""
    await at("start", run)
    await run.transaction("first", effect(run, "first"))
    await at("after first", run)
    told = await run.signal("go", deadline=datetime.fromisoformat(run.input["deadline"]))
    await at("after wait", run)
    await run.transaction("second", effect(run, "second", told))
    await at("end", run)


async def sleeper(run: Run) -> None:
    """A step, a sleep, a step."""
    await run.transaction("first", effect(run, "first"))
    await run.sleep(until=datetime.fromisoformat(run.input["until"]))
    await run.transaction("second", effect(run, "second"))


async def poisoned(run: Run) -> None:
    """A step that never succeeds; each attempt leaves a row that no roll-back removes."""

    async def work(conn: Connection) -> None:
        await effect(run, "first")(conn)
        url = url_with_role(run.input["url"], role="faregate_credit")
        async with await psycopg.AsyncConnection.connect(url, autocommit=True) as other:
            await other.execute("insert into credit.attempt values (%s, %s)", (run.id, os.getpid()))
        raise ValueError("secret of a person")

    await run.transaction("first", work)


async def broken(run: Run) -> None:
    """A body that raises before any step."""
    raise KeyError(run.id)


async def many_waits(run: Run) -> None:
    """Three waits for one name, then a step for each answer, all under one name."""
    deadline = datetime.fromisoformat(run.input["deadline"])
    for detail in [await run.signal("go", deadline=deadline) for _ in range(3)]:
        await run.transaction("again", effect(run, "again", detail))


async def replayed(run: Run) -> None:
    """Says in its second step what its first returned, on whichever execution."""
    first = await run.transaction("first", effect(run, "first"))
    told = await run.signal("go", deadline=datetime.fromisoformat(run.input["deadline"]))
    await at("after wait", run)
    await run.transaction("second", effect(run, "second", f"{first['tuple']} {told}"))


BODIES: Mapping[str, Callable[[Run], Awaitable[None]]] = {
    "two-steps": two_steps,
    "sleeper": sleeper,
    "poisoned": poisoned,
    "broken": broken,
    "many-waits": many_waits,
    "replayed": replayed,
}
