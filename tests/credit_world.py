"""The credit API for tests: the real app on the test's database and Valkey, over real HTTP, with two clients.

    from tests.credit_world import shared_world, world  # noqa: F401

`world` is a test's own. `shared_world` serves a whole module, which saves half a second a test: its tests run
on one loop (`pytestmark = pytest.mark.asyncio(loop_scope="module")`), and each takes people of its own by
`new_form`. Nothing works behind it (no sequencer, consumer, workflow or provider), so that what a request wrote
stays as it is. `open_credit_world` takes other settings; `CreditWorld.site` is where workers may start.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from pydantic import SecretStr
from yarl import URL

from faregate.entrypoints.bootstrap.api import api_app
from faregate.entrypoints.bootstrap.site import Site
from faregate.infra.cache import Cache
from faregate.infra.database import Connection
from faregate.infra.http.api_keys import create_api_key
from faregate.infra.http.server import listen, serving
from faregate.infra.settings import Settings
from faregate.sandbox.people import application
from tests.servers import new_database

__all__ = [
    "ACME",
    "APPLICATIONS",
    "FORM",
    "GLOBEX",
    "CreditWorld",
    "Reply",
    "application",
    "changed",
    "new_form",
    "new_key",
    "open_credit_world",
    "refused",
    "shared_world",
    "world",
]

APPLICATIONS = "/api/credit-applications"
ACME, GLOBEX = "acme", "globex"
"""The clients. Each has a key with the scopes credit:submit and credit:read."""
FORM: Mapping[str, Any] = {
    "product_type": "cashback_card",
    "applicant": {
        "legal_name": "Zyx Quillfeather",
        "dob": "1961-02-03",
        "ssn_last4": "7391",
        "annual_income": 52_000,
    },
    "amount": 2500,
    "purpose": "car_used",
}
"""A form to be refused: whoever repeats anything of its person gives it away."""
_SECRETS = ("zyx", "quillfeather", "1961-02-03", "7391")

_numbers = itertools.count(1)
_TABLES = """
select format('%I.%I', schemaname, tablename) as name from pg_tables
where schemaname in (
    'access', 'credit', 'eventlog', 'fraud', 'gateway', 'members', 'payments', 'points', 'rules', 'travel', 'workflow'
)
"""


@dataclass(frozen=True)
class Reply:
    """An answer, read to its end. Header names are looked up in any case."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def problem(self) -> tuple[int, str]:
        """Status and type of an answer that must be a well-formed problem: `(422, "validation-failed")`."""
        assert self.headers["content-type"] == "application/problem+json", self.body
        found = self.json
        assert found["status"] == self.status
        # A stored answer names no request: it is the same for every repetition.
        assert found.get("request_id", own := self.headers["x-request-id"]) == own
        assert all(isinstance(found[m], str) and found[m] for m in ("type", "title", "detail", "instance"))
        return self.status, str(found["type"]).removeprefix("/problems/")


@dataclass(frozen=True, kw_only=True)
class CreditWorld:
    """A running API. `site` holds the settings and servers, `cache` the test's own way into its Valkey."""

    url: str
    site: Site
    session: aiohttp.ClientSession
    cache: Cache
    connection: Connection
    tokens: dict[str, str]

    @property
    def settings(self) -> Settings:
        return self.site.settings

    async def request(
        self,
        method: str,
        path: str,
        *,
        client: str | None = ACME,
        headers: Mapping[str, str] | Sequence[tuple[str, str]] = (),
        data: Any = None,
    ) -> Reply:
        """Send a request as a client (None: without a key) and read the answer. The path is sent as it is."""
        sent = list(headers.items()) if isinstance(headers, Mapping) else list(headers)
        if client:
            sent.append(("Authorization", f"Bearer {self.tokens[client]}"))
        url = URL(self.url + path, encoded=True)
        async with self.session.request(method, url, headers=sent, data=data) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def submit(
        self, body: Any = None, *, key: str | None = None, client: str | None = ACME, **headers: str
    ) -> Reply:
        """Submit a form (None: of a new person; bytes are sent as they are) under a key (None: a new one)."""
        raw = body if isinstance(body, bytes) else orjson.dumps(new_form() if body is None else body)
        fixed = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
        return await self.request("POST", APPLICATIONS, client=client, headers={**fixed, **headers}, data=raw)

    async def submitted(self, body: Any = None, *, client: str = ACME) -> str:
        """Submit a form (None: of a new person) and return the application's id."""
        reply = await self.submit(body, client=client)
        assert reply.status == 202, reply.body
        return str(reply.json["application_id"])

    async def status(self, application_id: str, *, client: str | None = ACME) -> Reply:
        return await self.request("GET", f"{APPLICATIONS}/{application_id}", client=client)

    async def decision(self, application_id: str, *, client: str | None = ACME) -> Reply:
        return await self.request("GET", f"{APPLICATIONS}/{application_id}/decision", client=client)

    async def sql(self, query: str, **values: Any) -> list[dict[str, Any]]:
        """Run a statement as the superuser and return its rows."""
        cursor = await self.connection.execute(query, values or None)
        return await cursor.fetchall() if cursor.description else []

    async def contents(self) -> dict[str, tuple[int, int]]:
        """Return how many rows each table of the system has, and a sum that any update of one changes."""
        tables = [row["name"] for row in await self.sql(_TABLES)]
        each = (
            f"select '{name}' as name, count(*) as rows, coalesce(sum(xmin::text::bigint), 0) as writers from {name}"
            for name in tables
        )
        rows = await self.sql(" union all ".join(each))
        return {row["name"]: (row["rows"], int(row["writers"])) for row in rows}

    async def counts(self) -> dict[str, int]:
        """Return how many rows each table of the system has."""
        return {name: rows for name, (rows, _) in (await self.contents()).items()}

    @asynccontextmanager
    async def unchanged(self) -> AsyncIterator[None]:
        """Expect that no row of any table was won, lost or written at the end of the body."""
        before = await self.contents()
        yield
        assert await self.contents() == before

    async def add_key(self, name: str, *, client: str, scopes: list[str]) -> str:
        """Make one more key for a client, to be used as `client=name`; return its id."""
        now = datetime.now(UTC)
        made = await create_api_key(self.connection, client_id=client, scopes=scopes, now=now)
        self.tokens[name] = made.token
        return made.id


