"""The whole of credit inside a test's loop: API over real HTTP, the worker's loops, workflow engine and sandbox.

    from tests.credit_worker import quiet_system, servers_of_module, system_of_module  # noqa: F401
    pytestmark = pytest.mark.asyncio(loop_scope="module")

`system` is the fixture that they give. It serves all tests of a module: each takes people of its own
(`new_person`) and scripts its faults before it submits. Providers are given up after `TIMEOUT_S` instead of three
seconds, and look-ups lag 0.3 s; nothing else differs from `faregate work`. What processes do is proved in `tests/e2e`.
Events come by the log in PostgreSQL; a module that also imports `both_buses` runs once more with them on Kafka.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import psycopg
import pytest
import pytest_asyncio
from pydantic import SecretStr

from faregate.entrypoints.bootstrap import decisions
from faregate.entrypoints.bootstrap import worker as worker_process
from faregate.entrypoints.bootstrap.providers import adapters
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.worker import Worker
from faregate.gateway.contracts import Adapter
from faregate.infra.cache import Cache
from faregate.infra.database import Database
from faregate.infra.eventlog import lag, unsequenced
from faregate.infra.security.signatures import sign_body
from faregate.infra.settings import Settings
from faregate.infra.workflow.dbos_engine import prepare
from faregate.sandbox.faults import Fault, FaultPlan
from faregate.sandbox.people import Identity, person, record_of
from faregate.sandbox.personas import PERSONAS, known_of
from faregate.sandbox.providers.kyc import Kyc
from tests.credit_world import CreditWorld, Reply, application, changed, open_credit_world
from tests.sandbox import CREDENTIALS, LOOK_UP_LAG_S_MAX, Sandbox, open_sandbox, until

__all__ = [
    "HURRIED_S",
    "KYC_ANSWER",
    "SLOW",
    "STRAIGHT",
    "TIMEOUT_S",
    "CreditSystem",
    "both_buses",
    "new_person",
    "quiet_system",
    "servers_of_module",
    "system_of_module",
    "working",
]

TIMEOUT_S = 1.0
DEADLINE_S = 60.0
HURRIED_S = 2.0
PLAN = FaultPlan.model_validate(
    {"default": {"hold_s": 3.0, "retry_after_s": 0, "callback_late_s": 0.3, "late_work_s": 0.1}}
)
"""No fault unless a test asks for it, and no latency."""

SLOW = {"processing": {"median_ms": 60_000, "max_ms": 60_000}}
"""An asynchronous provider whose results do not come while a test runs."""
STRAIGHT = ["bureau:1", "fraud:1", "income:1", "kyc:1"]
"""What is executed for an application that meets no fault."""
CHECK_PLANS = """
version = "checks-of-the-tests"
[default]
bureau = { mandatory = true }
kyc = { mandatory = true }
fraud = { mandatory = true }
income = { mandatory = true }
[product.student_card]
bureau = { mandatory = true }
kyc = { mandatory = true }
fraud = { mandatory = true }
income = { mandatory = false, budget_s = 2 }
[product.instant_card]
bureau = { mandatory = true }
kyc = { mandatory = true }
fraud = { mandatory = true, budget_s = 2 }
"""
"""Products that differ from the default: one may do without an income check, one never asks for it."""
KYC_ANSWER = Kyc(api_key="", callback_secret="").work(
    known_of(Identity(legal_name="", dob="", ssn_last4="", annual_income=0), PERSONAS["greta gutmann"])
)

_databases = itertools.count(1)
FIRST_PERSON = 5_000
_people = itertools.count(FIRST_PERSON)


@dataclass(kw_only=True)
class CreditSystem:
    """A running system. `world` is its API, `hurried` another one whose applications wait `HURRIED_S` only."""

    world: CreditWorld
    hurried: CreditWorld
    sandbox: Sandbox
    credit: Database
    log: Database
    _worker: AsyncExitStack = field(repr=False)

    async def submit(self, name: str | None = None, *, hurried: bool = False, **changes: Any) -> str:
        """Submit the application of somebody new, a persona of that name if one is given; return its id."""
        reply = await self.send(name, hurried=hurried, **changes)
        assert reply.status == 202, reply.body
        return str(reply.json["application_id"])

    async def send(self, name: str | None = None, *, hurried: bool = False, **changes: Any) -> Reply:
        """Submit and return the answer, whatever it is."""
        body = new_person(name)
        return await (self.hurried if hurried else self.world).submit(changed(body, **changes))

    async def call_back(
        self, application_id: str, *, status: str = "success", secret: str = CREDENTIALS.kyc_callback_secret
    ) -> Reply:
        """Call back as the identity check does about its first request for an application."""
        body: dict[str, Any] = {
            "provider_request_id": f"{application_id}:kyc:1",
            "status": status,
            "payload": KYC_ANSWER if status == "success" else {"code": "documents_unreadable"},
        }
        signed = orjson.dumps(body | {"signature": sign_body(body, secret=secret.encode())})
        path, headers = "/internal/providers/kyc/callbacks", {"Content-Type": "application/json"}
        return await self.world.request("POST", path, client=None, headers=headers, data=signed)

    async def decided(self, application_id: str) -> dict[str, Any]:
        """Wait until the API shows a decision and return it."""

        async def ask() -> Reply:
            return await self.world.decision(application_id)

        return dict((await until(ask, lambda reply: reply.status == 200)).json)

    async def status(self, application_id: str) -> dict[str, Any]:
        return dict((await self.world.status(application_id)).json)

    async def final_status(self, application_id: str) -> dict[str, Any]:
        """Wait until pollers see that the application was decided: their snapshot follows in a moment."""
        return await until(lambda: self.status(application_id), lambda found: found["status"] != "processing")

    async def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement as the superuser and return its rows."""
        return await self.world.sql(query, **values)

    async def until_sql(
        self, query: str, holds: Callable[[list[dict[str, Any]]], object], **values: Any
    ) -> list[dict[str, Any]]:
        """Ask the database until the rows are as wanted and return them."""
        return await until(lambda: self.sql(query, **values), holds)

    async def events(self, application_id: str) -> list[dict[str, Any]]:
        """Return the log of one application in its order."""
        return await self.sql(
            "select * from eventlog.event where aggregateid = %(id)s order by seq", id=application_id
        )

    async def until_event(self, application_id: str, type: str) -> dict[str, Any]:  # noqa: A002
        """Wait for the first event of a type and return its payload."""
        found = await until(
            lambda: self.events(application_id), lambda events: any(e["type"] == type for e in events)
        )
        return next(dict(e["payload"]) for e in found if e["type"] == type)

    async def intents(self, application_id: str) -> dict[str, dict[str, Any]]:
        """Return the submission journal of one application by request id."""
        rows = await self.sql(
            "select * from gateway.intent where subject_id = %(id)s order by created_at", id=application_id
        )
        return {row["provider_request_id"].removeprefix(f"{application_id}:"): row for row in rows}

    async def until_requested(self, application_id: str, reference: str) -> None:
        """Wait until a request, named without its application id, stands in the journal."""
        await until(lambda: self.intents(application_id), lambda intents: reference in intents)

    async def executed(self, application_id: str, **wanted: str) -> list[str]:
        """Return the references, without the application id, that the outside world really executed, sorted."""
        found = await self.sandbox.executions(application=application_id, **wanted)
        return sorted(e["reference"].removeprefix(f"{application_id}:") for e in found)

    async def signals(self, application_id: str) -> dict[str, dict[str, Any]]:
        """Return the risk signals of one application by check."""
        query = "select * from credit.risk_signal where application_id = %(id)s"
        return {row["check_name"]: row for row in await self.sql(query, id=application_id)}

    async def decisions(self, application_id: str) -> list[dict[str, Any]]:
        """Return every decision row of one application."""
        query = "select * from credit.decision where application_id = %(id)s order by version"
        return await self.sql(query, id=application_id)

    async def until_quiet(self) -> None:
        """Wait until every event is in the log and every consumer group has handled what concerns it."""

        async def waiting() -> int:
            async with self.log.connection() as conn:
                return (await unsequenced(conn)).events + sum(group.events for group in await lag(conn))

        await until(waiting, lambda events: events == 0)

    @asynccontextmanager
    async def faults(self, **providers: Any) -> AsyncIterator[None]:
        """Let providers behave otherwise, as a fault plan says by provider, for the length of a block."""
        default = PLAN.default.model_dump(mode="json")
        await self.sandbox.set_faults(
            {"default": default, "providers": {name: default | plan for name, plan in providers.items()}}
        )
        try:
            yield
        finally:
            await self.sandbox.set_faults({"default": default})

    async def script(self, provider: str, *faults: Fault) -> None:
        """The next calls of a provider meet these faults, whoever they are for."""
        for fault in faults:
            await self.sandbox.script(provider, fault)

    @asynccontextmanager
    async def no_worker(self) -> AsyncIterator[None]:
        """End the worker as SIGTERM would, and start another at the end of the block."""
        await self._worker.aclose()
        try:
            yield
        finally:
            await self._worker.enter_async_context(working(self.world.site))


