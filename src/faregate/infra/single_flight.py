"""One look-up of a key at a time, however many wait for what it finds. Remembering it does not belong here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class SingleFlight(Generic[Key, Value]):
    """Look-ups that are under way, by key. Who gives up waiting does not end the look-up of the others."""

    def __init__(self) -> None:
        self._under_way: dict[Key, asyncio.Task[Value]] = {}

    async def __call__(self, key: Key, load: Callable[[], Coroutine[Any, Any, Value]]) -> Value:
        """Return what `load` finds, or what a look-up of this key that is under way finds. Raises what that raises."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(load())
            task.add_done_callback(lambda done: self._landed(key, done))
        return await asyncio.shield(task)

    def _landed(self, key: Key, done: asyncio.Task[Value]) -> None:
        del self._under_way[key]
        if not done.cancelled():
            done.exception()  # seen here, should everybody who waited for it have given up
