"""Looks at redemptions from outside of the processes that carry them out: as travel, partners and ledger have them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp

from faregate.bench.chaos.trips import LIVE, Trip
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.site import Site
from faregate.entrypoints.bootstrap.travel import travel_api
from faregate.entrypoints.local_client import site_of_system
from faregate.infra.local_system import LocalSystem
from faregate.kernel.errors import UnavailableError
from faregate.members.api import MembersApi
from faregate.points.api import PointsApi
from faregate.travel.api import TravelApi
from faregate.travel.handlers.redeem import NothingIsStuck

SCOPES = ("travel:read", "travel:write", "points:write")


@dataclass(kw_only=True)
class Lookout:
    """What can be seen from outside. `stack` closes what is opened besides; `tried_again` counts an operator's help."""

    site: Site
    stack: AsyncExitStack
    travel: TravelApi
    ledger: PointsApi
    members: MembersApi
    session: aiohttp.ClientSession
    sandbox_url: str
    tried_again: int = 0

    async def is_settled(self) -> bool:
        """Whether every redemption has ended. What is stuck is let be tried again, as an operator would."""
        try:
            for view in await self.travel.needing_attention():
                with suppress(NothingIsStuck):
                    async with self.travel.database.transaction() as conn:
                        await self.travel.try_again(conn, view.id)
                        self.tried_again += 1
            return not await self.travel.under_way()
        except UnavailableError:
            return False

    async def is_answered(self) -> bool:
        """Whether the servers can be asked, to which connections may have been lost."""
        try:
            await self.travel.under_way()
            await self.ledger.chain_end()
        except UnavailableError:
            return False
        return True

    async def bookings(self) -> Mapping[str, Any]:
        """Return every booking that the partners have, and how many legs are booked twice."""
        async with self.session.get(f"{self.sandbox_url}/admin/bookings") as answer:
            found: Mapping[str, Any] = await answer.json()
            return found

    async def trips(self, members: Mapping[str, str], *, had: int) -> list[Trip]:
        """Return what became of redemptions, given the member of each, who had so many points and no other."""
        live: dict[str, list[str]] = {}
        for booking in (await self.bookings())["bookings"]:
            if booking["state"] in LIVE:
                live.setdefault(booking["reference"].partition(".")[0], []).append(booking["reference"])
        accounts = await self.travel.accounts()
        trips = []
        for redemption, member in members.items():
            balance, account = (await self.ledger.account(member)).balance, accounts[redemption]
            trips.append(
                Trip(
                    id=redemption,
                    status=account.status,
                    was_booked=account.was_booked,
                    legs=account.legs,
                    live=live.get(redemption, []),
                    spent=had - balance.posted,
                    held=balance.held,
                    agreed=account.points_held,
                )
            )
        return trips


@asynccontextmanager
async def looking_at(system: LocalSystem) -> AsyncIterator[Lookout]:
    """Open connections of one's own to a running system."""
    site = site_of_system(system)
    async with AsyncExitStack() as stack:
        process = Process(stack, site)
        connector = aiohttp.TCPConnector(limit=0)
        yield Lookout(
            site=site,
            stack=stack,
            travel=await travel_api(process, database=await process.database("travel", connections_max=2)),
            ledger=await points_api(stack, site, database=await process.database("points")),
            members=members_on(await process.database("members"), site.settings),
            session=await stack.enter_async_context(aiohttp.ClientSession(connector=connector)),
            sandbox_url=system.sandbox_url,
        )
