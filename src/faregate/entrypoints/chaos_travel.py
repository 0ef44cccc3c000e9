"""Starts a system of its own and lets members redeem on it while parts of it break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import count, takewhile
from pathlib import Path
from time import perf_counter
from typing import Any

import aiohttp

from faregate.bench.chaos.injector import Injector
from faregate.bench.chaos.plan import ChaosPlan
from faregate.bench.chaos.travellers import Travellers
from faregate.bench.chaos.trips import LIVE, Trip, TripsRun
from faregate.bench.chaos.world import WorldUnderFaults
from faregate.bench.partner import wait_until
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.travel import travel_api
from faregate.entrypoints.chaos import written
from faregate.entrypoints.local_client import new_token, site_of_system
from faregate.infra.local_system import LocalSystem, Plan, local_system
from faregate.infra.witness import PostgresWitness
from faregate.kernel.errors import UnavailableError
from faregate.members.api import MembersApi
from faregate.members.contracts import Profile
from faregate.points.api import BATCH_MAX, PointsApi
from faregate.points.contracts.ledger import Earn
from faregate.sandbox.plans import PARTNER_PLANS
from faregate.travel.api import TravelApi
from faregate.travel.handlers.redeem import NothingIsStuck

APIS = WORKERS = 2
WELCOME = 1_000_000
SPARE = 3
"""How many members there are for each redemption that is planned: they go on until the faults stop."""
ANSWERED_S_MAX = 30.0
SCOPES = ("travel:read", "travel:write")

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class _Eyes:
    """Everything that can be seen from outside of the processes that break."""

    travel: TravelApi
    ledger: PointsApi
    members: MembersApi
    session: aiohttp.ClientSession
    sandbox_url: str


async def run_chaos_travel(
    plan: ChaosPlan, *, home: Path, on_event: Say, on_progress: Say = lambda _: None
) -> TripsRun:
    """Run everything in `home`, break parts of it as planned, and return what came of it."""
    faults = PARTNER_PLANS["rough"]
    file = written(faults, home)
    local = Plan(home=home, temporary=True, workers=WORKERS, apis=APIS, faults_file=file)
    async with local_system(local) as system, _looking(system) as (site, eyes):
        on_event("members register")
        members = await _members(eyes, count=plan.applications * SPARE)
        token = await new_token(site, client_id="chaos-travel", scopes=SCOPES)
        world = WorldUnderFaults(session=eyes.session, url=system.sandbox_url, faults_file=file)
        travellers = Travellers(
            session=eyes.session,
            urls=system.api_urls,
            token=token,
            members=members,
            rate_per_s=plan.applications / plan.seconds,
            seed=plan.seed,
        )
        with PostgresWitness(system.database_url) as witness:
            injector = Injector(
                plan,
                supervisor=system.supervisor,
                home=home,
                world=world,
                witness=witness,
                faults=faults,
                on_event=on_event,
            )
            run = _Run(plan, system=system, eyes=eyes, travellers=travellers, world=world, say=on_event)
            return await run.judged(injector, witness, members=members, on_progress=on_progress)


class _Run:
    """One fault run."""

    def __init__(
        self,
        plan: ChaosPlan,
        *,
        system: LocalSystem,
        eyes: _Eyes,
        travellers: Travellers,
        world: WorldUnderFaults,
        say: Say,
    ) -> None:
        self._plan, self._system, self._eyes = plan, system, eyes
        self._travellers, self._world, self._say = travellers, world, say
        self._tried_again = 0

    async def judged(
        self, injector: Injector, witness: PostgresWitness, *, members: Sequence[str], on_progress: Say
    ) -> TripsRun:
        """Break things while members redeem, let all settle, and judge."""
        begin, begun = perf_counter(), self._travellers.begun
        background = [
            asyncio.create_task(self._world.watch()),
            asyncio.create_task(self._travellers.answer_questions()),
        ]
        breaking = asyncio.create_task(self._break(injector, begin))
        redeeming = asyncio.create_task(
            self._travellers.redeem(
                self._numbers(breaking, most=len(members)),
                on_progress=lambda done: on_progress(
                    f"{done:,} of {self._plan.applications:,} redemptions begun, {injector.counts.total()} faults"
                ),
            )
        )
        await breaking
        await self._world.set_plan(PARTNER_PLANS["calm"])
        stopped = perf_counter()
        self._say(f"the faults have stopped after {stopped - begin:.0f} s")
        await redeeming
        await wait_until(
            self._is_settled, timeout_s=max(0.0, stopped + self._plan.settle_s_max - perf_counter())
        )
        settled = perf_counter()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await wait_until(self._is_answered, timeout_s=ANSWERED_S_MAX)
        trips = await self._trips(members)
        found = await self._bookings()
        self._say(f"settled after {settled - stopped:.0f} s; now all is judged")
        return TripsRun(
            plan=self._plan,
            begun=begun,
            trips=trips,
            live_duplicates=found["live_duplicates"],
            ledger_adds_up=(await self._eyes.ledger.reconcile()).is_clean,
            faults=dict(injector.counts),
            world=dict(self._world.counts),
            outages=witness.outages,
            tried_again=self._tried_again,
            fault_s=stopped - begin,
            settle_s=settled - stopped,
        )

    def _numbers(self, breaking: asyncio.Task[None], *, most: int) -> Iterator[int]:
        """Number the redemptions: as many as planned, and more until the faults stop."""
        planned = self._plan.applications
        return takewhile(lambda n: n < most and (n < planned or not breaking.done()), count())

    async def _break(self, injector: Injector, begin: float) -> None:
        def is_enough() -> bool:
            is_time = perf_counter() - begin >= self._plan.seconds
            return is_time and len(self._travellers.begun.redemptions) >= self._plan.applications

        with suppress(TimeoutError):
            async with asyncio.timeout(self._plan.seconds_max):
                await injector.run(is_enough=is_enough)

    async def _is_settled(self) -> bool:
        """Whether every redemption has ended. An operator lets be tried again what is stuck."""
        try:
            for view in await self._eyes.travel.needing_attention():
                with suppress(NothingIsStuck):
                    async with self._eyes.travel.database.transaction() as conn:
                        await self._eyes.travel.try_again(conn, view.id)
                        self._tried_again += 1
            return not await self._eyes.travel.under_way()
        except UnavailableError:
            return False

    async def _is_answered(self) -> bool:
        """Whether what judges reaches the servers again, of which it lost connections too."""
        try:
            await self._eyes.travel.under_way()
            await self._eyes.ledger.chain_end()
        except UnavailableError:
            return False
        return True

    async def _trips(self, members: Sequence[str]) -> list[Trip]:
        live: dict[str, list[str]] = {}
        for booking in (await self._bookings())["bookings"]:
            if booking["state"] in LIVE:
                live.setdefault(booking["reference"].partition(".")[0], []).append(booking["reference"])
        accounts = await self._eyes.travel.accounts()
        trips = []
        for number, redemption in self._travellers.begun.redemptions.items():
            balance = (await self._eyes.ledger.account(members[number])).balance
            account = accounts[redemption]
            trips.append(
                Trip(
                    id=redemption,
                    status=account.status,
                    was_booked=account.was_booked,
                    legs=account.legs,
                    live=live.get(redemption, []),
                    spent=WELCOME - balance.posted,
                    held=balance.held,
                    agreed=account.points_held,
                )
            )
        return trips

    async def _bookings(self) -> Mapping[str, Any]:
        async with self._eyes.session.get(f"{self._eyes.sandbox_url}/admin/bookings") as answer:
            found: Mapping[str, Any] = await answer.json()
            return found


@asynccontextmanager
async def _looking(system: LocalSystem) -> Any:
    site = site_of_system(system)
    async with AsyncExitStack() as stack:
        process = Process(stack, site)
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        yield (
            site,
            _Eyes(
                travel=await travel_api(
                    process, database=await process.database("travel", connections_max=2)
                ),
                ledger=await points_api(stack, site, database=await process.database("points")),
                members=members_on(await process.database("members"), site.settings),
                session=session,
                sandbox_url=system.sandbox_url,
            ),
        )


async def _members(eyes: _Eyes, *, count: int) -> list[str]:
    """Register members, and give each the same points."""
    made = []
    for begin in range(0, count, BATCH_MAX):
        async with eyes.members.database.transaction() as conn:
            batch = [
                await eyes.members.register(
                    conn, Profile(name="Ada Byron", email=f"ada{number}@example.org"), by="chaos"
                )
                for number in range(begin, min(begin + BATCH_MAX, count))
            ]
        ids = [member.id for member in batch]
        await eyes.ledger.open_accounts(ids, at=datetime.now(UTC))
        await eyes.ledger.submit_many(
            [Earn(key=f"welcome-{id_}", member_id=id_, amount=WELCOME) for id_ in ids]
        )
        made += ids
    return made
