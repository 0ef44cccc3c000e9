"""Webhooks as clients, operators and the worker use them."""

from __future__ import annotations

import os
import random
from contextlib import AsyncExitStack
from datetime import timedelta
from uuid import uuid4

from faregate.credit.handlers.announce import ANNOUNCED
from faregate.entrypoints.bootstrap.process import Opened, Process
from faregate.entrypoints.bootstrap.site import Site, key_rings
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.periodic import run_periodically
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.settings import Settings
from faregate.webhooks import metrics
from faregate.webhooks.api import Webhooks
from faregate.webhooks.domain.addresses import AddressRules
from faregate.webhooks.secrets import SecretVault
from faregate.webhooks.sender import Sender, SenderOptions
from faregate.webhooks.transport import open_transport

CONNECTIONS_MAX = 4
_PRUNE_EVERY_S = 3600.0


async def webhooks_api(stack: AsyncExitStack, site: Site) -> Webhooks:
    """Open what operators use."""
    database = await site.database(stack, "webhooks", connections_max=CONNECTIONS_MAX)
    return webhooks_on(database, site.settings)


def webhooks_on(database: Database, settings: Settings) -> Webhooks:
    """Return webhooks on the part's database, for clients and for whoever delivers to them."""
    return Webhooks(
        database=database,
        vault=_vault(settings),
        clock=SystemClock(),
        rules=_rules(settings),
        event_types=frozenset(ANNOUNCED),
        secret_grace=timedelta(hours=settings.webhook_secret_grace_h),
    )


async def deliveries(process: Process) -> Opened:
    """Open the loops of a worker: what delivers, and what forgets what was delivered long ago."""
    database = await process.database("webhooks", connections_max=CONNECTIONS_MAX)
    webhooks, clock = webhooks_on(database, process.site.settings), SystemClock()
    transport = await process.stack.enter_async_context(open_transport(clock=clock, rules=webhooks.rules))
    sender = Sender(
        database=webhooks.database,
        transport=transport,
        vault=webhooks.vault,
        clock=clock,
        chance=random.random,
        new_token=uuid4,
        options=SenderOptions(in_flight_each=process.site.settings.webhook_in_flight_each),
    )

    async def probe() -> None:
        metrics.show(await webhooks.backlog())

    process.metrics.add_probe(probe)
    return Opened(
        loops={
            "webhooks": sender.run,
            "webhooks.pruning": lambda stop: run_periodically(
                stop, name="webhooks.pruning", every_s=_PRUNE_EVERY_S, work=webhooks.prune
            ),
        }
    )


def _rules(settings: Settings) -> AddressRules:
    return AddressRules(loopback=settings.webhook_loopback)


def _vault(settings: Settings) -> SecretVault:
    return SecretVault(cipher=FieldCipher(ring=key_rings(settings)["encryption"]), random=os.urandom)
