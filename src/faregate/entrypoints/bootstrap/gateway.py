"""The gateway as a process has it: the role that calls providers, in step with other processes; its operators' desk."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from contextlib import AsyncExitStack
from uuid import uuid4

from faregate.credit.domain.checks import CHECK_OF_PROVIDER
from faregate.credit.handlers.checks import GatewayHooks
from faregate.entrypoints.bootstrap.backlog import count_intents
from faregate.entrypoints.bootstrap.decisions import known_adapters
from faregate.entrypoints.bootstrap.partners import partner_declarations, partners
from faregate.entrypoints.bootstrap.process import GATHER_S, Loop, Opened, Process, instance
from faregate.entrypoints.bootstrap.providers import declarations, gateway_hooks, policies
from faregate.entrypoints.bootstrap.site import Site, tools
from faregate.gateway.book import PolicyBook
from faregate.gateway.callbacks import CallbackSettler, SettlerOptions
from faregate.gateway.contracts import Adapter
from faregate.gateway.control import Control
from faregate.gateway.desk import GatewayDesk
from faregate.gateway.policy import Policies
from faregate.gateway.poller import Intervals
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.gateway.shared import Shared
from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.shared_breakers import SharedBreakers
from faregate.infra.token_bucket import TokenBuckets

NAME = "gateway"
"""What the processes that share limits call them in Valkey."""
_INTERVALS = Intervals(busy_s=GATHER_S, idle_s=0.05)


async def providers(process: Process) -> Opened:
    """Open a pool for each provider, what settles callbacks, and what keeps their gates in step with the others."""
    site, database = process.site, await process.database("credit")
    gateway = await process.database("gateway", connections_max=1)
    desk = await gateway_desk(process.stack, site, database=gateway)
    count_intents(process.metrics, gateway, held_back=desk.held_back)
    known = await process.once(known_adapters)
    control = await gateway_control(process.stack, site, database=database)
    rules = policies(known, control.book)
    hooks = gateway_hooks(site.settings, rules)
    settler = CallbackSettler(
        database=database,
        hooks=hooks,
        policies=rules,
        chance=random.random,
        options=SettlerOptions(intervals=_INTERVALS),
    )
    return Opened(
        loops={
            **_pools(database, known, hooks, rules, control),
            "callbacks": settler.run,
            "gateway.policies": control.run_policies,
            "gateway.others": control.run_others,
        }
    )


def _pools(
    database: Database, known: Mapping[str, Adapter], hooks: GatewayHooks, rules: Policies, control: Control
) -> dict[str, Loop]:
    recorder = Recorder(database=database, hooks=hooks, pause_s=GATHER_S)
    return {
        f"pool.{name}": ProviderPool(
            adapter=adapter,
            database=database,
            hooks=hooks,
            policies=rules,
            recorder=recorder,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            chance=random.random,
            new_token=uuid4,
            gate=control.gate(name),
            options=PoolOptions(intervals=_INTERVALS),
        ).run
        for name, adapter in known.items()
    }


async def gateway_control(stack: AsyncExitStack, site: Site, *, database: Database) -> Control:
    """Open what a process that calls providers needs beside its pools."""
    cache = await Cache.open(site.valkey_url)
    stack.push_async_callback(cache.close)
    return Control(
        database=database,
        book=PolicyBook(declarations(site.settings), providers=sorted(CHECK_OF_PROVIDER)),
        shared=Shared(
            breakers=SharedBreakers(cache=cache, name=NAME), buckets=TokenBuckets(cache=cache, name=NAME)
        ),
        stamp=tools().stamp,
        process=instance(),
    )


async def gateway_desk(stack: AsyncExitStack, site: Site, *, database: Database | None = None) -> GatewayDesk:
    """Open what operators do with the gateway: with the providers of checks, then with travel's partners."""
    cache = await Cache.open(site.valkey_url)
    stack.push_async_callback(cache.close)
    return GatewayDesk(
        database=database or await site.database(stack, "gateway", connections_max=2),
        declarations={
            **dict.fromkeys(sorted(CHECK_OF_PROVIDER), declarations(site.settings)),
            **dict.fromkeys(sorted(partners(site.settings)), partner_declarations(site.settings)),
        },
        breakers=SharedBreakers(cache=cache, name=NAME),
        stamp=tools().stamp,
    )
