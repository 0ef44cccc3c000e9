"""A client of travel at the sandbox's partners: with all of faregate in this loop, or with a process a context.

    from tests.agency import Agency, agency_of_module  # noqa: F401

`agency` serves a whole module (`pytestmark = pytest.mark.asyncio(loop_scope="module")`), whose tests run twice: with
everything in one process, and with members, points and travel in processes of their own, which ask each other over
HTTP, log in as nobody but themselves, and hear of events from Kafka.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp
import orjson
import psycopg
import pytest
import pytest_asyncio
from psycopg.rows import dict_row
from pydantic import SecretStr
from yarl import URL

from faregate.entrypoints.bootstrap.process import Process
from faregate.infra.cache import Cache
from faregate.infra.database import Connection
from faregate.infra.http.api_keys import create_api_key
from faregate.infra.logins import make_logins
from faregate.infra.settings import Settings
from faregate.infra.workflow.prepare import prepare
from tests.credit_world import Reply, new_key, open_credit_world
from tests.partners import partner_settings
from tests.processes import Command
from tests.sandbox import Sandbox, open_sandbox, until
from tests.scorer_twin import ScorerTwin
from tests.servers import free_ports, new_database
from tests.travel_world import ENDS, work_of

__all__ = ["FLIGHT", "HOTEL", "WELCOME", "Agency", "agency_of_module", "open_agency"]

SCOPES = [
    "gateway:operate",
    "gateway:read",
    "members:write",
    "payments:cards",
    "points:read",
    "points:write",
    "travel:operate",
    "travel:read",
    "travel:write",
]
WELCOME = 200_000
FLIGHT = {"origin": "JFK", "destination": "ZRH", "on": "2027-03-01"}
HOTEL = {"destination": "ZRH", "on": "2027-03-01", "until": "2027-03-04"}
APART: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "members": (("serve", "members"), ("access", "members")),
    "points": (("serve", "points"), ("access", "points")),
    "payments": (("serve", "payments"), ("access", "payments")),
    "travel": (("serve", "travel"), ("access", "travel")),
    "redemptions": (("work", "runs", "partners"), ("credit", "travel", "workflow")),
    "accounts": (
        ("work", "consumers.points.accounts"),
        ("credit", "members", "payments", "points"),
    ),
    "bus": (("work", "sequencer", "relay"), ("eventlog",)),
}
"""Each process: what it runs, and the parts as which it may act. Who travels may be no other part."""
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Agency:
    """A client of travel, and the sandbox that knows what was really booked.

    `urls` are those of the contexts, `processes` what runs where they are apart.
    """

    urls: Mapping[str, str]
    token: str
    session: aiohttp.ClientSession
    sandbox: Sandbox
    open_account: Callable[[str], Awaitable[None]]
    connection: Connection
    processes: Mapping[str, Command] = field(default_factory=dict)

    async def request(
        self, method: str, path: str, *, headers: Mapping[str, str] | None = None, data: bytes | None = None
    ) -> Reply:
        url = URL(self.urls[path.split("/")[2]] + path, encoded=True)
        sent = {"Authorization": f"Bearer {self.token}", **(headers or {})}
        async with self.session.request(method, url, headers=sent, data=data) as answer:
            return Reply(answer.status, answer.headers, await answer.read())

    async def post(self, path: str, body: Any = None, *, key: str | None = None) -> Reply:
        return await self.send("POST", path, body, key=key)

    async def send(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Reply:
        headers = {"Content-Type": "application/json", "Idempotency-Key": key or new_key()}
        return await self.request(
            method, path, headers=headers, data=None if body is None else orjson.dumps(body)
        )

    async def get(self, path: str) -> Any:
        reply = await self.request("GET", path)
        assert reply.status == 200, reply.body
        return reply.json

    async def member(self, points: int = WELCOME) -> str:
        """Register a member over HTTP, with points and a card."""
        profile = {"name": "Ada Byron", "email": f"ada{next(_numbers)}@example.org"}
        member = str((await self.post("/api/members", profile)).json["member_id"])
        await self.open_account(member)
        earned = await self.post(
            "/api/points/operations", {"kind": "earn", "member_id": member, "amount": points}
        )
        assert earned.status == 201, earned.body
        card = await self.post("/api/payments/cards", {"member_id": member, "product": "travel_card"})
        assert card.status == 201, card.body
        return member

    async def offers(self, member: str, wanted: Mapping[str, Any]) -> Any:
        kind = "flight" if "origin" in wanted else "hotel"
        reply = await self.post(f"/api/travel/{kind}-searches", {"member_id": member, **wanted})
        assert reply.status == 200, reply.body
        return reply.json

    async def offer(self, member: str, partner: str, *, holdable: bool | None = None) -> dict[str, Any]:
        """Return an offer of a partner."""
        wanted = FLIGHT if partner.startswith("airline") else HOTEL
        found = (await self.offers(member, wanted))["offers"]
        return next(
            one for one in found if one["partner"] == partner and holdable in (None, one["is_holdable"])
        )

    async def redeem(
        self, member: str, *offers: Mapping[str, Any], key: str | None = None, cash_minor: int = 0
    ) -> Reply:
        legs = [{name: offer[name] for name in ("partner", "offer_id", "price_minor")} for offer in offers]
        body = {"member_id": member, "legs": legs, "cash_minor": cash_minor}
        return await self.post("/api/travel/redemptions", body, key=key)

    async def charges(self, member: str) -> list[tuple[str, int, int]]:
        """Return what payments have of a member: status, amount, and what was given back."""
        found = await self.connection.execute(
            "select status, amount_minor, refunded_minor from payments.payment "
            "where member_id = %s order by decided_at",
            (member,),
        )
        return [(row["status"], row["amount_minor"], row["refunded_minor"]) for row in await found.fetchall()]

    async def begun(self, member: str, *offers: Mapping[str, Any]) -> str:
        reply = await self.redeem(member, *offers)
        assert reply.status == 202, reply.body
        return str(reply.json["redemption_id"])

    async def until(self, redemption: str, *statuses: str, within_s: float = 20) -> dict[str, Any]:
        """Wait until a redemption has one of these statuses."""
        wanted = statuses or ENDS
        path = f"/api/travel/redemptions/{redemption}"
        found: dict[str, Any] = await until(
            lambda: self.get(path), lambda view: view["status"] in wanted, within_s=within_s
        )
        return found

    async def until_agreed(self, redemption: str, *, says: bool = True) -> dict[str, Any]:
        """Wait until a redemption ended, and say yes, or no, to whatever price it asks for on its way."""
        while True:
            view = await self.until(redemption, *ENDS, "needs_attention", "awaiting_consent")
            if view["status"] != "awaiting_consent":
                return view
            question = view["question"]
            said = {"leg": question["leg"], "price_minor": question["price_minor"], "accept": says}
            await self.post(f"/api/travel/redemptions/{redemption}/answer", said)

    async def assert_settled(self, member: str, view: Mapping[str, Any], *, welcome: int) -> None:
        """Points are gone if and only if the partners' bookings stand, and none are held."""
        is_booked = view["status"] == "booked"
        spent = sum(leg["points"] for leg in view["legs"]) if is_booked else 0
        assert await self.balance(member) == (welcome - spent, 0)
        assert len(await self.live(view["redemption_id"])) == (len(view["legs"]) if is_booked else 0)

    async def balance(self, member: str) -> tuple[int, int]:
        found = (await self.get(f"/api/points/accounts/{member}"))["balance"]
        return found["posted"], found["held"]

    async def live(self, redemption: str) -> list[str]:
        """Return the partners at which a redemption's bookings stand."""
        return sorted(
            partner for partner, state in await self.bookings(redemption) if state in ("held", "confirmed")
        )

    async def bookings(self, redemption: str) -> list[tuple[str, str]]:
        """Return partner and state of every booking that a redemption ever had."""
        found = (await self.sandbox.get("/admin/bookings", redemption=redemption))["bookings"]
        return [(one["partner"], one["state"]) for one in found]

    async def until_ready(self, *names: str) -> None:
        """Wait until these processes say that they are ready."""
        for name in names:
            assert self.processes[name].process.returncode is None, f"{name} has ended"
            await until(lambda url=self.urls[name]: self._is_ready(url), bool, within_s=90)  # type: ignore[misc]

    async def _is_ready(self, url: str) -> bool:
        try:
            async with self.session.get(f"{url}/readyz") as answer:
                return answer.status == 200
        except aiohttp.ClientConnectionError:
            return False


