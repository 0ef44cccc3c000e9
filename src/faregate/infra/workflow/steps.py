"""The run that a body sees: durable steps and waits on our tables, the same under any engine.

How a run comes to be executed, here or elsewhere, does not belong here.
"""

from __future__ import annotations

import asyncio
import random
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import orjson
import psycopg
import structlog
from psycopg.rows import dict_row

from faregate.infra.database import Connection, DatabaseUnavailable, Statement, commit_with, gathering_last
from faregate.infra.queries import load_queries
from faregate.infra.workflow.loops import RECONNECT_S
from faregate.infra.workflow.port import Json, RunFailed, Workflow
from faregate.infra.workflow.turns import Turns
from faregate.infra.workflow.waiting import WaitingRoom

_QUERIES = load_queries(__package__)
_log = structlog.get_logger(__name__)

SLOT_WAIT_S = 0.005
SLOT_WAIT_S_MAX = 0.1
FENCED = "FW001"
# Lost connections and resources, a server that stops or starts, a session cut off, a primary that became a standby.
_LOST_STATES = ("08", "53", "57P01", "57P02", "57P03", "57P05", "25P03", "25006")


class DeclaredDead(Exception):
    """This worker lost its lease while a step worked: nothing of the step was written."""


class _NoSlot(Exception):
    """As many steps of this workflow as may work at once do work."""


class _DoneAlready(Exception):
    """Another execution of this run committed the step."""


class Slots:
    """A workflow's cap on working steps: a local queue before the slots that all processes share."""

    def __init__(self, *, workflow: str, working_max: int, connections_max: int) -> None:
        self.working_max = working_max
        self.lock_class = zlib.crc32(workflow.encode()) - 2**31
        self.working = 0
        self.is_closing = False
        self._turns = Turns(min(working_max, connections_max))

    @asynccontextmanager
    async def one(self, *, goes_on: bool) -> AsyncIterator[None]:
        """Work as one of the steps that may work in this process; its shared slot is taken in its transaction.

        The step of a run that goes on comes before the first ones of others.
        """
        await self._turns.take(goes_on=goes_on)
        try:
            if self.is_closing:
                raise asyncio.CancelledError  # the run goes on in another process
            self.working += 1
            try:
                yield
            finally:
                self.working -= 1
        finally:
            self._turns.give()

    def first(self) -> int:
        """Where to begin to try: processes that begin at the same slot would try in vain."""
        return random.randrange(self.working_max)  # noqa: S311 - no secret


