"""Webhooks as clients, operators and the worker use them."""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from uuid import uuid4

from faregate.credit.handlers.announce import ANNOUNCED
from faregate.entrypoints.bootstrap.site import Site, key_rings
from faregate.infra.clock import SystemClock
from faregate.infra.periodic import run_periodically
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Probe
from faregate.webhooks import metrics
from faregate.webhooks.api import Webhooks
from faregate.webhooks.domain.addresses import AddressRules
from faregate.webhooks.secrets import SecretVault
from faregate.webhooks.sender import Sender, SenderOptions
from faregate.webhooks.transport import open_transport

_CONNECTIONS_MAX = 4
_PRUNE_EVERY_S = 3600.0

Loop = Callable[[asyncio.Event], Coroutine[Any, Any, None]]
"""Runs until the event is set."""


async def webhooks_api(stack: AsyncExitStack, site: Site) -> Webhooks:
    """Open what clients and operators use."""
    settings = site.settings
    return Webhooks(
        database=await site.database(stack, "webhooks", connections_max=_CONNECTIONS_MAX),
        vault=_vault(settings),
        clock=SystemClock(),
        rules=_rules(settings),
        event_types=frozenset(ANNOUNCED),
        secret_grace=timedelta(hours=settings.webhook_secret_grace_h),
    )


async def webhook_loops(stack: AsyncExitStack, site: Site) -> dict[str, Loop]:
    """Open the loops of a worker: what delivers, and what forgets what was delivered long ago."""
    webhooks, clock = await webhooks_api(stack, site), SystemClock()
    transport = await stack.enter_async_context(open_transport(clock=clock, rules=webhooks.rules))
    sender = Sender(
        database=webhooks.database,
        transport=transport,
        vault=webhooks.vault,
        clock=clock,
        chance=random.random,
        new_token=uuid4,
        options=SenderOptions(in_flight_each=site.settings.webhook_in_flight_each),
    )
    return {
        "webhooks": sender.run,
        "webhooks.pruning": lambda stop: run_periodically(
            stop, name="webhooks.pruning", every_s=_PRUNE_EVERY_S, work=webhooks.prune
        ),
    }


async def webhooks_probe(stack: AsyncExitStack, site: Site) -> Probe:
    """Return a probe that sets the gauges of what waits for endpoints."""
    webhooks = await webhooks_api(stack, site)

    async def probe() -> None:
        metrics.show(await webhooks.backlog())

    return probe


def _rules(settings: Settings) -> AddressRules:
    return AddressRules(loopback=settings.webhook_loopback)


def _vault(settings: Settings) -> SecretVault:
    return SecretVault(cipher=FieldCipher(ring=key_rings(settings)["encryption"]), random=os.urandom)
