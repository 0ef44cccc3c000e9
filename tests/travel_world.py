"""Redemptions for tests: the real runs, ledger and gateway on the test's database, with partners that are fakes.

    from tests.travel_world import travel  # noqa: F401

`travel` serves a whole module (`pytestmark = pytest.mark.asyncio(loop_scope="module")`); each test takes partners and
members of its own.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest_asyncio
from psycopg.rows import dict_row
from pydantic import SecretStr

from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.travel import known_partners, partner_pools, redemptions, travel_api
from faregate.infra.clock import SystemClock
from faregate.infra.settings import Settings
from faregate.infra.workflow.dbos_engine import DbosEngine
from faregate.infra.workflow.prepare import prepare
from faregate.members.contracts import Profile
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Earn
from faregate.travel.api import TravelApi
from faregate.travel.contracts.partners import TravelKind
from faregate.travel.contracts.redemptions import NewRedemption, RedemptionView, Wish
from faregate.travel.partners.fake import FakePartner
from tests.servers import new_database

__all__ = ["ENDS", "HAS", "PARTNERS", "Travel", "travel", "work_of"]

ENDS = ("booked", "failed", "cancelled")
HAS = 100_000
_numbers = itertools.count(1)
PARTNERS: Mapping[str, dict[str, Any]] = {
    "airline": {},
    "brief_airline": {"hold_s": 29.0},
    "hotel": {"kind": TravelKind.HOTEL},
    "instant_hotel": {"kind": TravelKind.HOTEL, "is_holdable": False},
}


@dataclass(frozen=True, kw_only=True)
class Travel:
    """A running system. `partners` keep what was really booked."""

    api: TravelApi
    ledger: PointsApi
    process: Process
    partners: Mapping[str, FakePartner]
    connection: psycopg.AsyncConnection[dict[str, Any]]
    members: dict[str, str] = field(default_factory=dict)

    async def member(self, points: int = HAS) -> str:
        """Make a member who has so many points."""
        members = members_on(self.process.databases["members"], self.process.site.settings)
        number = next(_numbers)
        async with members.database.transaction() as conn:
            made = await members.register(conn, Profile(name="Ada Byron", email=f"a{number}@x.org"), by="t")
        await self.ledger.open_accounts([made.id], at=datetime.now(UTC))
        if points:
            await self.ledger.submit(Earn(key=f"welcome-{made.id}", member_id=made.id, amount=points))
        return made.id

    async def redeem(self, member: str, *partners: str, price: int = 20_000) -> str:
        """Begin a redemption at these partners, and return its id."""
        wishes = [Wish(partner=name, offer_id=f"o-{price}", price_minor=price) for name in partners]
        return await self.begin(NewRedemption(member_id=member, wishes=wishes))

    async def begin(self, wanted: NewRedemption) -> str:
        """Begin a redemption as the route does, and return its id."""
        traveller, offers = await self.api.prepare(wanted)
        async with self.api.database.transaction() as conn:
            return await self.api.begin(conn, wanted, traveller=traveller, offers=offers)

    async def until(self, redemption_id: str, *statuses: str) -> RedemptionView:
        """Wait until a redemption has one of these statuses, and is not about to go on."""
        return await self.when(redemption_id, lambda view: view.status in (statuses or ENDS))

    async def when(self, redemption_id: str, is_so: Callable[[RedemptionView], bool]) -> RedemptionView:
        """Wait until something is so of a redemption."""
        async with asyncio.timeout(30):
            while not is_so(view := await self.api.get(redemption_id)):  # noqa: ASYNC110 - other tasks go on
                await asyncio.sleep(0.02)
        return view

    async def balance(self, member: str) -> tuple[int, int]:
        """Return what a member has, and how much of it is held."""
        found = (await self.ledger.account(member)).balance
        return found.posted, found.held

    async def held_for(self, redemption_id: str) -> int:
        """Return how many points were held for a redemption."""
        found = await self.connection.execute(
            "select sum((facts ->> 'amount')::bigint) as points from travel.step "
            "where redemption_id = %s and action = 'hold_points' and state = 'done'",
            (redemption_id,),
        )
        row = await found.fetchone()
        return int(row["points"] or 0) if row else 0

    def live(self, redemption_id: str) -> Sequence[str]:
        """Return the bookings of a redemption that stand at the partners."""
        return sorted(
            reference
            for partner in self.partners.values()
            for reference in partner.live()
            if reference.startswith(f"{redemption_id}.")
        )

    async def check(self, redemption_id: str, *, member: str, has: int = HAS) -> None:
        """S1 to S5 of a redemption that has ended: one end, nothing held, and points are gone iff bookings stand."""
        view = await self.api.get(redemption_id)
        assert view.status in ENDS
        posted, held = await self.balance(member)
        assert held == 0
        live = self.live(redemption_id)
        made = [one.rsplit(".", 2)[0] for one in live]
        assert len(made) == len(set(made)), f"booked twice: {live}"
        if view.status == "booked":
            assert len(live) == len(view.legs)
            assert posted == has - await self.held_for(redemption_id)
        else:
            assert live == []
            assert view.status == "cancelled" or posted == has
        undone = [(s.action, s.leg, s.number) for s in view.steps if s.state == "done"]
        assert len(undone) == len(set(undone))


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def travel(postgres_url: str, valkey_socket: Path, tmp_path_factory: Any) -> AsyncIterator[Travel]:
    """A system with partners that are fakes."""
    async with AsyncExitStack() as stack:
        database_url = stack.enter_context(new_database(postgres_url))
        settings = Settings(
            _env_file=None,
            home=tmp_path_factory.mktemp("travel"),
            database_url=SecretStr(database_url),
            valkey_url=SecretStr(f"unix://{valkey_socket}"),
            travel_send_s=3.0,
            travel_resolve_s=8.0,
            transfer_every_s=3600.0,
        )
        site = Site(settings=settings, database_url=database_url, valkey_url=f"unix://{valkey_socket}")
        process = Process(stack, site)
        fakes = {name: FakePartner(name=name, clock=SystemClock(), **of) for name, of in PARTNERS.items()}
        process.provide(known_partners, fakes)
        await work_of(process)
        api = await travel_api(process, database=await process.database("travel"))
        connection = await psycopg.AsyncConnection.connect(
            site.database_url, autocommit=True, row_factory=dict_row
        )
        stack.push_async_callback(connection.close)
        ledger = await points_api(stack, site, database=await process.database("points"))
        yield Travel(api=api, ledger=ledger, process=process, partners=fakes, connection=connection)


async def work_of(process: Process) -> None:
    """Run in this loop what a worker does for redemptions, until the process's end."""
    stack, site = process.stack, process.site
    await asyncio.to_thread(prepare, site.database_url)
    engine = DbosEngine(database_url=site.database_url, clock=SystemClock())
    engine.register(await redemptions(process))
    await engine.open()
    stack.push_async_callback(engine.close)
    stop, pools = asyncio.Event(), await partner_pools(process)
    running = [asyncio.create_task(loop(stop)) for loop in pools.loops.values()]

    async def stopped() -> None:
        stop.set()
        await asyncio.gather(*running)

    stack.push_async_callback(stopped)