@dataclass(slots=True, kw_only=True)
class TableRun:
    """One execution of a run's body by the worker that holds the lease `worker`."""

    id: str
    input: Mapping[str, Any]
    workflow: Workflow
    slots: Slots
    waiting: WaitingRoom
    worker: int
    idle_ms: int
    _uses: dict[str, int] = field(default_factory=dict)
    _history: dict[str, Json] | None = None
    _unsaved: dict[str, Json] = field(default_factory=dict)
    _seen: dict[str, set[str]] = field(default_factory=dict)

    async def transaction(self, name: str, work: Callable[[Connection], Awaitable[Json]]) -> Json:
        """See `Run.transaction`."""
        step = self._next(name)
        failures = 0
        while True:
            if self._history is not None and step in self._history:
                return self._history[step]
            try:
                return await self._attempt(step, work)
            except _DoneAlready:
                self._history = None
            except DeclaredDead:
                raise
            except Exception as error:  # noqa: BLE001 - the edge of a step: whatever it raised, it did not happen
                self._history = None
                failures += not is_connection_lost(error)
                await self._wait_or_fail(step, error, failures)

    async def signal(self, name: str, *, deadline: datetime) -> Json | None:
        """See `Run.signal`."""
        _require_aware(deadline)
        step = self._next(f"signal {name}")
        history = await self._known_history()
        seen = self._seen.setdefault(name, set())
        if step in history:
            recorded = history[step]
        else:
            received = await self.waiting.signal(
                run_id=self.id, name=name, seen=frozenset(seen), deadline=deadline
            )
            recorded = received and {"signal_id": received.signal_id, "payload": received.payload}
            self._unsaved[step] = recorded
        if recorded is None:
            return None
        seen.add(recorded["signal_id"])
        return recorded["payload"]

    async def sleep(self, *, until: datetime) -> None:
        """See `Run.sleep`."""
        _require_aware(until)
        await self.waiting.until(run_id=self.id, instant=until)

    def _next(self, name: str) -> str:
        self._uses[name] = self._uses.get(name, 0) + 1
        return name if self._uses[name] == 1 else f"{name} #{self._uses[name]}"

    def _goes_on(self) -> bool:
        """Whether this is not the first thing that the run does in this process."""
        return sum(self._uses.values()) > 1

    async def _attempt(self, step: str, work: Callable[[Connection], Awaitable[Json]]) -> Json:
        wait_s = SLOT_WAIT_S
        while True:
            try:
                async with (
                    self.slots.one(goes_on=self._goes_on()),
                    self.workflow.database.connection() as conn,
                ):
                    saved = await self._do(conn, step, work)
                return self._remember(saved)[step]
            except _NoSlot:
                await asyncio.sleep(wait_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
                wait_s = min(SLOT_WAIT_S_MAX, wait_s * 2)

    async def _do(
        self, conn: Connection, step: str, work: Callable[[Connection], Awaitable[Json]]
    ) -> dict[str, Json]:
        """One transaction. Its first two and its last statements go in one message each: half the round trips,
        and no moment between the record and the commit in which a stopped process would hold the fence."""
        try:
            history = await self._begin(conn)
            if step in history:
                return history
            with gathering_last(conn) as last:
                recorded = orjson.dumps({**self._unsaved, step: await work(conn)})
                await self._record_and_commit(conn, recorded.decode(), last)
        finally:
            await conn.rollback()
        return cast("dict[str, Json]", orjson.loads(recorded))

    def _remember(self, saved: dict[str, Json]) -> dict[str, Json]:
        """Only after the commit: until then a wait's answer must go with the next attempt."""
        self._unsaved.clear()
        self._history = {**(self._history or {}), **saved}
        return self._history

    async def _begin(self, conn: Connection) -> dict[str, Json]:
        parameters = {
            "worker": self.worker,
            "run": self.id,
            "with_history": self._history is None,
            "slot_class": self.slots.lock_class,
            "slots": self.slots.working_max,
            "first_slot": self.slots.first(),
            "idle_ms": self.idle_ms,
        }
        cursor = await _send_as_one(conn, f"begin; {_QUERIES['begin_step']}", parameters)
        cursor.nextset()
        row = await cursor.fetchone()
        if row is None or row["verdict"] == "fenced":
            raise DeclaredDead(f"worker {self.worker} lost its lease")
        if row["verdict"] == "full":
            raise _NoSlot
        if self._history is None:
            self._history = row["history"]
        return self._history if self._history is not None else {}

    async def _record_and_commit(self, conn: Connection, results: str, last: Sequence[Statement]) -> None:
        record = (_QUERIES["record_steps"], {"worker": self.worker, "run": self.id, "results": results})
        try:
            await commit_with(conn, [*last, record])
        except psycopg.DatabaseError as error:
            if error.sqlstate == FENCED:
                raise DeclaredDead(f"worker {self.worker} lost its lease") from error
            if isinstance(error, psycopg.errors.UniqueViolation) and error.diag.schema_name == "workflow":
                raise _DoneAlready from error
            raise

    async def _known_history(self) -> dict[str, Json]:
        while self._history is None:
            try:
                async with self.workflow.database.connection() as conn:
                    row = await (await conn.execute(_QUERIES["history"], {"run": self.id})).fetchone()
                self._history = row["history"] if row else {}
            except (psycopg.Error, DatabaseUnavailable) as error:
                await self._wait_or_fail("history", error, 0 if is_connection_lost(error) else 1)
        return self._history

    async def _wait_or_fail(self, step: str, error: Exception, failures: int) -> None:
        retry = self.workflow.retry
        kind = type(error).__name__
        _log.warning("workflow.step_failed", run=self.id, step=step, error=kind, failures=failures)
        if failures >= retry.attempts_max:
            raise RunFailed(f"step {step!r} failed {failures} times: {kind}") from error
        await asyncio.sleep(retry.wait_after(failures) if failures else RECONNECT_S)


def _require_aware(instant: datetime) -> None:
    if instant.tzinfo is None:
        raise ValueError("a deadline needs a time zone")


async def _send_as_one(
    conn: Connection, statements: str, parameters: Mapping[str, Any]
) -> psycopg.AsyncClientCursor[Any]:
    cursor = psycopg.AsyncClientCursor(conn, row_factory=dict_row)
    await cursor.execute(statements, parameters)
    return cursor


def is_connection_lost(error: Exception) -> bool:
    """Whether the database went away, or can serve nobody at present, rather than refused what we asked."""
    if isinstance(error, DatabaseUnavailable):
        return True
    if not isinstance(error, psycopg.Error):
        return False
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.OperationalError)
    return state.startswith(_LOST_STATES)