def new_person(name: str | None = None) -> dict[str, Any]:
    """Return a form that nobody submitted yet, under a persona's name if one is given.

    A persona asks for the same whoever applied before: what becomes of it depends on its fate alone. Somebody
    without a name has papers, earns what he says, is on no watch list and is no suspected fraud: some are not, and
    which test gets which person depends on the tests before it.
    """
    if name is None:
        return application(next(number for number in _people if is_unsuspected(number)))
    return changed(application(FIRST_PERSON), legal_name=name, ssn_last4=f"{next(_people):04d}")


def is_unsuspected(number: int) -> bool:
    someone = person(number)
    known = record_of(someone)
    is_earned = known.annual_income_verified >= someone.annual_income
    return is_earned and known.identity_verified and not known.watchlist_match and known.fraud_level == "low"


@asynccontextmanager
async def working(site: Site) -> AsyncIterator[Worker]:
    """Run a worker in this loop, as `faregate work` does in its process. One at a time: the engine allows no more."""
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        worker = await worker_process.worker(stack, site)
        tasks = [asyncio.create_task(loop(stop), name=name) for name, loop in worker.loops.items()]
        try:
            yield worker
        finally:
            stop.set()
            await asyncio.gather(*tasks)


@asynccontextmanager
async def open_system(settings: Settings, *, folder: Path) -> AsyncIterator[CreditSystem]:
    """Start sandbox, two APIs and a worker on the servers that the settings name."""
    assert settings.valkey_url is not None
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(open_sandbox(folder / "sandbox", PLAN))
        cache = await Cache.open(settings.valkey_url.get_secret_value())
        stack.push_async_callback(cache.close)
        await cache.clear()
        port = int(sandbox.url.rpartition(":")[2])
        patient = settings.model_copy(update={"sandbox_port": port})
        hurried = patient.model_copy(update={"application_deadline_s": HURRIED_S})
        world = await stack.enter_async_context(open_credit_world(patient, cache=cache))
        system = CreditSystem(
            world=world,
            hurried=await stack.enter_async_context(open_credit_world(hurried, cache=cache)),
            sandbox=sandbox,
            credit=await world.site.database(stack, "credit", connections_max=10),
            log=await world.site.database(stack, "eventlog", connections_max=1),
            _worker=await stack.enter_async_context(AsyncExitStack()),
        )
        async with system.no_worker():
            pass
        yield system


