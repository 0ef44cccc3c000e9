"""All of faregate on this machine: embedded servers and one child process a part, under one supervisor.

`faregate up`, the demo, the fault runs and the benchmarks differ only in the environment that they give it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import structlog

from faregate.infra.embedded import ServerName, embedded_servers, servers_of
from faregate.infra.embedded.kafka import embedded_kafka, kafka_of
from faregate.infra.embedded.keeper import kafka_kept_running, servers_kept_running, unnamed_servers
from faregate.infra.migrations import migrate
from faregate.infra.periodic import run_periodically
from faregate.infra.scaling import Backlog, Scale, ScalingPolicy, next_scale
from faregate.infra.supervisor import Part, Supervisor, free_port
from faregate.infra.workflow.prepare import prepare

_log = structlog.get_logger(__name__)

HOST = "127.0.0.1"
BACKLOG_WATCH_S = 1.0
WORKER_NICENESS = 5
"""Somebody waits for an answer of the API; nobody notices whether a decision comes a moment later."""
_API, _WORKER, _CONTEXT, _ROLE = "api-", "worker-", "serve-", "work-"
"""How the processes are called: numbers for those that do all, names for those that do one thing."""
_CATCHES_UP = {"FAREGATE_READY_LAG_S_MAX": "inf"}
"""Whoever starts a system with a backlog wants it worked off: nobody else does it while a worker is not ready."""

ReadBacklog = Callable[[], Awaitable[Backlog]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run. `environment` holds further `FAREGATE_*` variables for every part.

    `contexts` and `roles` name those that get a process of their own, beside the `apis` and `workers` that do all.
    A home that is `temporary` is thrown away afterwards: its servers end with this process even if it is killed.
    With `kafka` a broker of ours runs too, and every part is told its address.
    """

    home: Path
    temporary: bool = False
    workers: int = 1
    apis: int = 1
    contexts: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    sandbox: bool = True
    faults_file: Path | None = None
    api_port: int | None = None
    sandbox_port: int | None = None
    database_url: str | None = None
    valkey_url: str | None = None
    kafka: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    on_restart: Callable[[str, int], None] | None = None

    @property
    def embedded(self) -> frozenset[ServerName]:
        """The servers that are ours to start: those without a URL of their own."""
        return unnamed_servers(database_url=self.database_url, valkey_url=self.valkey_url)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalSystem:
    """A running system: where it listens and who supervises it. `urls` holds the address of each API process.

    `kafka_bootstrap` is the address of our own broker, if the plan wants one.
    """

    plan: Plan
    urls: Mapping[str, str]
    sandbox_url: str
    database_url: str
    valkey_url: str
    kafka_bootstrap: str | None
    environment: Mapping[str, str]
    supervisor: Supervisor

    def pids(self) -> dict[str, int]:
        """Return the process ids by name, of the embedded servers too."""
        home = Path(self.environment["FAREGATE_HOME"])
        postgres, valkey = servers_of(home)
        servers = {"postgres": postgres.pid(), "valkey": valkey.pid(), "kafka": kafka_of(home).pid()}
        return {**self.supervisor.pids(), **{name: pid for name, pid in servers.items() if pid}}

    @property
    def api_urls(self) -> tuple[str, ...]:
        """The addresses of the API processes."""
        return tuple(self.urls.values())

    @property
    def api_url(self) -> str:
        """The address of the first API process."""
        return self.api_urls[0]

    @property
    def worker_numbers(self) -> list[int]:
        """The numbers of the workers that there are, the longest serving ones first."""
        return sorted(int(name.removeprefix(_WORKER)) for name in self.pids() if name.startswith(_WORKER))

    async def set_workers(self, wanted: int) -> None:
        """Start workers until there are so many, or end the newest: each finishes its batches and gives the rest back.

        Raises PartNotReady for one that does not start.
        """
        numbers = self.worker_numbers
        last = max(numbers, default=0)
        new = range(last + 1, last + 1 + wanted - len(numbers))
        await asyncio.gather(
            *(self.supervisor.add(_worker(self.plan, self.environment, f"{_WORKER}{n}")) for n in new),
            *(self.supervisor.remove(f"{_WORKER}{number}") for number in numbers[wanted:]),
        )


