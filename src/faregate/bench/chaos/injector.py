"""Carries out the faults of a run on real processes and servers, one at a time on each track, and counts them."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

from faregate.bench.chaos.plan import ChaosPlan, Kind, strikes_of, with_incident
from faregate.bench.chaos.world import WorldUnderFaults
from faregate.bench.partner import wait_until
from faregate.infra.embedded import servers_of
from faregate.infra.embedded.kafka import kafka_of
from faregate.infra.supervisor import Supervisor
from faregate.infra.witness import PostgresWitness
from faregate.sandbox.faults import FaultPlan

OnEvent = Callable[[str], None]
BACK_S_MAX: Final = 120.0
WORKERS: Final = ("worker-", "work-")
CONSUMERS: Final = "work-consumers"
RELAY: Final = "work-relay"


class Injector:
    """Breaks one running system. `counts` says how often each kind of fault happened and was over again."""

    def __init__(
        self,
        plan: ChaosPlan,
        *,
        supervisor: Supervisor,
        home: Path,
        world: WorldUnderFaults,
        witness: PostgresWitness,
        faults: FaultPlan,
        on_event: OnEvent,
    ) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._home = home
        self._world = world
        self._witness = witness
        self._faults = faults
        self._on_event = on_event
        self._random = random.Random(plan.seed)  # noqa: S311 - a repeatable run, not a secret
        self.counts: Counter[Kind] = Counter()

    async def run(self, *, is_enough: Callable[[], bool]) -> None:
        """Break things until it is enough and every kind has happened, then return with nothing broken."""
        async with asyncio.TaskGroup() as tracks:
            for kinds in self._plan.tracks.values():
                tracks.create_task(self._track(kinds, is_enough))

    async def _track(self, kinds: tuple[Kind, ...], is_enough: Callable[[], bool]) -> None:
        while True:
            for kind in self._random.sample(kinds, k=len(kinds)):
                if is_enough() and all(self.counts[each] for each in kinds):
                    return
                await asyncio.sleep(self._random.uniform(self._plan.pause_s_min, self._plan.pause_s_max))
                self.counts[kind] += await self._fault(kind)

    async def _fault(self, kind: Kind) -> bool:
        """Carry out one fault, and say whether it met anything."""
        match kind:
            case Kind.KILL_API:
                await self._kill_part(self._one_of("api-"))
            case Kind.KILL_WORKER:
                await self._kill_part(self._one_of(*WORKERS))
            case Kind.KILL_CONSUMERS:
                await self._kill_part(CONSUMERS)
            case Kind.KILL_RELAY:
                await self._kill_part(RELAY)
            case Kind.KILL_KAFKA:
                await self._end_server("kafka", signal.SIGKILL)
            case Kind.KILL_SANDBOX:
                await self._kill_part("sandbox")
            case Kind.FREEZE_API:
                await self._freeze_part(self._one_of("api-"))
            case Kind.FREEZE_WORKER:
                await self._freeze_part(self._one_of(*WORKERS))
            case Kind.FREEZE_SANDBOX:
                await self._freeze("sandbox", self._supervisor.pid("sandbox"))
            case Kind.FREEZE_VALKEY:
                await self._freeze("Valkey", self._pid("valkey"))
            case Kind.KILL_VALKEY:
                await self._end_server("valkey", signal.SIGKILL)
            case Kind.KILL_POSTGRES:
                await self._end_server("postgres", signal.SIGKILL)
            case Kind.RESTART_POSTGRES:
                await self._end_server("postgres", signal.SIGQUIT)  # as `pg_ctl stop --mode immediate`
            case _:
                return await self._incident(kind, self._random.choice(self._plan.providers))
        return True

    def _one_of(self, *prefixes: str) -> str:
        names = sorted(name for name in self._supervisor.pids() if name.startswith(prefixes))
        return self._random.choice([name for name in names if name not in (CONSUMERS, RELAY)])

    def _duration_s(self) -> float:
        return self._random.uniform(self._plan.fault_s_min, self._plan.fault_s_max)

    async def _kill_part(self, name: str) -> None:
        """Kill a part that is ready, and wait until the supervisor has made another of it."""
        await self._supervisor.wait_ready(name, timeout_s=BACK_S_MAX)
        killed = self._supervisor.pid(name)
        async with self._told(f"kill -9 {name}"):
            self._supervisor.kill(name)
            await self._until(lambda: self._supervisor.pid(name) != killed)
            await self._supervisor.wait_ready(name, timeout_s=BACK_S_MAX)

    async def _freeze_part(self, name: str) -> None:
        """Stop a part that is ready for longer than it may be silent, and let it find out what it has lost."""
        await self._supervisor.wait_ready(name, timeout_s=BACK_S_MAX)
        await self._freeze(name, self._supervisor.pid(name))

    async def _freeze(self, name: str, pid: int) -> None:
        """Stop a process in its tracks: its connections stay open, and nothing comes back."""
        async with self._told(f"freeze {name}"):
            os.kill(pid, signal.SIGSTOP)
            try:
                await asyncio.sleep(self._duration_s())
            finally:
                _thaw(pid)

    async def _end_server(self, name: str, with_signal: signal.Signals) -> None:
        ended = self._pid(name)
        async with self._told(f"{with_signal.name} {name}"):
            os.kill(ended, with_signal)
            await self._until(lambda: self._pid_or_none(name) not in (None, ended))
            await self._until(lambda: not self._witness.is_down)

    async def _incident(self, kind: Kind, provider: str) -> bool:
        """Let a provider be down for a while; false if nobody called it in that state."""
        names = [f"{provider}:{fault.value}" for fault in strikes_of(kind)] or [f"{provider}:calls"]

        def struck() -> int:
            return sum(self._world.counts.get(name, 0) for name in names)

        before = struck()
        async with self._told(f"{kind.value}: {provider}"):
            await self._world.set_plan(with_incident(self._faults, kind, provider=provider))
            try:
                await asyncio.sleep(self._duration_s())
                await self._world.count()
            finally:
                await self._world.set_plan(self._faults)
        return struck() > before

    def _pid(self, server: str) -> int:
        pid = self._pid_or_none(server)
        if pid is None:
            raise ProcessLookupError(f"{server} does not run")
        return pid

    def _pid_or_none(self, server: str) -> int | None:
        if server == "kafka":
            return kafka_of(self._home).pid()
        postgres, valkey = servers_of(self._home)
        return postgres.pid() if server == "postgres" else valkey.pid()

    async def _until(self, holds: Callable[[], bool], *, timeout_s: float = BACK_S_MAX) -> None:
        async def condition() -> bool:
            return holds()

        if not await wait_until(condition, timeout_s=timeout_s, every_s=0.05):
            raise TimeoutError(f"not within {timeout_s:g} s")

    @asynccontextmanager
    async def _told(self, what: str) -> AsyncIterator[None]:
        self._on_event(f"begin  {what}")
        yield
        self._on_event(f"end    {what}")


def _thaw(pid: int) -> None:
    """Let a frozen process go on; one that was killed meanwhile needs nothing."""
    try:
        os.kill(pid, signal.SIGCONT)
    except ProcessLookupError:
        return
