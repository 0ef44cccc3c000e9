"""The gateway as a process has it: policies and gates in step with the other processes, and its operators' desk."""

from __future__ import annotations

import os
import socket
from contextlib import AsyncExitStack
from uuid import uuid4

from faregate.credit.domain.checks import CHECK_OF_PROVIDER
from faregate.entrypoints.bootstrap.providers import declarations
from faregate.entrypoints.bootstrap.site import Site, tools
from faregate.gateway.book import PolicyBook
from faregate.gateway.control import Control
from faregate.gateway.desk import GatewayDesk
from faregate.gateway.shared import Shared
from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.shared_breakers import SharedBreakers
from faregate.infra.token_bucket import TokenBuckets

NAME = "gateway"
"""What the processes that share limits call them in Valkey."""


def process_name() -> str:
    """Return what people may call this process; another one never has the same name."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"


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
        process=process_name(),
    )


async def gateway_desk(stack: AsyncExitStack, site: Site) -> GatewayDesk:
    """Open what operators do with the gateway."""
    cache = await Cache.open(site.valkey_url)
    stack.push_async_callback(cache.close)
    return GatewayDesk(
        database=await site.database(stack, "gateway", connections_max=2),
        declarations=declarations(site.settings),
        providers=sorted(CHECK_OF_PROVIDER),
        breakers=SharedBreakers(cache=cache, name=NAME),
        stamp=tools().stamp,
    )
