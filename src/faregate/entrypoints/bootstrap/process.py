"""What one process has open. Its contexts or roles open what they need; what two of them need is opened once."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast
from uuid import uuid4

from faregate.entrypoints.bootstrap.site import Site, database_check
from faregate.infra.database import Database
from faregate.infra.http.health import Check
from faregate.infra.telemetry.metrics import Metrics

GATHER_S = 0.03
"""How long each hop of an application gathers work under load: a batch costs little more than one item does.

Six hops of this are a fifth of a second, against the ten seconds that a decision may take.
"""

T = TypeVar("T")
Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the event is set."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What a role adds to its process: endless loops, and what must hold for the process to be ready, by name.

    `checks_alone` count only where the process has no other role, because what the others do does not need it.
    """

    loops: Mapping[str, Loop] = field(default_factory=dict)
    checks: Mapping[str, Check] = field(default_factory=dict)
    checks_alone: Mapping[str, Check] = field(default_factory=dict)


class Process:
    """The servers of a process and what it has open, until the end of `stack`; `databases` holds its pools by part.

    `connections_max` is how many connections it opens as one part at most, that of the settings if not given.
    """

    def __init__(self, stack: AsyncExitStack, site: Site, *, connections_max: int | None = None) -> None:
        self.stack = stack
        self.site = site
        self.metrics = Metrics()
        self._connections_max = connections_max
        self._made: dict[object, object] = {}
        self.databases: dict[str, Database] = {}
        self.further_checks: dict[str, Check] = {}

    async def once(self, make: Callable[[Process], Awaitable[T]]) -> T:
        """Return what `make` makes; it is made for whoever asks first, and the same for all others."""
        if make not in self._made:
            self._made[make] = await make(self)
        return cast(T, self._made[make])

    def provide(self, make: Callable[[Process], Awaitable[T]], made: T) -> None:
        """Let `once` return this instead of what `make` would make."""
        self._made[make] = made

    async def database(self, part: str, *, connections_max: int | None = None) -> Database:
        """Return the pool that acts as a part; whoever asks for it first says how many connections it has at most."""
        if part not in self.databases:
            most = connections_max or self._connections_max
            self.databases[part] = await self.site.database(self.stack, part, connections_max=most)
        return self.databases[part]

    @property
    def checks(self) -> dict[str, Check]:
        """Whether PostgreSQL answers the process, for each part as which it acts, and what parts ask besides."""
        databases = {f"database.{part}": database_check(pool) for part, pool in self.databases.items()}
        return {**databases, **self.further_checks}


def instance() -> str:
    """Name this holder of leases uniquely among all."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
