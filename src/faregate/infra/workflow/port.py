"""What a workflow is to the rest of the system, whichever engine runs it. No engine and no SQL belongs here.

A run is started once by its id, executes its body, and may do three things that survive any crash: a `transaction`
(a step), a wait for a `signal`, and a `sleep`. After a crash a live worker executes the body again from its top:
what was done is not done again, its recorded result is returned. So a body must be deterministic: it takes time, ids
and outside facts from its input and from the results of its steps, and has no effect outside `transaction`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from faregate.infra.database import Connection, Database

Json = Any
"""A value that JSON can hold. Anything else is refused when the step is recorded."""


class RunFailed(Exception):
    """A run ends without success. The text names the step and the kind of error, never the data of a person."""


class Run(Protocol):
    """One execution of a workflow's body."""

    @property
    def id(self) -> str:
        """The id that the run was started with."""
        ...

    @property
    def input(self) -> Mapping[str, Any]:
        """The input that the run was started with."""
        ...

    async def transaction(self, name: str, work: Callable[[Connection], Awaitable[Json]]) -> Json:
        """Do one durable step: `work` and the record of its result commit together, once for ever.

        An error of `work` rolls back and is tried again as the workflow's `retry` says; then the run fails.
        The same name may be used again: the order of its uses tells them apart. `work` must not pause for longer
        than the worker's lease between two statements: the database ends such a session.
        """
        ...

    async def signal(self, name: str, *, deadline: datetime) -> Json | None:
        """Wait for the next signal of that name and return its payload, or None once the deadline has passed.

        The wait holds no thread, no connection and no slot. What it returned is recorded with the next step. Wait
        for one name at a time.
        """
        ...

    async def sleep(self, *, until: datetime) -> None:
        """Wait until an instant, which must come from the input or from a step's result."""
        ...


Body = Callable[[Run], Awaitable[None]]


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often a step that raises is tried, and how long it waits between (seconds, doubling up to the max).

    A lost database connection is no fault of the step: it is waited out and not counted.
    """

    attempts_max: int = 5
    wait_s: float = 0.2
    wait_s_max: float = 10.0

    def wait_after(self, attempt: int) -> float:
        """Seconds to wait after the attempt of that number, counted from 1."""
        return float(min(self.wait_s_max, self.wait_s * 2 ** (attempt - 1)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A body under a name, the database its steps write to, and its limits.

    `working_max` caps the steps that work at one moment over all processes; waiting runs do not count.
    `in_flight_max` caps the runs that have begun and not ended, waiting ones included, over all processes; the others
    stay queued. None: no cap.
    """

    name: str
    body: Body
    database: Database
    working_max: int
    in_flight_max: int | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewRun:
    """A run to start. `id` has at most 64 characters and no comma."""

    id: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """A message to a run. The same (`run_id`, `name`, `signal_id`) counts once, however often it is sent."""

    run_id: str
    name: str
    signal_id: str
    payload: Json


@dataclass(frozen=True, slots=True, kw_only=True)
class RunState:
    """Where a run stands: `queued`, `running` (working or waiting), `done` or `failed`."""

    id: str
    workflow: str
    state: str
    attempts: int
    started_at: datetime
    error: str | None


class WorkflowEngine(Protocol):
    """Runs the registered workflows in this process."""

    def register(self, workflow: Workflow) -> None:
        """Add a workflow; before `open`."""
        ...

    async def open(self) -> None:
        """Take a lease and begin to claim runs."""
        ...

    async def close(self) -> None:
        """Stop claiming, let working steps end, give every open run back. Safe to call twice."""
        ...
