"""Webhooks for tests: receivers on real HTTP, a clock that tests move, and the sender on the test's database.

    from tests.webhook_world import open_receiver, webhooks_and_sender  # noqa: F401

Time is the test's: `hooks.clock.pass_by(...)`. `await hooks.deliver()` sends what is due then and waits until it is
recorded.
"""

from __future__ import annotations

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ssl import SSLContext
from typing import Any
from uuid import uuid4

import pytest
from aiohttp import web

from faregate.infra.database import Database
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.security.keys import KeyRing, KeySet
from faregate.webhooks.api import Webhooks, announce
from faregate.webhooks.contracts import Announcement, Delivery, EndpointDraft, EndpointWithSecret
from faregate.webhooks.domain.addresses import AddressRules
from faregate.webhooks.secrets import SecretVault
from faregate.webhooks.sender import Sender, SenderOptions
from faregate.webhooks.transport import LookUp, open_transport
from tests.conftest import OpenDatabase

ACME = "acme"
DECIDED, OPENED = "credit.decision.finalized", "credit.review.opened"
KEYS = KeySet(current="k1", keys={"k1": b"k" * 32})
HERE = AddressRules(loopback=True)
EARLIER = datetime(2026, 1, 1, tzinfo=UTC)

_numbers = itertools.count(1)


@dataclass
class ManualClock:
    """Stands still until a test moves it. It begins now, so that libraries with clocks of their own agree."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def now(self) -> datetime:
        return self.at

    def pass_by(self, seconds: float) -> None:
        self.at += timedelta(seconds=seconds)


@dataclass(frozen=True)
class Arrival:
    """A request as it came in. Header names are lower case."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@dataclass
class Endpoint:
    """A receiver of webhooks: keeps what arrives, answers what the test wants; hangs while `gate` is clear."""

    url: str = ""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b"thanks"
    arrivals: list[Arrival] = field(default_factory=list)
    connections: set[Any] = field(default_factory=set)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    arrived: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def wait(self, count: int) -> list[Arrival]:
        """Return the arrivals once there are so many."""
        async with self.arrived, asyncio.timeout(20):
            await self.arrived.wait_for(lambda: len(self.arrivals) >= count)
        return self.arrivals

    async def receive(self, request: web.Request) -> web.Response:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.connections.add(request.transport)
        async with self.arrived:
            self.arrivals.append(Arrival(request.path_qs, headers, await request.read()))
            self.arrived.notify_all()
        await self.gate.wait()
        return web.Response(status=self.status, headers=self.headers, body=self.body)


@asynccontextmanager
async def open_endpoint(
    *, host: str = "127.0.0.1", port: int = 0, tls: SSLContext | None = None
) -> AsyncIterator[Endpoint]:
    """Serve a receiver inside the running loop, with its gate open."""
    endpoint = Endpoint()
    endpoint.gate.set()
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", endpoint.receive)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, host, port, ssl_context=tls)
    await site.start()
    endpoint.url = f"{'https' if tls else 'http'}://{host}:{runner.addresses[0][1]}/hook"
    try:
        yield endpoint
    finally:
        endpoint.gate.set()
        await runner.cleanup()


@dataclass(kw_only=True)
class Hooks:
    """The webhooks part on an empty database, as clients, contexts and the worker use it."""

    api: Webhooks
    sender: Sender
    clock: ManualClock
    announcer: Database
    stack: AsyncExitStack

    async def subscribe(
        self, endpoint: Endpoint | str, *, client: str = ACME, types: Sequence[str] = (DECIDED,)
    ) -> EndpointWithSecret:
        url = endpoint if isinstance(endpoint, str) else endpoint.url
        async with self.api.database.transaction() as conn:
            draft = EndpointDraft(url=url, event_types=types)
            return await self.api.create(conn, draft, client_id=client)

    async def announce(self, *announcements: Announcement) -> int:
        async with self.announcer.transaction() as conn:
            return await announce(conn, announcements)

    async def deliver(self) -> int:
        """Send what is due now, wait until its outcome is recorded, and return how much it was."""
        sent = await self.sender.claim()
        await self.sender.settled()
        return sent

    async def deliveries(self, endpoint: EndpointWithSecret) -> Sequence[Delivery]:
        return await self.api.deliveries(endpoint.endpoint.id, client_id=None, limit=200)

    async def only_delivery(self, endpoint: EndpointWithSecret) -> Delivery:
        [found] = await self.deliveries(endpoint)
        return found

    async def new_sender(self, **options: Any) -> Sender:
        """Open one more sender, with other rules, look-up, TLS or options."""
        transport = {
            name: options.pop(name) for name in ("rules", "look_up", "tls", "timeout_s") if name in options
        }
        return await open_sender(
            self.stack, self.api.database, clock=self.clock, transport=transport, options=options
        )


async def open_sender(
    stack: AsyncExitStack,
    database: Database,
    *,
    clock: Any,
    transport: Mapping[str, Any],
    options: Mapping[str, Any],
) -> Sender:
    given: dict[str, Any] = {"rules": HERE, **transport}
    return Sender(
        database=database,
        transport=await stack.enter_async_context(open_transport(clock=clock, **given)),
        vault=vault(),
        clock=clock,
        chance=lambda: 0.0,
        new_token=uuid4,
        options=SenderOptions(**options),
    )


def vault(keys: KeySet = KEYS) -> SecretVault:
    return SecretVault(cipher=FieldCipher(ring=KeyRing.fixed(keys)), random=os.urandom)


def decided(
    application: str | None = None, *, client: str = ACME, at: datetime | None = None
) -> Announcement:
    """Return the announcement of a decision on an application (None: a new one)."""
    application = application or f"app_{next(_numbers)}"
    return Announcement(
        client_id=client,
        message_id=f"msg_{uuid4().hex}",
        event_type=DECIDED,
        subject_id=application,
        at=at or EARLIER,
        data={"application_id": application, "outcome": "approved"},
    )


def looking_up(answers: Mapping[str, Sequence[str]]) -> LookUp:
    """Return a resolver that knows these names."""

    async def look_up(host: str, port: int) -> Sequence[str]:
        return answers[host]

    return look_up


def webhooks_of(database: Database, clock: Any) -> Webhooks:
    return Webhooks(
        database=database,
        vault=vault(),
        clock=clock,
        rules=HERE,
        event_types=frozenset({DECIDED, OPENED}),
        secret_grace=timedelta(hours=24),
    )


@pytest.fixture(name="hooks")
async def webhooks_and_sender(open_database: OpenDatabase) -> AsyncIterator[Hooks]:
    clock = ManualClock()
    database, announcer = await open_database("webhooks"), await open_database("credit")
    async with AsyncExitStack() as stack:
        sender = await open_sender(stack, database, clock=clock, transport={}, options={})
        yield Hooks(
            api=webhooks_of(database, clock), sender=sender, clock=clock, announcer=announcer, stack=stack
        )


@pytest.fixture(name="receiver")
async def open_receiver() -> AsyncIterator[Endpoint]:
    async with open_endpoint() as running:
        yield running
