"""Who of this process's runs works next: one that goes on before one that begins. The shared cap is not kept here."""

from __future__ import annotations

import asyncio
from collections import deque


class Turns:
    """As many turns at a time as there are; those who wait get theirs in order, whoever goes on first.

    A run that waits for its decision is nearly done: were it to wait behind every run that begins, a backlog of new
    ones would hold up all that came before.
    """

    def __init__(self, most: int) -> None:
        self._free = most
        self._going_on: deque[asyncio.Future[None]] = deque()
        self._beginning: deque[asyncio.Future[None]] = deque()

    async def take(self, *, goes_on: bool) -> None:
        """Return when it is the caller's turn, who gives it back."""
        if self._free:
            self._free -= 1
            return
        turn = asyncio.get_running_loop().create_future()
        (self._going_on if goes_on else self._beginning).append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it came in the moment in which the caller gave up
            raise

    def give(self) -> None:
        """End a turn: it passes to whoever is next."""
        for waiting in (self._going_on, self._beginning):
            while waiting:
                turn = waiting.popleft()
                if not turn.done():
                    turn.set_result(None)
                    return
        self._free += 1
