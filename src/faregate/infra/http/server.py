"""Running an app on uvicorn, with the settings that we measured. Which app and which port is the caller's."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import orjson
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from faregate.infra.http.problems import MEDIA_TYPE, RequestRefused, problem_of

GRACE_S = 10


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
    """Uvicorn's protocol on httptools. What is no HTTP gets a problem too, although no app ever sees it."""

    def send_400_response(self, msg: str) -> None:  # noqa: ARG002 - uvicorn's own words
        body = orjson.dumps(problem_of(RequestRefused("the request is not valid HTTP"), instance="/"))
        head = (
            f"HTTP/1.1 400 Bad Request\r\ncontent-type: {MEDIA_TYPE}\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        self.transport.close()


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
