"""Which bus carries events to this process, and which one they are passed on to: the log in PostgreSQL itself."""

from __future__ import annotations

from contextlib import AsyncExitStack

from faregate.entrypoints.bootstrap.process import Loop
from faregate.infra.database import Database
from faregate.infra.eventlog import EventSource, Listener, PostgresEventSource
from faregate.infra.settings import Settings


async def event_source(stack: AsyncExitStack, settings: Settings, database: Database) -> EventSource:  # noqa: ARG001
    """Return where consumers of this process read; `database` listens for what is new."""
    return PostgresEventSource(listener=await stack.enter_async_context(Listener(database)))


async def relay_loop(
    stack: AsyncExitStack,  # noqa: ARG001
    settings: Settings,  # noqa: ARG001
    log: Database,  # noqa: ARG001
    *,
    holder: str,  # noqa: ARG001
) -> Loop | None:
    """Return the loop that passes the log on to another bus; None where the settings name no other bus."""
    return None