@pytest_asyncio.fixture(
    scope="module",
    loop_scope="module",
    # Apart it takes a minute and more, so that each time only those run that kill its processes (test_travel_kill).
    params=["together", pytest.param("apart", marks=pytest.mark.soak)],
    name="agency",
)
async def agency_of_module(
    request: pytest.FixtureRequest,
    postgres_url: str,
    valkey_socket: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> AsyncIterator[Agency]:
    """A running system for all tests of the module: in this loop, then as processes on Kafka."""
    kafka = None if request.param == "together" else request.getfixturevalue("kafka")
    home = tmp_path_factory.mktemp("agency")
    async with open_agency(
        home, postgres_url=postgres_url, valkey_socket=valkey_socket, kafka=kafka
    ) as opened:
        yield opened


@asynccontextmanager
async def open_agency(
    home: Path, *, postgres_url: str, valkey_socket: Path, kafka: str | None
) -> AsyncIterator[Agency]:
    """Run a sandbox and a system on a database of its own: in this loop, or apart with a Kafka."""
    async with AsyncExitStack() as stack:
        sandbox = await stack.enter_async_context(open_sandbox(home / "sandbox"))
        servers = {
            "home": home,
            "database_url": SecretStr(stack.enter_context(new_database(postgres_url))),
            "valkey_url": SecretStr(f"unix://{valkey_socket}"),
            "travel_search_s": 1.0,
            "travel_send_s": 20.0,
        }
        scorer = await stack.enter_async_context(ScorerTwin().serving())
        settings = partner_settings(sandbox.url).model_copy(
            update={**servers, "scorer_url": scorer.url, "scorer_deadline_ms": 4_000}
        )
        opened = (
            together(settings, sandbox=sandbox)
            if kafka is None
            else apart(settings, sandbox=sandbox, kafka=kafka)
        )
        yield await stack.enter_async_context(opened)


@asynccontextmanager
async def together(settings: Settings, *, sandbox: Sandbox) -> AsyncIterator[Agency]:
    """Everything in this loop; nobody listens to events, so that accounts are opened by hand."""
    assert settings.valkey_url is not None
    async with AsyncExitStack() as stack:
        cache = await Cache.open(settings.valkey_url.get_secret_value())
        stack.push_async_callback(cache.close)
        world = await stack.enter_async_context(open_credit_world(settings, cache=cache))
        await world.add_key("agency", client="agency", scopes=SCOPES)
        await work_of(Process(stack, world.site))

        async def open_account(member: str) -> None:
            await world.connection.execute(
                "with opened as (insert into points.account (member_id, opened_at) values (%s, now()) returning no) "
                "insert into points.balance (account_no) select no from opened",
                (member,),
            )

        yield Agency(
            urls=dict.fromkeys(("gateway", "members", "payments", "points", "travel"), world.url),
            token=world.tokens["agency"],
            session=world.session,
            sandbox=sandbox,
            open_account=open_account,
            connection=world.connection,
        )


@asynccontextmanager
async def apart(settings: Settings, *, sandbox: Sandbox, kafka: str) -> AsyncIterator[Agency]:
    """A process a context, each logged in as itself alone; travel asks the others over HTTP, events come by Kafka."""
    assert settings.database_url is not None
    database_url = settings.database_url.get_secret_value()
    async with AsyncExitStack() as stack:
        prepare(database_url)
        logins = {f"apart_{name}": ("s3cret", parts) for name, (_, parts) in APART.items()}
        make_logins(database_url, logins)
        connection = await psycopg.AsyncConnection.connect(
            database_url, autocommit=True, row_factory=dict_row
        )
        stack.push_async_callback(connection.close)
        ports = dict(zip(APART, itertools.count(free_ports(len(APART))), strict=False))
        urls = {name: f"http://127.0.0.1:{port}" for name, port in ports.items()}
        variables = {
            **_variables(settings),
            "FAREGATE_KAFKA_BOOTSTRAP": kafka,
            "FAREGATE_KAFKA_TOPIC_PREFIX": f"t{uuid4().hex[:12]}.",
            "FAREGATE_POINTS_URL": urls["points"],
            "FAREGATE_MEMBERS_URL": urls["members"],
            "FAREGATE_PAYMENTS_URL": urls["payments"],
            "FAREGATE_TRAVEL_KEY": await _key(
                connection, "travel", ["points:write", "members:read", "payments:authorise", "payments:write"]
            ),
        }
        token = await _key(connection, "agency", SCOPES)
        processes = {}
        for name, (arguments, _) in APART.items():
            own = {
                "FAREGATE_DATABASE_URL": database_url.replace("postgres@", f"apart_{name}@"),
                "FAREGATE_API_PORT": str(ports[name]),
                "FAREGATE_WORKER_PORT": str(ports[name]),
            }
            log = settings.home / f"{name}.log"
            processes[name] = Command(arguments=arguments, log=log, variables=variables | own)
            await processes[name].start()
            stack.push_async_callback(processes[name].stop)
        session = await stack.enter_async_context(aiohttp.ClientSession())

        async def has_account(member: str) -> None:
            path = f"/api/points/accounts/{member}"
            await until(lambda: running.request("GET", path), lambda reply: reply.status == 200)

        running = Agency(
            urls=urls,
            token=token,
            session=session,
            sandbox=sandbox,
            open_account=has_account,
            connection=connection,
            processes=processes,
        )
        await running.until_ready(*APART)
        yield running


def _variables(settings: Settings) -> dict[str, str]:
    """Return the environment of a process with what these settings have beside the defaults."""
    found = {}
    for name in settings.model_fields_set:
        value = getattr(settings, name)
        found[f"FAREGATE_{name.upper()}"] = (
            value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        )
    return found


async def _key(connection: Connection, client: str, scopes: list[str]) -> str:
    made = await create_api_key(connection, client_id=client, scopes=scopes, now=datetime.now(UTC))
    return made.token
