"""Keeps the gates of a process in step: with what operators change, and with what the other processes see.

What this process saw of breakers goes into the event log. No call to a provider waits for any of it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import orjson
import structlog

from faregate.events.base import PublishedEvent
from faregate.events.gateway import BreakerClosed, BreakerHalfOpened, BreakerOpened
from faregate.gateway import metrics
from faregate.gateway.book import PolicyBook
from faregate.gateway.gate import BreakerChange, Gate
from faregate.gateway.policies.breaker import State
from faregate.gateway.shared import Shared
from faregate.gateway.store.changes import newest_changes
from faregate.infra.cache import CacheUnavailable
from faregate.infra.database import Database
from faregate.infra.eventlog import append
from faregate.infra.periodic import run_periodically
from faregate.kernel.event import NewEvent

_log = structlog.get_logger(__name__)

POLICIES_S = 1.0
"""How often changes of operators are read."""
OTHERS_S = 0.5
"""How often the state of shared breakers is read; one that opens is open for the other processes so much later."""
LIVES_S = 5.0
"""A process that was not heard of for so long is none any more."""
_UNTOLD_MAX = 1_000

_EVENTS: Mapping[State, type[BreakerOpened | BreakerHalfOpened | BreakerClosed]] = {
    State.OPEN: BreakerOpened,
    State.HALF_OPEN: BreakerHalfOpened,
    State.CLOSED: BreakerClosed,
}
Stamp = Callable[[PublishedEvent], NewEvent]
"""Gives a published event its id and its time."""


@dataclass(kw_only=True)
class Control:
    """The two loops beside the pools of a process, which is called `process`."""

    database: Database
    book: PolicyBook
    shared: Shared
    stamp: Stamp
    process: str
    gates: dict[str, Gate] = field(default_factory=dict)
    _untold: deque[BreakerChange] = field(default_factory=lambda: deque(maxlen=_UNTOLD_MAX))

    def gate(self, provider: str) -> Gate:
        """Return the gate before a provider, made when it is asked for first."""
        if provider not in self.gates:
            gate = Gate(provider=provider, policy=self.book[provider], shared=self.shared, told=self.hear)
            gate.override(self.book.overrides(provider))
            self.gates[provider] = gate
        return self.gates[provider]

    def hear(self, change: BreakerChange) -> None:
        """Take in a breaker's change of state, for the event log and the metrics."""
        _log.warning(
            "gateway.breaker",
            provider=change.provider,
            operation=change.operation,
            state=change.state,
            scope=change.scope,
        )
        metrics.CHANGES.labels(change.provider, change.operation, change.state).inc()
        self._untold.append(change)

    async def run_policies(self, stop: asyncio.Event) -> None:
        """Follow what operators change, and report what breakers did, until `stop` is set."""
        await run_periodically(stop, name="gateway.policies", every_s=POLICIES_S, work=self.follow)

    async def run_others(self, stop: asyncio.Event) -> None:
        """Follow what the other processes see until `stop` is set."""
        await run_periodically(stop, name="gateway.others", every_s=OTHERS_S, work=self.meet)

    async def follow(self) -> None:
        """Read the changes of operators once, and write the events that are due."""
        async with self.database.connection() as conn:
            changes = await newest_changes(conn)
        for provider in self.book.take(changes):
            if provider in self.gates:
                self.gates[provider].adapt(self.book[provider])
                self.gates[provider].override(self.book.overrides(provider))
        await self._report()

    async def meet(self) -> None:
        """Say once that this process lives, and take over where the shared breakers stand."""
        links = [link for gate in self.gates.values() for link in gate.links.values()]
        shows = orjson.dumps({name: gate.snapshot() for name, gate in self.gates.items()}).decode()
        try:
            census = await self.shared.breakers.beat(
                self.process, lives_s=LIVES_S, shows=shows, keys=[link.key for link in links]
            )
        except CacheUnavailable:
            for link in links:
                link.go_alone()
        else:
            self.shared.processes = census.processes
            for link, view in zip(links, census.views, strict=True):
                link.adopt(view)
        for gate in self.gates.values():
            gate.show()

    async def _report(self) -> None:
        """Append what breakers did; what cannot be written stays for the next time."""
        due = list(self._untold)
        if not due:
            return
        async with self.database.transaction() as conn:
            await append(conn, [self.stamp(_event(change)) for change in due])
        for _ in due:
            self._untold.popleft()


def _event(change: BreakerChange) -> PublishedEvent:
    return _EVENTS[change.state].model_validate(
        {"provider": change.provider, "operation": change.operation.value, "scope": change.scope}
    )