@pytest.fixture(scope="module", params=["postgres", "kafka"], name="bus_of_module")
def both_buses(request: pytest.FixtureRequest) -> Mapping[str, Any]:
    """For a module whose tests must pass whichever bus carries events: the settings of each in turn."""
    if request.param == "postgres":
        return {}
    bootstrap: str = request.getfixturevalue("kafka")
    return {"kafka_bootstrap": bootstrap, "kafka_topic_prefix": f"t{uuid4().hex[:12]}."}


@pytest.fixture(scope="module")
def servers_of_module(
    postgres_url: str,
    valkey_socket: Path,
    bus_of_module: Mapping[str, Any],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Settings]:
    """Settings with a fresh, migrated database for one module of tests."""
    name = f"credit_{next(_databases)}"
    with psycopg.connect(postgres_url.replace("/faregate?", "/postgres?"), autocommit=True) as server:
        server.execute(f"create database {name} template faregate strategy file_copy")
        url = postgres_url.replace("/faregate?", f"/{name}?")
        prepare(url)
        settings = _settings(url, valkey_socket, home=tmp_path_factory.mktemp("home"))
        yield settings.model_copy(update=dict(bus_of_module))
        server.execute(f"drop database {name} with (force)")


def _settings(database_url: str, valkey_socket: Path, *, home: Path) -> Settings:
    """Return settings for these servers that speak to the test sandbox with its credentials."""
    (plans := home / "check_plans.toml").write_text(CHECK_PLANS)
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        home=home,
        database_url=SecretStr(database_url),
        valkey_url=SecretStr(f"unix://{valkey_socket}"),
        application_deadline_s=DEADLINE_S,
        check_plans=plans,
        status_cache_ttl_s=DEADLINE_S,  # no snapshot that should have been replaced ends in time to pass a test
        webhook_loopback=True,
        **asdict(CREDENTIALS),
    )


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def system_of_module(
    servers_of_module: Settings, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CreditSystem]:
    """The system that all tests of a module use one after the other."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(decisions, "adapters", _impatient(adapters))
        async with open_system(servers_of_module, folder=tmp_path_factory.mktemp("system")) as running:
            yield running


@pytest_asyncio.fixture(loop_scope="module", name="system")
async def quiet_system(system_of_module: CreditSystem) -> AsyncIterator[CreditSystem]:
    """The running system; a test that leaves an application undecided would spoil the next one's faults."""
    yield system_of_module
    query = "select id from credit.application where status = 'processing'"
    await system_of_module.until_sql(query, lambda rows: not rows)


def _impatient(make: Callable[..., dict[str, Adapter]]) -> Callable[..., dict[str, Adapter]]:
    """Return adapters that wait less, for a sandbox whose look-ups lag less."""

    def impatient(*args: Any) -> dict[str, Adapter]:
        made = make(*args)
        for adapter in made.values():
            adapter.capabilities = replace(
                adapter.capabilities, timeout_s=TIMEOUT_S, look_up_lag_s_max=LOOK_UP_LAG_S_MAX
            )
        return made

    return impatient
