"""Payments over real HTTP, with a scorer that a test scripts.

from tests.payments_world import payments_of_module, payments_of_test, shared_payments  # noqa: F401

`payments` is a test's own; `shared` serves a whole module (`pytestmark = pytest.mark.asyncio(loop_scope="module")`).
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from pydantic import SecretStr

from faregate.infra.cache import Cache
from faregate.infra.settings import Settings
from tests.credit_world import CreditWorld, Reply, new_key, open_credit_world
from tests.scorer_twin import ScorerTwin
from tests.servers import new_database

__all__ = [
    "ATTEMPT",
    "PATIENT_MS",
    "PAYMENTS",
    "PaymentsWorld",
    "open_payments",
    "payments_of_module",
    "payments_of_test",
    "shared_payments",
]

PAYMENTS = "/api/payments"
NETWORK = "network"
PATIENT_MS = 9_000
SCOPES = ["payments:authorise", "payments:read", "payments:write", "payments:cards", "payments:policy"]
ATTEMPT: Mapping[str, Any] = {
    "amount_minor": 4_250,
    "currency": "USD",
    "merchant": "mer_0042",
    "merchant_category": 5_812,
    "channel": "online",
    "country": "US",
    "ip": "203.0.113.7",
}
_members = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class PaymentsWorld:
    """A running API with payments. The client `network` may do everything."""

    world: CreditWorld
    scorer: ScorerTwin

    async def post(
        self, path: str, body: Any = None, *, key: str | None = None, client: str = NETWORK
    ) -> Reply:
        """Send an act."""
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
        data = body if isinstance(body, bytes) else orjson.dumps({} if body is None else body)
        return await self.world.request("POST", PAYMENTS + path, client=client, headers=headers, data=data)

    async def get(self, path: str, *, client: str = NETWORK) -> Reply:
        return await self.world.request("GET", PAYMENTS + path, client=client)

    async def card(self, **fields: Any) -> str:
        """Issue a card to a new member and return its token."""
        body = {"member_id": f"mbr_{next(_members):026}", "product": "cashback_card", **fields}
        reply = await self.post("/cards", body)
        assert reply.status == 201, reply.body
        return str(reply.json["card_token"])

    async def attempt(self, *, key: str | None = None, client: str = NETWORK, **fields: Any) -> Reply:
        """Try a payment; without a card given, with a new one."""
        if not {"card_token", "card_number"} & fields.keys():
            fields["card_token"] = await self.card()
        return await self.post("/authorizations", {**ATTEMPT, **fields}, key=key, client=client)

    async def authorised(self, **fields: Any) -> str:
        """Authorise a payment and return its id."""
        reply = await self.attempt(**fields)
        assert (reply.status, reply.json["status"]) == (201, "authorised"), reply.body
        return str(reply.json["payment_id"])

    async def act(self, payment_id: str, act: str, **body: Any) -> Reply:
        return await self.post(f"/authorizations/{payment_id}/{act}", body)

    async def events(self, payment_id: str) -> list[tuple[str, dict[str, Any]]]:
        """Return what was announced of a payment, in its order."""
        rows = await self.world.sql(
            "select type, payload from eventlog.outbox where aggregateid = %(id)s order by ord", id=payment_id
        )
        return [(row["type"].removeprefix("payments.payment."), row["payload"]) for row in rows]


@pytest.fixture(name="payments")
async def payments_of_test(settings: Settings, cache: Cache) -> AsyncIterator[PaymentsWorld]:
    """Payments of a test's own."""
    async with open_payments(settings, cache) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def payments_of_module(
    postgres_url: str, valkey_socket: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[PaymentsWorld]:
    """Payments for all tests of a module."""
    cache = await Cache.open(valkey_url := f"unix://{valkey_socket}")
    with new_database(postgres_url) as database_url:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=tmp_path_factory.mktemp("home"),
            database_url=SecretStr(database_url),
            valkey_url=SecretStr(valkey_url),
        )
        async with open_payments(settings, cache) as running:
            yield running
    await cache.close()


@pytest_asyncio.fixture(name="shared", loop_scope="module")
async def shared_payments(payments_of_module: PaymentsWorld) -> PaymentsWorld:
    """The same, with a scorer that was told nothing yet."""
    await payments_of_module.scorer.forget()
    return payments_of_module


@asynccontextmanager
async def open_payments(
    settings: Settings, cache: Cache, *, deadline_ms: int = PATIENT_MS
) -> AsyncIterator[PaymentsWorld]:
    """Serve payments with the client `network`, and a scorer that approves everything until it is told otherwise.

    As a rule the scorer is waited for as long as it takes: how busy the machine is decides nothing.
    """
    async with ScorerTwin().serving() as scorer:
        own = settings.model_copy(update={"scorer_url": scorer.url, "scorer_deadline_ms": deadline_ms})
        async with open_credit_world(own, cache=cache) as world:
            await world.add_key(NETWORK, client=NETWORK, scopes=SCOPES)
            yield PaymentsWorld(world=world, scorer=scorer)
