"""Fraud over real HTTP, as a process of its own serves it.

    from tests.fraud_world import fraud_of_module  # noqa: F401
    pytestmark = pytest.mark.asyncio(loop_scope="module")

Each test takes payments of its own by `new_payment`. `open_fraud_world` takes other settings.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr

from faregate.infra.cache import Cache
from faregate.infra.settings import Settings
from tests.credit_world import CreditWorld, Reply, open_credit_world
from tests.servers import new_database

__all__ = ["PATIENT", "SCORE", "FraudWorld", "fraud_of_module", "new_payment", "open_fraud_world"]

PATIENT = {"fraud_features_ms_max": 5_000, "fraud_audit_ms_max": 5_000}

SCORE = "/api/fraud/score"
SCOPES = ["fraud:score", "fraud:read", "fraud:manage"]
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class FraudWorld:
    """A running fraud service."""

    world: CreditWorld

    async def ask(
        self, body: Any, *, query: str = "", client: str | None = "payments", **headers: str
    ) -> Reply:
        """Have a payment decided, and return the answer, whatever it is. Bytes are sent as they are."""
        raw = body if isinstance(body, bytes) else orjson.dumps(body)
        sent = {"Content-Type": "application/json", **headers}
        return await self.world.request("POST", SCORE + query, client=client, headers=sent, data=raw)

    async def decided(self, body: Any = None, *, query: str = "", **changes: Any) -> dict[str, Any]:
        """Have a payment decided that must be."""
        reply = await self.ask({**(new_payment() if body is None else body), **changes}, query=query)
        assert reply.status == 200, reply.body
        return dict(reply.json)

    async def get(self, path: str, *, client: str = "payments") -> Reply:
        return await self.world.request("GET", "/api/fraud" + path, client=client)

    async def rows(self, payment: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what is recorded of a payment."""
        return await self.world.sql(
            "select * from fraud.decision where payment_id = %(id)s", id=payment["payment_id"]
        )


def new_payment(**changes: Any) -> dict[str, Any]:
    """Return a payment that no other call returned."""
    number = next(_numbers)
    return {
        "payment_id": f"pay_{number}",
        "card_token": f"crd_{number}",
        "member_id": f"mbr_{number}",
        "amount_minor": 4_250,
        "currency": "USD",
        "merchant": "mer_0042",
        "merchant_category": 5_812,
        "channel": "online",
        "country": "US",
        "terminal_id": None,
        "device_id": f"dev_{number}",
        "ip": f"198.51.{number // 250 % 250}.{number % 250}",
        "occurred_at": datetime.now(UTC).isoformat(),
        **changes,
    }


@asynccontextmanager
async def open_fraud_world(settings: Settings, *, cache: Cache) -> AsyncIterator[FraudWorld]:
    """Serve fraud inside the running loop, with a client `payments`."""
    async with open_credit_world(settings, cache=cache, contexts=["fraud"]) as world:
        await world.add_key("payments", client="payments", scopes=SCOPES)
        yield FraudWorld(world=world)


@pytest_asyncio.fixture(name="fraud", scope="module", loop_scope="module")
async def fraud_of_module(
    postgres_url: str, valkey_socket: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[FraudWorld]:
    """A fraud service for all tests of a module, which waits for its servers however loaded the machine is."""
    cache = await Cache.open(valkey_url := f"unix://{valkey_socket}", request_timeout_ms=5_000)
    with new_database(postgres_url) as database_url:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=tmp_path_factory.mktemp("home"),
            database_url=SecretStr(database_url),
            valkey_url=SecretStr(valkey_url),
        )
        async with open_fraud_world(settings.model_copy(update=PATIENT), cache=cache) as running:
            yield running
    await cache.close()
