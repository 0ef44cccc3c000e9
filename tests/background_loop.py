"""An event loop that runs beside a test that is not asynchronous: a command line, or a Hypothesis state machine."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
PATIENCE_S = 60.0


class BackgroundLoop:
    """Runs what it is given, one after the other, and keeps servers alive in between."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(PATIENCE_S)

    def end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def opened_beside(manager: AbstractAsyncContextManager[T]) -> Iterator[tuple[BackgroundLoop, T]]:
    """Open something in a loop of its own for the length of a block."""
    loop, stack = BackgroundLoop(), AsyncExitStack()
    try:
        yield loop, loop.run(stack.enter_async_context(manager))
    finally:
        loop.run(stack.aclose())
        loop.end()