def new_key() -> str:
    """Return an idempotency key that no other call returned."""
    return f"key-{next(_numbers)}"


def new_form(**changes: Any) -> dict[str, Any]:
    """Return the form of a person whom no other call returned, with other values (see `changed`)."""
    return changed(application(100_000 + next(_numbers)), **changes)


def changed(body: Mapping[str, Any], **changes: Any) -> dict[str, Any]:
    """Return a copy of a form with other values; the applicant's own fields may be given directly."""
    copy = deepcopy(dict(body))
    for name, value in changes.items():
        (copy["applicant"] if name in copy["applicant"] else copy)[name] = value
    return copy


async def refused(
    world: CreditWorld, request: Awaitable[Reply], *, status: int, slug: str, path: str = APPLICATIONS
) -> Reply:
    """Await a request that must get this problem, change nothing and be told nothing of FORM's person."""
    async with world.unchanged():
        reply = await request
    assert reply.problem == (status, slug)
    assert reply.json["instance"] == path
    told = {k: v for k, v in reply.json.items() if k not in {"request_id", "application_id"}}
    text = orjson.dumps(told).decode().casefold()
    assert not [secret for secret in _SECRETS if secret in text]
    return reply


@asynccontextmanager
async def open_credit_world(
    settings: Settings, *, cache: Cache, contexts: Sequence[str] = ()
) -> AsyncIterator[CreditWorld]:
    """Serve the API inside the running loop; `settings` name the servers, its address becomes public_url."""
    listener = listen()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    assert settings.database_url is not None
    assert settings.valkey_url is not None
    database_url, valkey_url = (s.get_secret_value() for s in (settings.database_url, settings.valkey_url))
    site = Site(
        settings=settings.model_copy(update={"public_url": url}),
        database_url=database_url,
        valkey_url=valkey_url,
    )
    async with AsyncExitStack() as stack:
        app = await api_app(stack, site, contexts)
        await stack.enter_async_context(serving(app, listener=listener))
        connection = await psycopg.AsyncConnection.connect(
            database_url, autocommit=True, row_factory=dict_row
        )
        stack.push_async_callback(connection.close)
        session = await stack.enter_async_context(aiohttp.ClientSession(connector=_connector()))
        running = CreditWorld(
            url=url, site=site, session=session, cache=cache, connection=connection, tokens={}
        )
        for client in (ACME, GLOBEX):
            await running.add_key(client, client=client, scopes=["credit:submit", "credit:read"])
        yield running


@pytest.fixture
async def world(settings: Settings, cache: Cache) -> AsyncIterator[CreditWorld]:
    """A running credit API on an empty database and an empty Valkey."""
    async with open_credit_world(settings, cache=cache) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_world(
    postgres_url: str, valkey_socket: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[CreditWorld]:
    """A running credit API for all tests of a module."""
    cache = await Cache.open(valkey_url := f"unix://{valkey_socket}")
    with new_database(postgres_url) as database_url:
        settings = Settings(
            _env_file=None,  # type: ignore[call-arg]
            home=tmp_path_factory.mktemp("home"),
            database_url=SecretStr(database_url),
            valkey_url=SecretStr(valkey_url),
        )
        async with open_credit_world(settings, cache=cache) as running:
            yield running
    await cache.close()


def _connector() -> aiohttp.TCPConnector:
    """One that gives up idle connections before the server does: reusing one that it just closed is an error."""
    return aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
