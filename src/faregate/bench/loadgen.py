"""A load generator for one HTTP route, cheap enough to share two cores with the server that it measures.

Open loop: requests are due at a fixed rate whatever the server does, and latency counts from the moment
at which a request was *due*, so that a stalled server cannot hide behind requests that were never sent. A
request that finds no free connection within the patience is reported as dropped. Without a rate, each
connection sends as fast as it is answered, and latency counts from the sending.

What the requests say does not belong here; see `load_process`.
"""

from __future__ import annotations

import asyncio
import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httptools

from faregate.bench.refusals import REFUSED, fault_of_refusal
from faregate.kernel.errors import UnavailableError

TICK_S = 0.001
RECONNECT_S = 0.1
LATE_S = 0.05
"""A request that was sent later than this after it was due is reported as late."""

MakeRequest = Callable[[int], bytes]
OnProgress = Callable[["Progress"], None]


class NobodyListens(UnavailableError):
    """No connection to the server could be opened at the start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What to send: `rate_per_s` None means flat out. Connections are spread evenly over `urls`.

    `patience_s`: a due request that has no connection by then is dropped. `timeout_s`: an answer that
    takes longer is a failure and its connection is closed. `count` numbers the requests from `first`. The
    bodies of accepted ones are written to `answers_file`, one a line.
    """

    urls: tuple[str, ...]
    count: int
    rate_per_s: float | None = None
    connections: int = 64
    first: int = 0
    patience_s: float = 1.0
    timeout_s: float = 30.0
    headers: Mapping[str, str] = field(default_factory=dict)
    answers_file: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a run is."""

    due: int
    answered: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """What came of a load. Latencies in milliseconds, of answered requests, refusals included.

    `accepted` are answers of 2xx, `refused` of 429 and 503, `failed` all others with broken connections
    and time-outs; `dropped` were due but never sent, `late` were sent more than LATE_S after they were due.
    `refusal_faults` counts refusals whose headers are wrong, by what is wrong. `generator_cpu_s` is what the
    generator itself took from the machine.
    """

    due: int
    sent: int
    accepted: int
    refused: int
    failed: int
    dropped: int
    late: int
    seconds: float
    accepted_per_s: float
    latency_ms_p50: float
    latency_ms_p95: float
    latency_ms_p99: float
    latency_ms_p999: float
    latency_ms_p9999: float
    latency_ms_max: float
    statuses: Mapping[str, int]
    refusal_faults: Mapping[str, int]
    generator_cpu_s: float


async def generate(load: Load, request: MakeRequest, *, on_progress: OnProgress | None = None) -> LoadReport:
    """Send the load and return what came of it. `request(n)` returns the bytes of request n, head included.

    `on_progress` is called about twice a second. Raises NobodyListens when no connection can be opened at
    the start.
    """
    return await _Generator(load, request, on_progress).run()


class _Connection(asyncio.Protocol):
    """One keep-alive connection with at most one request on its way."""

    def __init__(self, generator: _Generator) -> None:
        self._generator = generator
        self._transport: asyncio.Transport | None = None
        self._parser: Any = None
        self._headers: dict[str, str] = {}
        self._body: list[bytes] = []
        self.since: float | None = None
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment] # a stream transport, as create_connection makes it
        self._parser = httptools.HttpResponseParser(self)

    def send(self, request: bytes, *, since: float, now: float) -> None:
        """Send one request; its latency counts from `since`."""
        self.since, self.sent_at = since, now
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()

    def on_message_begin(self) -> None:
        """Called by the parser at the beginning of an answer."""
        self._headers.clear()
        self._body.clear()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Called by the parser for each header of an answer; only a refusal's are looked at."""
        if self._parser.get_status_code() in REFUSED:
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_body(self, body: bytes) -> None:
        """Called by the parser for each part of an answer's body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """Called by the parser at the end of an answer."""
        status, reusable = self._parser.get_status_code(), self._parser.should_keep_alive()
        since, self.since = self.since, None
        if since is not None:
            self._generator.answered(status, since, headers=self._headers, body=self._body)
        if reusable:
            self._generator.freed(self)
        else:
            self.close()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the name is asyncio's
        broken, self.since = self.since is not None, None
        self._generator.lost(self, broken=broken)

    def close(self) -> None:
        """Give the connection up; what was on its way counts as failed."""
        if self._transport is not None:
            self._transport.abort()


class _Generator:
    def __init__(self, load: Load, request: MakeRequest, on_progress: OnProgress | None) -> None:
        self._load = load
        self._request = request
        self._on_progress = on_progress
        self._clock = time.perf_counter
        self._latencies_s = array("d")
        self._statuses: Counter[str] = Counter()
        self._refusal_faults: Counter[str] = Counter()
        self._bodies: list[bytes] = []
        self._open: set[_Connection] = set()
        self._idle: list[_Connection] = []
        self._waiting: deque[float] = deque()
        self._reconnects: set[asyncio.Task[None]] = set()
        self._due = self._sent = self._dropped = self._late = 0
        self._closing = False
        self._last_answer = 0.0

    async def run(self) -> LoadReport:
        """Open the connections, send everything, wait for the answers, close."""
        await self._connect_all()
        cpu_before, started = time.process_time(), self._clock()
        self._last_answer = started
        try:
            await self._send_all(started)
        finally:
            self._closing = True
            for connection in tuple(self._open):
                connection.close()
            for task in self._reconnects:
                task.cancel()
        if self._load.answers_file is not None:
            text = b"".join(body + b"\n" for body in self._bodies)
            await asyncio.to_thread(Path(self._load.answers_file).write_bytes, text)
        return self._report(self._last_answer - started, time.process_time() - cpu_before)

    def answered(
        self, status: int, since: float, *, headers: Mapping[str, str], body: Sequence[bytes]
    ) -> None:
        """Count an answer."""
        self._last_answer = self._clock()
        self._latencies_s.append(self._last_answer - since)
        self._statuses[str(status)] += 1
        if status in REFUSED and (fault := fault_of_refusal(status, headers)):
            self._refusal_faults[f"{status}: {fault}"] += 1
        if 200 <= status < 300 and self._load.answers_file is not None:
            self._bodies.append(b"".join(body))

    def freed(self, connection: _Connection) -> None:
        """Give a free connection its next request, or let it wait for one."""
        now = self._clock()
        if self._waiting:
            self._dispatch(connection, since=self._waiting.popleft(), now=now)
        elif self._has_work() and not self._closing:
            self._due += 1
            self._dispatch(connection, since=now, now=now)
        else:
            self._idle.append(connection)

    def lost(self, connection: _Connection, *, broken: bool) -> None:
        """Count what was on its way as failed, and open another connection in its place."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if broken and not self._closing:
            self._statuses["broken"] += 1
            self._last_answer = self._clock()
        if not self._closing:
            task = asyncio.ensure_future(self._reconnect())
            self._reconnects.add(task)
            task.add_done_callback(self._reconnects.discard)

    def _has_work(self) -> bool:
        return bool(self._waiting) or (self._load.rate_per_s is None and self._due < self._load.count)

    def _dispatch(self, connection: _Connection, *, since: float, now: float) -> None:
        request = self._request(self._load.first + self._sent)
        self._sent += 1
        self._late += now - since > LATE_S
        connection.send(request, since=since, now=now)

    async def _send_all(self, started: float) -> None:
        next_sweep = started + 0.5
        while self._answered() + self._dropped < self._load.count:
            now = self._clock()
            self._fall_due(started, now)
            self._drop_late(now)
            self._drop_rest_if_nobody_listens(now)
            while self._idle and self._has_work():
                self.freed(
                    self._idle.pop()
                )  # used last: a server closes those that stay idle, maybe just now
            if now >= next_sweep:
                next_sweep = now + 0.5
                self._sweep(now)
            await asyncio.sleep(TICK_S)

    def _fall_due(self, started: float, now: float) -> None:
        rate = self._load.rate_per_s
        if rate is None:
            return
        due = min(self._load.count, int((now - started) * rate) + 1)
        self._waiting.extend(started + n / rate for n in range(self._due, due))
        self._due = max(self._due, due)

    def _drop_late(self, now: float) -> None:
        while self._waiting and now - self._waiting[0] > self._load.patience_s:
            self._waiting.popleft()
            self._dropped += 1

    def _drop_rest_if_nobody_listens(self, now: float) -> None:
        """Flat out nothing falls due by itself: after the whole patience without a connection, give up."""
        gone = not self._open and now - self._last_answer > self._load.patience_s
        if gone and self._load.rate_per_s is None:
            self._dropped += self._load.count - self._due
            self._due = self._load.count

    def _sweep(self, now: float) -> None:
        """Close connections whose answer is overdue, and tell how far we are."""
        for connection in tuple(self._open):
            if connection.since is not None and now - connection.sent_at > self._load.timeout_s:
                connection.close()
        if self._on_progress is not None:
            self._on_progress(Progress(due=self._due, answered=self._answered(), count=self._load.count))

    def _answered(self) -> int:
        return len(self._latencies_s) + self._statuses["broken"]

    async def _connect_all(self) -> None:
        targets = [self._load.urls[n % len(self._load.urls)] for n in range(self._load.connections)]
        results = await asyncio.gather(*(self._connect(url) for url in targets), return_exceptions=True)
        failures = [error for error in results if isinstance(error, BaseException)]
        if len(failures) == len(targets):
            raise NobodyListens(f"no connection to {', '.join(self._load.urls)}: {failures[0]}")

    async def _connect(self, url: str) -> None:
        parts = urlsplit(url)
        loop = asyncio.get_running_loop()
        host, port = parts.hostname or "", parts.port or 80
        _, connection = await loop.create_connection(lambda: _Connection(self), host, port)
        self._open.add(connection)
        self._idle.append(connection)

    async def _reconnect(self) -> None:
        url = self._load.urls[len(self._open) % len(self._load.urls)]
        while not self._closing:
            try:
                await self._connect(url)
            except OSError:
                await asyncio.sleep(RECONNECT_S)
            else:
                return

    def _report(self, seconds: float, cpu_s: float) -> LoadReport:
        latencies_s = sorted(self._latencies_s)
        accepted = sum(n for status, n in self._statuses.items() if status.startswith("2"))
        refused = sum(self._statuses[str(status)] for status in REFUSED)
        return LoadReport(
            due=self._due,
            sent=self._sent,
            accepted=accepted,
            refused=refused,
            failed=self._statuses.total() - accepted - refused,
            dropped=self._dropped,
            late=self._late,
            seconds=seconds,
            accepted_per_s=accepted / seconds if seconds else 0.0,
            latency_ms_p50=percentile_ms(latencies_s, 50),
            latency_ms_p95=percentile_ms(latencies_s, 95),
            latency_ms_p99=percentile_ms(latencies_s, 99),
            latency_ms_p999=percentile_ms(latencies_s, 99.9),
            latency_ms_p9999=percentile_ms(latencies_s, 99.99),
            latency_ms_max=percentile_ms(latencies_s, 100),
            statuses=dict(self._statuses),
            refusal_faults=dict(self._refusal_faults),
            generator_cpu_s=cpu_s,
        )


def percentile_ms(sorted_s: list[float], percent: float) -> float:
    """Return the nearest-rank percentile, in milliseconds, of seconds that are sorted; 0 of none."""
    if not sorted_s:
        return 0.0
    rank = max(1, -(-len(sorted_s) * percent // 100))
    return sorted_s[int(rank) - 1] * 1000
