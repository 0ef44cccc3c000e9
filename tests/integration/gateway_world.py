"""A provider that follows a script, an owner that remembers what it was told, pools that serve them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from faregate.gateway.callbacks import CallbackSettler
from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.control import Control
from faregate.gateway.gate import Gate
from faregate.gateway.intent import Intent, NewIntent, Settled
from faregate.gateway.policies.declared import BulkheadPolicy
from faregate.gateway.policy import Policies, ProviderPolicy, RetryPolicy, Route
from faregate.gateway.poller import Intervals
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.infra.database import Connection, Database
from faregate.kernel.outcome import Done, NotDone, Outcome

ONE_SHOT = Capabilities(
    provider="bureau",
    asynchronous=False,
    deduplicates=False,
    look_up_lag_s_max=0.2,
    timeout_s=0.4,
    callback=True,
    polls=False,
)
DEDUPLICATING = replace(ONE_SHOT, deduplicates=True)
QUICK = RetryPolicy(backoff_s=0.01, look_up_s=0.02, look_up_s_max=0.1, reconcile_s=5.0)
EAGER = Intervals(busy_s=0.005, idle_s=0.01, error_s=0.02)

Answer = Outcome | Callable[[], Awaitable[Outcome]]


@dataclass
class ScriptedProvider:
    """Answers sends from `script`, then with Done; look-ups from `found`, then by what was executed."""

    capabilities: Capabilities = ONE_SHOT
    script: list[Answer] = field(default_factory=list)
    found: list[Answer] = field(default_factory=list)
    sent: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)
    executed: list[str] = field(default_factory=list)

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        self.sent.append(request.provider_request_id)
        if self.script:
            return await _answer(self.script.pop(0))
        return self.execute(request.provider_request_id)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        self.asked.append(provider_request_id)
        if self.found:
            return await _answer(self.found.pop(0))
        return Done({"found": True}) if provider_request_id in self.executed else NotDone("not_found")

    def read_callback(self, body: Mapping[str, Any]) -> Callback:
        raise NotImplementedError

    def execute(self, provider_request_id: str) -> Done:
        self.executed.append(provider_request_id)
        return Done({"score": 7}, b"raw answer")


async def _answer(answer: Answer) -> Outcome:
    return await answer() if callable(answer) else answer


@dataclass
class RememberingOwner:
    """Hooks that keep what they are told, and fail for the subjects in `failing`, or once for each of `outages`."""

    told: list[Settled] = field(default_factory=list)
    announced: list[Intent] = field(default_factory=list)
    failing: set[str] = field(default_factory=set)
    unloadable: set[str] = field(default_factory=set)
    outages: list[Exception] = field(default_factory=list)
    loading: Callable[[], Awaitable[None]] | None = None

    async def lock(self, conn: Connection, subject_ids: Collection[str]) -> None:
        return None

    async def requested(self, conn: Connection, intents: Sequence[Intent]) -> None:
        self.announced.extend(intents)

    async def settled(self, conn: Connection, results: Sequence[Settled]) -> None:
        if self.outages:
            raise self.outages.pop()
        if any(result.subject_id in self.failing for result in results):
            raise RuntimeError("the owner cannot take this")
        self.told.extend(results)

    async def load_requests(
        self, conn: Connection, intents: Sequence[Intent]
    ) -> Mapping[str, ProviderRequest]:
        if self.loading:
            await self.loading()
        ids = [intent.provider_request_id for intent in intents if intent.subject_id not in self.unloadable]
        return {one: ProviderRequest(provider_request_id=one, subject={}) for one in ids}

    def seal(self, provider_request_id: str, raw: bytes) -> bytes:
        return b"sealed:" + raw

    def statuses(self, subject_id: str = "app_1") -> list[str]:
        return [str(result.status) for result in self.told if result.subject_id == subject_id]


@dataclass
class World:
    """One check, `bureau`, at the given providers in this order."""

    database: Database
    providers: list[ScriptedProvider]
    owner: RememberingOwner = field(default_factory=RememberingOwner)
    retry: RetryPolicy = QUICK
    concurrency: int = 16
    declared: ProviderPolicy = field(default_factory=ProviderPolicy)
    control: Control | None = None
    lease_grace_s: float = 5.0  # so long that no pause of a busy machine makes a live call's outcome unknown

    @property
    def policies(self) -> Policies:
        names = tuple(one.capabilities.provider for one in self.providers)
        return Policies(
            routes={"bureau": Route(check="bureau", providers=names)},
            capabilities={one.capabilities.provider: one.capabilities for one in self.providers},
            providers=self.control.book if self.control else dict.fromkeys(names, self.provider_policy),
        )

    @property
    def provider_policy(self) -> ProviderPolicy:
        bulkhead = BulkheadPolicy(in_flight_max=self.concurrency)
        return replace(
            self.declared,
            retry=self.retry,
            send=replace(self.declared.send, bulkhead=bulkhead),
            look_up=replace(self.declared.look_up, bulkhead=bulkhead),
        )

    def gate(self, provider: str) -> Gate:
        if self.control:
            return self.control.gate(provider)
        return Gate(provider=provider, policy=self.provider_policy)

    def pool(self, provider: ScriptedProvider, *, holder: str = "test") -> ProviderPool:
        return ProviderPool(
            adapter=provider,
            database=self.database,
            hooks=self.owner,
            policies=self.policies,
            recorder=Recorder(database=self.database, hooks=self.owner),
            holder=holder,
            chance=random.random,
            new_token=uuid4,
            gate=self.gate(provider.capabilities.provider),
            options=PoolOptions(
                lease_grace_s=self.lease_grace_s,
                drain_s=1.0,
                intervals=EAGER,
            ),
        )

    def settler(self) -> CallbackSettler:
        return CallbackSettler(
            database=self.database, hooks=self.owner, policies=self.policies, chance=random.random
        )

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Run a pool for each provider and a settler for callbacks."""
        stop = asyncio.Event()
        runs = [self.pool(provider).run(stop) for provider in self.providers]
        tasks = [asyncio.create_task(run) for run in [*runs, self.settler().run(stop)]]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)


def new_intent(subject_id: str = "app_1", *, provider: str = "bureau", budget_s: float = 5.0) -> NewIntent:
    deadline = datetime.now(UTC) + timedelta(seconds=budget_s)
    return NewIntent(subject_id=subject_id, check="bureau", provider=provider, deadline=deadline)


async def until(condition: Callable[[], bool], *, most_s: float = 20.0) -> None:
    """Wait for a condition, looking often; a condition that never comes true is a TimeoutError."""
    async with asyncio.timeout(most_s):
        while not condition():  # noqa: ASYNC110 - conditions here are plain values
            await asyncio.sleep(0.005)
