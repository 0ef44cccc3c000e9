"""The last look before a byte goes out: is the lease still ours, and was this request not sent before.

Connecting can take long, and a machine can be suspended meanwhile. A lease that ended then belongs to somebody else,
who must be able to rely on it that nothing is sent under it any more. And when a connection is lost that was used
before, the client sends by itself again what it holds to be idempotent: whether that does no harm, only we know.
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


_was_sent: ContextVar[list[bool] | None] = ContextVar("was_sent", default=None)


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


@contextmanager
def sending_once() -> Iterator[None]:
    """Let one request of this task go out, and nothing of it again."""
    token = _was_sent.set([])
    try:
        yield
    finally:
        _was_sent.reset(token)


class CheckedRequest(aiohttp.ClientRequest):
    """A request that is not sent twice, nor too late: give it to the session as its `request_class`."""

    async def send(self, conn: Connection) -> ClientResponse:
        """Send it on a connection that stands. Raises TooLateToSend, or ServerDisconnectedError the second time."""
        may_send, was_sent = _may_send.get(), _was_sent.get()
        if may_send is not None and not may_send():
            raise TooLateToSend
        if was_sent:
            raise aiohttp.ServerDisconnectedError("the connection was lost after the request had been sent")
        if was_sent is not None:
            was_sent.append(True)
        return await super().send(conn)
