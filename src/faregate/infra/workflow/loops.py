"""Background work of an engine that must outlive every error, such as a database that restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import structlog

_log = structlog.get_logger(__name__)

RECONNECT_S = 0.2
CANCEL_AGAIN_S = 0.2


async def keep_doing(what: str, do: Callable[[], Awaitable[None]], *, every_s: float = 0.0) -> None:
    """Do it again and again until cancelled. An error is logged by its kind and tried again shortly after."""
    while True:
        try:
            await do()
        except Exception as error:  # noqa: BLE001 - the edge: a worker whose heart stops strands its runs
            _log.warning("workflow.background_work_failed", what=what, error=type(error).__name__)
            await asyncio.sleep(RECONNECT_S)
        await asyncio.sleep(every_s)


async def stop(tasks: Sequence[asyncio.Task[None]]) -> None:
    """Cancel until all have ended: `asyncio.wait_for` of Python 3.11 swallows a cancellation that races its result."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_S)
