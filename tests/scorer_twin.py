"""A scorer of one's own on real HTTP, which answers as a test scripts it: also late, broken, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson

Write = Callable[[asyncio.StreamWriter, dict[str, Any]], Awaitable[None]]


def answer_to(asked: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a whole answer that approves, with other values."""
    return {
        "decision_id": "dec_01J3R2J7F1TQ0K6W6N8A4X9V7R",
        "payment_id": asked["payment_id"],
        "score": 0.01,
        "action": "approve",
        "reasons": [],
        "ruleset": {"name": "payments", "version": 1},
        "model": {"name": "first", "version": 1, "sha256": "0" * 64},
        "features": {"version": "1", "as_of": asked["occurred_at"], "fresh_ms": 12},
        "degraded": [],
        **changes,
    }


@dataclass
class ScorerTwin:
    """What it says next: `changes` to an approval, after `delay_s`; or `raw` bytes, and the connection ends."""

    changes: dict[str, Any] = field(default_factory=dict)
    delay_s: float = 0.0
    status: int = 200
    raw: bytes | None = None
    is_silent: bool = False
    asked: list[dict[str, Any]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    was_asked: asyncio.Event = field(default_factory=asyncio.Event)
    connections: int = 0
    port: int = 0
    _server: asyncio.Server | None = None
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        """Where it answers."""
        return f"http://127.0.0.1:{self.port}"

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ScorerTwin]:
        """Answer on a port of its own."""
        await self.start()
        try:
            yield self
        finally:
            await self.stop()

    async def forget(self) -> None:
        """Answer again as at the beginning."""
        self.changes, self.delay_s, self.status, self.raw, self.is_silent = {}, 0.0, 200, None, False
        self.asked.clear()
        self.heads.clear()
        if self._server is None:
            await self.start()

    async def start(self) -> None:
        """Listen, on the port of before if there was one."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and cut those that there are."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._open.add(writer)
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = next(
                    int(line.split(b":")[1])
                    for line in head.lower().split(b"\r\n")
                    if line.startswith(b"content-length")
                )
                asked = orjson.loads(await reader.readexactly(length))
                self.asked.append(asked)
                self.heads.append(head)
                self.was_asked.set()
                await asyncio.sleep(self.delay_s)
                if self.is_silent:
                    await reader.read()
                    break
                if self.raw is not None:
                    writer.write(self.raw)
                    await writer.drain()
                    break
                body = orjson.dumps(answer_to(asked, **self.changes))
                writer.write(
                    b"HTTP/1.1 %d X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
                    % (self.status, len(body), body)
                )
                await writer.drain()
        self._open.discard(writer)
        writer.close()
