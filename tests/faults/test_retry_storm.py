"""Providers that fail or hang under load, over real HTTP and the real journal: what reaches them, what others feel.

The bounds are counts of calls that the sandbox received, so that they hold however slow the machine is. `faregate bench
isolation` shows the same with the whole system, in seconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from faregate.bench.isolation import NAIVE_RETRIES, naive_retry
from faregate.gateway.contracts import Adapter, ProviderRequest
from faregate.gateway.gate import Gate
from faregate.gateway.intent import Intent, NewIntent, Status
from faregate.gateway.policies.declared import (
    BreakerPolicy,
    BulkheadPolicy,
    OperationPolicy,
    RetryBudgetPolicy,
)
from faregate.gateway.policy import Policies, ProviderPolicy, RetryPolicy, Route
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.gateway.store import journal
from faregate.infra.database import Connection, Database
from tests.conftest import OpenDatabase
from tests.integration.gateway_world import EAGER, RememberingOwner, until
from tests.sandbox import Sandbox, adapters, request, sandbox  # noqa: F401

APPLICATIONS = 100
NEVER = 10_000
SHUT = BreakerPolicy(window_calls=NEVER, calls_min=NEVER)
"""A breaker that stays closed, so that the retry budget alone is seen."""
NO_FLOOR = RetryBudgetPolicy(ratio=0.1, floor_per_s=0.0)


@dataclass
class People(RememberingOwner):
    """An owner whose applications are real people of the sandbox."""

    async def load_requests(
        self, conn: Connection, intents: Iterable[Intent]
    ) -> Mapping[str, ProviderRequest]:
        return {
            intent.provider_request_id: request(
                intent.provider, application=intent.subject_id, person=int(intent.subject_id[4:])
            )
            for intent in intents
        }

    def ended(self, check: str) -> list[Status]:
        """How the requests of one check ended."""
        return [result.status for result in self.told if result.check == check]


@dataclass
class Outside:
    """The pools of some providers, one check each, as in a worker process."""

    database: Database
    sandbox: Sandbox
    policies: Mapping[str, ProviderPolicy]
    owner: People = field(default_factory=People)

    @asynccontextmanager
    async def serving(self, **capabilities: float) -> AsyncIterator[None]:
        """Serve until the block ends; calls that are out then are left to their leases."""
        known = {name: _patient(adapters(self.sandbox)[name], **capabilities) for name in self.policies}
        rules = Policies(
            routes={name: Route(check=name, providers=(name,)) for name in known},
            capabilities={name: adapter.capabilities for name, adapter in known.items()},
            providers=self.policies,
        )
        stop = asyncio.Event()
        tasks = [
            asyncio.create_task(self._pool(adapter, rules).run(stop), name=name)
            for name, adapter in known.items()
        ]
        try:
            yield
        finally:
            stop.set()
            await asyncio.gather(*tasks)

    def _pool(self, adapter: Adapter, rules: Policies) -> ProviderPool:
        name = adapter.capabilities.provider
        return ProviderPool(
            adapter=adapter,
            database=self.database,
            hooks=self.owner,
            policies=rules,
            recorder=Recorder(database=self.database, hooks=self.owner),
            holder="test",
            chance=random.random,
            new_token=uuid4,
            gate=Gate(provider=name, policy=self.policies[name]),
            options=PoolOptions(lease_grace_s=5.0, drain_s=0.1, intervals=EAGER),
        )

    async def declare(self, *providers: str, budget_s: float) -> None:
        """Want every check of every application, all at once."""
        deadline = datetime.now(UTC) + timedelta(seconds=budget_s)
        async with self.database.transaction() as conn:
            for name in providers:
                wanted = [
                    NewIntent(subject_id=f"app_{n}", check=name, provider=name, deadline=deadline)
                    for n in range(APPLICATIONS)
                ]
                await journal.declare(conn, wanted)

    async def calls(self, provider: str) -> int:
        """How many requests to do something a provider received."""
        return int((await self.sandbox.summary())["calls_by_endpoint"].get(provider, 0))


def _patient(adapter: Adapter, **capabilities: float) -> Adapter:
    adapter.capabilities = replace(adapter.capabilities, **capabilities)
    return adapter


def policy(*, breaker: BreakerPolicy = SHUT, in_flight_max: int = 32) -> ProviderPolicy:
    lane = OperationPolicy(breaker=breaker, bulkhead=BulkheadPolicy(in_flight_max=in_flight_max))
    return ProviderPolicy(
        retry=RetryPolicy(sends_max=8, backoff_s=0.01), retry_budget=NO_FLOOR, send=lane, look_up=lane
    )


async def refuse_everything(world: Sandbox, provider: str) -> None:
    await world.set_faults({"providers": {provider: {"rates": {"unavailable": 1.0}, "retry_after_s": 0}}})


@pytest.mark.requirement("C27")
async def test_retries_of_a_provider_that_fails_are_a_tenth_of_the_calls_at_most(
    open_database: OpenDatabase,
    sandbox: Sandbox,  # noqa: F811
) -> None:
    outside = Outside(await open_database("credit"), sandbox, {"fraud": policy()})
    await refuse_everything(sandbox, "fraud")
    await outside.declare("fraud", budget_s=4.0)
    async with outside.serving():
        await until(lambda: len(outside.owner.ended("fraud")) == APPLICATIONS)
    assert APPLICATIONS <= await outside.calls("fraud") <= 1.1 * APPLICATIONS
    assert set(outside.owner.ended("fraud")) == {Status.NOT_DONE}


@pytest.mark.requirement("C27")
async def test_the_breaker_keeps_nearly_all_calls_from_a_provider_that_fails(
    open_database: OpenDatabase,
    sandbox: Sandbox,  # noqa: F811
) -> None:
    breaker = BreakerPolicy(window_calls=20, window_s=0.0, calls_min=20, open_s=3600.0)
    outside = Outside(
        await open_database("credit"), sandbox, {"fraud": policy(breaker=breaker, in_flight_max=8)}
    )
    await refuse_everything(sandbox, "fraud")
    await outside.declare("fraud", budget_s=4.0)
    async with outside.serving():
        await until(lambda: len(outside.owner.ended("fraud")) == APPLICATIONS)
    assert 20 <= await outside.calls("fraud") < 20 + 8


@pytest.mark.requirement("C27")
async def test_a_naive_retry_multiplies_the_same_outage_by_four(sandbox: Sandbox) -> None:  # noqa: F811
    await refuse_everything(sandbox, "fraud")
    adapter = adapters(sandbox)["fraud"]
    wanted = [request("fraud", application=f"app_{n}", person=n) for n in range(20)]
    await asyncio.gather(*(naive_retry(adapter, one, timeout_s=3.0) for one in wanted))
    assert (await sandbox.summary())["calls_by_endpoint"]["fraud"] == 20 * (1 + NAIVE_RETRIES)


@pytest.mark.requirement("C29")
async def test_a_provider_that_hangs_holds_its_own_places_and_nobody_elses(
    open_database: OpenDatabase,
    sandbox: Sandbox,  # noqa: F811
) -> None:
    quick = policy()
    policies = {"kyc": policy(in_flight_max=4), "fraud": quick, "bureau": quick}
    outside = Outside(await open_database("credit"), sandbox, policies)
    await sandbox.set_faults({"providers": {"kyc": {"rates": {"hang_before": 1.0}, "hold_s": 30.0}}})
    await outside.declare("kyc", "fraud", "bureau", budget_s=60.0)
    async with outside.serving(timeout_s=60.0):
        await until(lambda: len(outside.owner.told) == 2 * APPLICATIONS)
        assert outside.owner.ended("fraud") == outside.owner.ended("bureau") == [Status.DONE] * APPLICATIONS
        assert await outside.calls("kyc") == 4
