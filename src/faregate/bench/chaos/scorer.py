"""A scorer that fails on purpose, in a process of its own: `python -m faregate.bench.chaos.scorer PORT SEED`.

What happens to a payment follows from its id and the seed, so that whoever judges knows it too. Besides, the scorer is
gone for a while again and again: first it refuses connections, then it lets them hang.
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from enum import StrEnum
from typing import Any, Final

import orjson

HOST: Final = "127.0.0.1"
SERVES_S, REFUSES_S, HANGS_S = 7.5, 1.25, 1.25
_LATE_S, _TOO_LATE_S = 0.02, 0.2


class Dealt(StrEnum):
    """What happens to a payment at the scorer."""

    HEALTHY = "healthy"
    LATE = "20 ms late"
    STALE = "stale"
    MODEL_MISSING = "model missing"
    TOO_LATE = "200 ms late"
    NEVER = "never answered"
    ERROR = "500"
    OVERLOADED = "503"
    CUT = "cut in the middle"
    GARBAGE = "garbage"


_SHARES: Final = {
    Dealt.HEALTHY: 40,
    Dealt.LATE: 10,
    Dealt.STALE: 8,
    Dealt.MODEL_MISSING: 8,
    Dealt.TOO_LATE: 8,
    Dealt.NEVER: 8,
    Dealt.ERROR: 5,
    Dealt.OVERLOADED: 5,
    Dealt.CUT: 4,
    Dealt.GARBAGE: 4,
}
_DECK: Final = tuple(fault for fault, share in _SHARES.items() for _ in range(share))
LACKS: Final = {Dealt.STALE: "features_stale", Dealt.MODEL_MISSING: "model_missing"}
ANSWERED: Final = frozenset({Dealt.HEALTHY, Dealt.LATE, *LACKS})
"""Faults with a whole answer in time, as far as the scorer is concerned."""


def dealt_to(payment_id: str, seed: int) -> Dealt:
    """Return what happens to a payment."""
    drawn = int.from_bytes(hashlib.sha256(f"{seed}:{payment_id}".encode()).digest()[:4])
    return _DECK[drawn % len(_DECK)]


class FaultyScorer:
    """Answers on a port, and is gone for a while again and again."""

    def __init__(self, *, port: int, seed: int) -> None:
        self._port = port
        self._seed = seed
        self._open: set[asyncio.StreamWriter] = set()

    async def run(self) -> None:
        """Serve, refuse, let hang, for ever."""
        while True:
            async with self._serving():
                await asyncio.sleep(SERVES_S)
            await asyncio.sleep(REFUSES_S)
            with socket.create_server((HOST, self._port), backlog=1):  # nobody accepts what waits here
                await asyncio.sleep(HANGS_S)

    @asynccontextmanager
    async def _serving(self) -> AsyncIterator[None]:
        server = await asyncio.start_server(self._serve, HOST, self._port, reuse_address=True, backlog=1024)
        try:
            yield
        finally:
            server.close()
            for writer in list(self._open):
                writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self._open.discard(writer)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answer one request, and say whether the connection goes on."""
        asked = await _read(reader)
        fault = dealt_to(asked["payment_id"], self._seed)
        match fault:
            case Dealt.NEVER:
                await reader.read()
                return False
            case Dealt.GARBAGE:
                writer.write(b"\x16\x03\x01\x02\x00 nothing that anybody understands")
            case Dealt.CUT:
                writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 900\r\n\r\n{"decision_id": "dec_')
            case Dealt.ERROR | Dealt.OVERLOADED:
                writer.write(_response(int(fault.value), {"type": "/problems/chaos"}))
            case _:
                await asyncio.sleep({Dealt.LATE: _LATE_S, Dealt.TOO_LATE: _TOO_LATE_S}.get(fault, 0.0))
                writer.write(_response(200, _approval(asked, fault)))
        await writer.drain()
        return fault not in (Dealt.GARBAGE, Dealt.CUT)


async def _read(reader: asyncio.StreamReader) -> dict[str, Any]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.partition(b"content-length:")[2].partition(b"\r\n")[0])
    asked: dict[str, Any] = orjson.loads(await reader.readexactly(length))
    return asked


def _approval(asked: dict[str, Any], fault: Dealt) -> dict[str, Any]:
    return {
        "decision_id": f"dec_{asked['payment_id'][4:]}",
        "payment_id": asked["payment_id"],
        "score": 0.01,
        "action": "approve",
        "reasons": [],
        "ruleset": {"name": "chaos", "version": 1},
        "model": None
        if fault is Dealt.MODEL_MISSING
        else {"name": "chaos", "version": 1, "sha256": "0" * 64},
        "features": {"version": "chaos", "as_of": asked["occurred_at"], "fresh_ms": 1},
        "degraded": [LACKS[fault]] if fault in LACKS else [],
    }


def _response(status: int, value: Any) -> bytes:
    body = orjson.dumps(value)
    head = b"HTTP/1.1 %d x\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


if __name__ == "__main__":
    asyncio.run(FaultyScorer(port=int(sys.argv[1]), seed=int(sys.argv[2])).run())
