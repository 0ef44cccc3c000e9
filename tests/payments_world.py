"""Payments over real HTTP, with a scorer that a test scripts.

from tests.payments_world import payments_of_test  # noqa: F401
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from faregate.infra.cache import Cache
from faregate.infra.settings import Settings
from tests.credit_world import CreditWorld, Reply, new_key, open_credit_world
from tests.scorer_twin import ScorerTwin

__all__ = ["ATTEMPT", "PAYMENTS", "PaymentsWorld", "payments_of_test"]

PAYMENTS = "/api/payments"
NETWORK = "network"
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
    """Payments with the client `network`, and a scorer that approves everything until it is told otherwise."""
    async with ScorerTwin().serving() as scorer:
        own = settings.model_copy(update={"scorer_url": scorer.url})
        async with open_credit_world(own, cache=cache) as world:
            await world.add_key(NETWORK, client=NETWORK, scopes=SCOPES)
            yield PaymentsWorld(world=world, scorer=scorer)
