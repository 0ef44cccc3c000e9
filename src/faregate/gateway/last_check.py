"""The last look at the lease: when the connection stands, and before a byte goes out on it.

Connecting can take long, and a machine can be suspended meanwhile. A lease that ended then belongs to somebody else,
who must be able to rely on it that nothing is sent under it any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING

import aiohttp

if TYPE_CHECKING:
    from aiohttp.client_reqrep import ClientResponse
    from aiohttp.connector import Connection

_may_send: ContextVar[Callable[[], bool] | None] = ContextVar("may_send", default=None)


class TooLateToSend(Exception):
    """The lease was over when the connection stood. Nothing was sent."""


@contextmanager
def sending_while(may_send: Callable[[], bool]) -> Iterator[None]:
    """Let requests of this task go out only while `may_send` says so."""
    token = _may_send.set(may_send)
    try:
        yield
    finally:
        _may_send.reset(token)


class CheckedRequest(aiohttp.ClientRequest):
    """A request that is not sent once it is too late: give it to the session as its `request_class`."""

    async def send(self, conn: Connection) -> ClientResponse:
        """Send it on a connection that stands. Raises TooLateToSend."""
        may_send = _may_send.get()
        if may_send is not None and not may_send():
            raise TooLateToSend
        return await super().send(conn)
