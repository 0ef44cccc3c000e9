"""Running an app on uvicorn, with the settings that we measured. Which app and which port is the caller's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from http import HTTPStatus

import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from faregate.infra.http.edge import Limits
from faregate.infra.http.problems import MEDIA_TYPE, RequestRefused, problem_of

GRACE_S = 10
HEAD_BYTES_MAX = 64 * 1024
HEAD_S_MAX = Limits().request_s_max
KEEP_ALIVE_S = 75
"""Longer than clients and proxies keep idle connections as a rule: who closes last breaks no request on its way."""


def server_config(app: ASGIApp, *, grace_s: int = GRACE_S) -> uvicorn.Config:
    """Return uvicorn's settings: httptools, our own log instead of its access log, no server header."""
    return uvicorn.Config(
        app,
        http=_Protocol,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=grace_s,
        timeout_keep_alive=KEEP_ALIVE_S,
    )


def listen(*, host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    """Return a listening socket; port 0 takes a free one (`socket.getsockname()[1]`)."""
    listener = socket.create_server((host, port), backlog=2048)
    # Connections inherit it. asyncio sets it on none of them, since this socket does not state its protocol, and
    # without it the body of an answer waits for the acknowledgement of its head: 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


@asynccontextmanager
async def serving(app: ASGIApp, *, listener: socket.socket | None = None) -> AsyncIterator[str]:
    """Serve the app on the running loop inside the body, and give its base URL. For tests and the demo."""
    listener = listener or listen()
    server = _QuietServer(server_config(app))
    task = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.wait_started(task)
        host, port = listener.getsockname()[:2]
        yield f"http://{host}:{port}"
    finally:
        server.should_exit = True
        await task
        listener.close()


class _Protocol(HttpToolsProtocol):
    """Uvicorn's protocol on httptools, with limits for what is not a body: request line, headers, trailers.

    What is refused here gets a problem too, although no app ever sees it; it waits until earlier requests of
    its connection are answered.
    """

    _in_head = _in_message = False
    _plain_bytes = 0  # since the head or the last of the body, without the read in which it began
    _owed = 0  # requests whose answers have not ended
    _refusal: bytes | None = None
    _head_timer: asyncio.TimerHandle | None = None  # runs while a head is awaited and no request is answered
    _is_silent = True  # not a byte came yet

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as uvicorn
        super().connection_made(transport)
        self._head_timer = self.loop.call_later(KEEP_ALIVE_S, self._head_timed_out)

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_head_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self._refusal is not None:
            return
        if self._is_silent:
            self._is_silent = False
            self._stop_head_timer()
        if self._in_message:
            self._plain_bytes += len(data)
        super().data_received(data)
        if self._in_message and self._plain_bytes > HEAD_BYTES_MAX:
            self._refuse_long_head()
        if self._head_timer is None and not self._owed and not self.transport.is_closing():
            self._head_timer = self.loop.call_later(HEAD_S_MAX, self._head_timed_out)

    def on_message_begin(self) -> None:
        self._in_head = self._in_message = True
        self._plain_bytes = 0
        super().on_message_begin()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; a trailer is dropped, or it could pass for one (RFC 9110, 6.5.1)."""
        if self._in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        if len(self.url) + sum([len(name) + len(value) for name, value in self.headers]) > HEAD_BYTES_MAX:
            self._refuse_long_head()
            raise ValueError("the head is too long")  # ends the parsing
        super().on_headers_complete()
        self._in_head = False
        self._owed += 1
        self._stop_head_timer()

    def on_body(self, body: bytes) -> None:
        self._plain_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._in_message = False
        super().on_message_complete()

    def on_response_complete(self) -> None:
        self._owed -= 1
        super().on_response_complete()
        self._send_refusal_in_turn()

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        self._refuse(HTTPStatus.BAD_REQUEST, "the request is not valid HTTP")

    def _refuse_long_head(self) -> None:
        detail = f"the request line, headers and trailers may have {HEAD_BYTES_MAX} bytes"
        self._refuse(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, detail)

    def _head_timed_out(self) -> None:
        if self._in_head:
            self._refuse(HTTPStatus.REQUEST_TIMEOUT, f"the headers were not complete within {HEAD_S_MAX:g} s")
        self.transport.close()

    def _refuse(self, status: HTTPStatus, detail: str) -> None:
        """Answer the request that is being read with a problem, after those before it, and close."""
        if self._refusal is not None or self.transport.is_closing():
            return
        problem = problem_of(RequestRefused(detail), instance="/") | {"status": status}
        body = orjson.dumps(problem)
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self._refusal = head.encode() + body
        if not self._in_head and not self.cycle.response_complete:  # its own answer is among those owed
            self._owed -= 1
            if self.pipeline:
                self.pipeline.popleft()
        self._send_refusal_in_turn()

    def _send_refusal_in_turn(self) -> None:
        if self._refusal is None or self._owed or self.transport.is_closing():
            return
        if self._in_head or not self.cycle.response_started:  # else it would stand inside an answer
            self.transport.write(self._refusal)
        self.transport.close()

    def _stop_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _QuietServer(uvicorn.Server):
    """A server that leaves the process's signals alone and tells when it is up."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._up = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._up.set()

    async def wait_started(self, task: asyncio.Task[None]) -> None:
        """Return when requests are taken; raise what stopped the server before that."""
        up = asyncio.create_task(self._up.wait())
        await asyncio.wait({up, task}, return_when=asyncio.FIRST_COMPLETED)
        up.cancel()
        if task.done():
            task.result()
            raise RuntimeError("the server stopped while it was starting")