@asynccontextmanager
async def local_system(plan: Plan) -> AsyncIterator[LocalSystem]:
    """Start everything that the plan names, wait until all of it is ready, and stop it at the end."""
    with ExitStack() as servers:
        database_url, valkey_url = await asyncio.to_thread(_servers, plan, servers)
        kafka = await asyncio.to_thread(_kafka, plan, servers)
        await asyncio.to_thread(migrate, database_url)
        if plan.roles:
            await asyncio.to_thread(prepare, database_url)  # else consumers would wait for the one that runs
        urls = _urls(plan)
        sandbox_port = free_port(host=HOST, preferred=plan.sandbox_port)
        environment = {
            **plan.environment,
            "FAREGATE_HOME": str(plan.home),
            "FAREGATE_DATABASE_URL": database_url,
            "FAREGATE_VALKEY_URL": valkey_url,
            **({"FAREGATE_KAFKA_BOOTSTRAP": kafka} if kafka else {}),
            **({"FAREGATE_PUBLIC_URL": next(iter(urls.values()))} if urls else {}),
            "FAREGATE_SANDBOX_HOST": HOST,
            "FAREGATE_SANDBOX_PORT": str(sandbox_port),
        }
        parts = [
            *([_sandbox(plan, environment, sandbox_port)] if plan.sandbox else []),
            *(_api(plan, environment, name, url) for name, url in urls.items()),
            *(_worker(plan, environment, f"{_WORKER}{n}") for n in range(1, plan.workers + 1)),
            *(_worker(plan, environment, f"{_ROLE}{role}", role) for role in plan.roles),
        ]
        async with _kept_running(plan), Supervisor(parts, on_restart=plan.on_restart) as supervisor:
            yield LocalSystem(
                plan=plan,
                urls=urls,
                sandbox_url=f"http://{HOST}:{sandbox_port}",
                database_url=database_url,
                valkey_url=valkey_url,
                kafka_bootstrap=kafka,
                environment=environment,
                supervisor=supervisor,
            )


@asynccontextmanager
async def workers_scaled(
    system: LocalSystem,
    *,
    policy: ScalingPolicy,
    read_backlog: ReadBacklog,
    say: Callable[[str], None],
    every_s: float = BACKLOG_WATCH_S,
) -> AsyncIterator[None]:
    """Let workers come and go with the backlog while the block runs, and say so."""
    scale = Scale(workers=len(system.worker_numbers))

    async def watch() -> None:
        nonlocal scale
        backlog = await read_backlog()
        before = len(system.worker_numbers)
        scale = next_scale(
            replace(scale, workers=before), backlog=backlog, now_s=time.monotonic(), policy=policy
        )
        if scale.workers != before:
            say(f"{backlog.items:,} items wait for a worker: {before} → {scale.workers} workers")
            await system.set_workers(scale.workers)

    watcher = asyncio.create_task(
        run_periodically(asyncio.Event(), name="scaling of workers", every_s=every_s, work=watch)
    )
    try:
        yield
    finally:
        watcher.cancel()
        await asyncio.gather(watcher, return_exceptions=True)


def _servers(plan: Plan, servers: ExitStack) -> tuple[str, str]:
    if plan.database_url and plan.valkey_url:
        return plan.database_url, plan.valkey_url
    embedded = servers.enter_context(
        embedded_servers(plan.home, wanted=plan.embedded, end_with_us=plan.temporary)
    )
    return plan.database_url or embedded.database_url, plan.valkey_url or f"unix://{embedded.valkey_socket}"


def _kafka(plan: Plan, servers: ExitStack) -> str | None:
    if not plan.kafka:
        return None
    return servers.enter_context(embedded_kafka(plan.home, end_with_us=plan.temporary))


@asynccontextmanager
async def _kept_running(plan: Plan) -> AsyncIterator[None]:
    async with AsyncExitStack() as keepers:
        kept = servers_kept_running(plan.home, wanted=plan.embedded, end_with_us=plan.temporary)
        await keepers.enter_async_context(kept)
        if plan.kafka:
            await keepers.enter_async_context(kafka_kept_running(plan.home, end_with_us=plan.temporary))
        yield


def _log_file(plan: Plan, name: str) -> Path:
    return plan.home / "logs" / f"{name}.log"


def _sandbox(plan: Plan, environment: Mapping[str, str], port: int) -> Part:
    return Part(
        name="sandbox",
        arguments=("sandbox", *(("--faults", str(plan.faults_file)) if plan.faults_file else ())),
        environment=environment,
        log=_log_file(plan, "sandbox"),
        ready_url=f"http://{HOST}:{port}/healthz",
    )


def _urls(plan: Plan) -> dict[str, str]:
    """Return the address of each API process by its name; their ports follow the plan's."""
    names = [*(f"{_API}{n}" for n in range(1, plan.apis + 1)), *(f"{_CONTEXT}{c}" for c in plan.contexts)]
    ports = [
        free_port(host=HOST, preferred=plan.api_port + n if plan.api_port else None)
        for n in range(len(names))
    ]
    return {name: f"http://{HOST}:{port}" for name, port in zip(names, ports, strict=True)}


def _api(plan: Plan, environment: Mapping[str, str], name: str, url: str) -> Part:
    port = url.rpartition(":")[2]
    contexts = (name.removeprefix(_CONTEXT),) if name.startswith(_CONTEXT) else ()
    return Part(
        name=name,
        arguments=("serve", *contexts),
        environment={**environment, "FAREGATE_API_HOST": HOST, "FAREGATE_API_PORT": port},
        log=_log_file(plan, name),
        ready_url=f"{url}/readyz",
    )


def _worker(plan: Plan, environment: Mapping[str, str], name: str, *roles: str) -> Part:
    port = free_port(host=HOST)
    return Part(
        name=name,
        arguments=("work", *roles),
        environment={**_CATCHES_UP, **environment, "FAREGATE_WORKER_PORT": str(port)},
        log=_log_file(plan, name),
        ready_url=f"http://{HOST}:{port}/readyz",
        niceness=WORKER_NICENESS,
    )
