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
    url: str = ""
    _server: asyncio.Server | None = None

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[ScorerTwin]:
        """Answer on a port of its own."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        host, port = self._server.sockets[0].getsockname()
        self.url = f"http://{host}:{port}"
        async with self._server:
            yield self

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
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
        writer.close()
