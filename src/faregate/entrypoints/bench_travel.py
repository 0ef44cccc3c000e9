"""Runs `bench.travel` on a system of its own: thirty partners, one of which hangs, and a race with a plain script."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiohttp

from faregate.bench.isolation import at_rate
from faregate.bench.report import BenchResult
from faregate.bench.travel.partners import SLOWEST_S, ManyPartners, adapter, many_partners, names
from faregate.bench.travel.plan import Beside, Ended, Races, Searches, TravelPlan, result_of
from faregate.bench.travel.script import ScriptLoad, measure_script
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.providers import provider_session
from faregate.entrypoints.bootstrap.travel import known_partners, partner_pools, redemptions, travel_api
from faregate.entrypoints.local_client import site_of_system
from faregate.gateway.contracts import ProviderRequest
from faregate.infra.clock import SystemClock
from faregate.infra.local_system import Plan, local_system
from faregate.infra.queries import load_queries
from faregate.infra.telemetry.logs import configure_logging
from faregate.infra.workflow.prepare import prepare
from faregate.kernel.outcome import Done
from faregate.members.contracts import Profile
from faregate.points.contracts.ledger import Earn
from faregate.travel.api import TravelApi
from faregate.travel.contracts.partners import Partner, SearchQuery, TravelKind
from faregate.travel.contracts.redemptions import NewRedemption, Wish

Say = Callable[[str], None]
OFFER = "0~JFK~ZRH~2027-03-01~-~9000~h"
PRICE_MINOR = 9_000
HAS = 10**9
LOOK_S = 0.05
HANGS: Mapping[str, Any] = {"rates": {"hang_before": 1.0}, "hold_s": SLOWEST_S}
STEADY: Mapping[str, Any] = {"latency": {"median_ms": 30}}
SETTLED_S_MAX = 180.0
_QUERIES = load_queries("faregate.bench")
_SEARCH = SearchQuery(kind=TravelKind.FLIGHT, origin="JFK", destination="ZRH", on=date(2027, 3, 1))


async def bench_travel(plan: TravelPlan, *, home: Path, say: Say) -> BenchResult:
    """Measure on a fresh system. The partners live in a process of their own."""
    configure_logging(format="console", level=logging.ERROR)
    alone = Plan(home=home, temporary=True, apis=0, workers=0, sandbox=False, roles=("sequencer",))
    async with AsyncExitStack() as stack:
        system = await stack.enter_async_context(local_system(alone))
        session = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        )
        world = await stack.enter_async_context(many_partners(plan.partners, folder=home, session=session))
        process = Process(stack, site_of_system(system))
        adapters: Mapping[str, Partner] = {
            name: adapter(name, session=await provider_session(stack), url=world.url)
            for name in names(plan.partners)
        }
        process.provide(known_partners, adapters)
        await asyncio.to_thread(prepare, process.site.database_url)
        run = _Run(
            plan=plan,
            process=process,
            world=world,
            travel=await travel_api(process, database=await process.database("travel")),
            members=await _members(process, plan.members),
            folder=home,
            say=say,
        )
        return await run.measure()


async def _members(process: Process, wanted: int) -> Sequence[str]:
    """Register members who have points enough for everything."""
    members = members_on(await process.database("members"), process.site.settings)
    ledger = await points_api(process.stack, process.site, database=await process.database("points"))
    made = []
    async with members.database.transaction() as conn:
        for number in range(wanted):
            profile = Profile(name="Ada Byron", email=f"ada{number}@example.org")
            made.append((await members.register(conn, profile, by="bench")).id)
    await ledger.open_accounts(made, at=datetime.now(UTC))
    await asyncio.gather(
        *(ledger.submit(Earn(key=f"welcome-{one}", member_id=one, amount=HAS)) for one in made)
    )
    return made


@dataclass(frozen=True, kw_only=True)
class _Run:
    """All phases on one running system."""

    plan: TravelPlan
    process: Process
    world: ManyPartners
    travel: TravelApi
    members: Sequence[str]
    folder: Path
    say: Say

    @property
    def victim(self) -> str:
        """The partner that hangs."""
        return self.world.names[-1]

    async def measure(self) -> BenchResult:
        async with AsyncExitStack() as worker:
            await _working(self.process, worker)
            await self._redeem_all(self.plan.at_once)
            races = await self._races()
            ours = await self._ours()
            searches = await self._searches()
            shared = await self._shared_pool()
            left = await self._left()
        return result_of(plan=self.plan, races=races, ours=ours, shared=shared, searches=searches, left=left)

    # ── the race

    async def _races(self) -> Races:
        """Let ours and the script redeem as fast as they can, one after the other, several times."""
        ours, script = [], []
        await self.world.behave({})
        for number in range(self.plan.races):
            self.say(f"race {number + 1} of {self.plan.races}: {self.plan.redemptions} redemptions each")
            begun = time.perf_counter()
            await self._redeem_all(self.plan.redemptions)
            ours.append(self.plan.redemptions / (time.perf_counter() - begun))
            load = ScriptLoad(
                redemptions=self.plan.redemptions,
                members=self.plan.members,
                at_once=self.plan.at_once,
                partners=self.plan.partners,
                partners_url=self.world.url,
                database_url=self.process.site.database_url,
                offer_id=OFFER,
                run=f"script{number}x",
            )
            script.append(await measure_script(load, folder=self.folder))
        return Races(ours=ours, script=script)

    async def _redeem_all(self, wanted: int) -> None:
        """Begin so many redemptions, so many at once, and return when all have ended."""
        places = asyncio.Semaphore(self.plan.at_once)

        async def begin(number: int) -> None:
            async with places:
                await self._begin(number)

        await asyncio.gather(*map(begin, range(wanted)))
        await self._until_ended()

    async def _begin(self, number: int) -> str:
        """Begin a redemption at the partner whose turn it is, as the route does."""
        partner = self.world.names[number % self.plan.partners]
        wish = Wish(partner=partner, offer_id=OFFER, price_minor=PRICE_MINOR)
        wanted = NewRedemption(member_id=self.members[number % len(self.members)], wishes=[wish])
        traveller, offers = await self.travel.prepare(wanted)
        async with self.travel.database.transaction() as conn:
            return await self.travel.begin(conn, wanted, traveller=traveller, offers=offers)

    async def _until_ended(self, *, but_for: int = 0) -> None:
        async with asyncio.timeout(SETTLED_S_MAX):
            while await self.travel.under_way() > but_for:  # noqa: ASYNC110 - tables say when
                await asyncio.sleep(LOOK_S)

    # ── one of them hangs

    async def _ours(self) -> Beside:
        found: dict[bool, list[Ended]] = {False: [], True: []}
        for number in range(self.plan.rounds):
            for hangs in (False, True):
                self.say(
                    f"round {number + 1}: {self.plan.per_s:g}/s, {'one hangs' if hangs else 'none hangs'}"
                )
                found[hangs] += await self._round(hangs=hangs)
        return Beside(without=found[False], hanging=found[True])

    async def _round(self, *, hangs: bool) -> Sequence[Ended]:
        """Redeem at a steady rate, and return what came of it at all partners but the one that may hang."""
        await self._behave(hangs=hangs)
        begun: dict[str, int] = {}

        async def begin(number: int) -> list[dict[str, Any]]:
            begun[await self._begin(number)] = number
            return []

        await at_rate(self.plan.each_round, per_s=self.plan.per_s, begin=begin)
        others = [one for one, number in begun.items() if not self._is_victims(number)]
        rows = await self._times(others)
        async with asyncio.timeout(SETTLED_S_MAX):
            while any(row["seconds"] is None for row in rows):
                await asyncio.sleep(LOOK_S)
                rows = await self._times(others)
        return [Ended(seconds=row["seconds"], is_booked=row["status"] == "booked") for row in rows]

    async def _times(self, redemptions: Sequence[str]) -> Sequence[Mapping[str, Any]]:
        async with self.travel.database.connection() as conn:
            found = await conn.execute(_QUERIES["redemption_times"], {"ids": list(redemptions)})
            return await found.fetchall()

    async def _behave(self, *, hangs: bool) -> None:
        await self.world.behave(STEADY, **({self.victim: HANGS} if hangs else {}))

    def _is_victims(self, number: int) -> bool:
        return self.world.names[number % self.plan.partners] == self.victim

    # ── what one would write first

    async def _shared_pool(self) -> Beside:
        """Let the acts of redemptions go through one pool of calls for all partners, with nothing else."""
        self.say("the same through one shared pool")
        found = []
        for hangs in (False, True):
            await self._behave(hangs=hangs)
            slots, run = asyncio.Semaphore(self.plan.slots), uuid4().hex[:8]

            async def redeem(
                number: int, slots: asyncio.Semaphore = slots, run: str = run
            ) -> list[dict[str, Any]]:
                begun = time.perf_counter()
                is_booked = await self._both_acts(number, slots=slots, run=run)
                return [{"number": number, "seconds": time.perf_counter() - begun, "is_booked": is_booked}]

            rows = await at_rate(self.plan.each_round, per_s=self.plan.per_s, begin=redeem)
            found.append(
                [
                    Ended(seconds=row["seconds"], is_booked=row["is_booked"])
                    for row in rows
                    if not self._is_victims(row["number"])
                ]
            )
        return Beside(without=found[0], hanging=found[1])

    async def _both_acts(self, number: int, *, slots: asyncio.Semaphore, run: str) -> bool:
        """Hold and confirm at a partner; say whether it is booked."""
        name = self.world.names[number % self.plan.partners]
        partner, redemption = self.travel.redeeming.partners[name], f"{run}{number}"
        held: Mapping[str, Any] = {}
        for act, about in (("place", ""), ("confirm", ".1.1")):
            asked = ProviderRequest(
                provider_request_id=f"{redemption}.1.{act}.1{about}:{name}:1",
                subject={"offer_id": OFFER, "traveller": {"name": "Ada"}, "price_minor": PRICE_MINOR, **held},
            )
            async with slots:
                outcome = await partner.submit(asked, timeout_s=SLOWEST_S)
            if not isinstance(outcome, Done):
                return False
            held = outcome.payload
        return True

    # ── a search, and what is left

    async def _searches(self) -> Searches:
        self.say(f"{self.plan.searches} searches, while one partner hangs")
        await self.world.behave(
            STEADY, **{self.victim: {"rates": {"look_up_hang": 1.0}, "hold_s": SLOWEST_S}}
        )
        seconds, heard, missing = [], [], []
        for _ in range(self.plan.searches):
            begun = time.perf_counter()
            found = await self.travel.search(_SEARCH, member_id=self.members[0], within_s=self.plan.search_s)
            seconds.append(time.perf_counter() - begun)
            heard.append(len({offer.partner for offer in found.offers}))
            missing.append(sorted(found.missing))
        return Searches(seconds=seconds, partners_heard=heard, named_missing=missing)

    async def _left(self) -> Mapping[str, int]:
        """Let the partner answer again, and count what did not end, and what was booked twice or for nothing."""
        self.say("waiting for what hung")
        await self.world.behave({})
        await self._until_ended()
        accounts = await self.travel.accounts()
        confirmed = await self.world.confirmed()
        return {
            "redemptions under way": await self.travel.under_way(),
            "booked otherwise than confirmed at the partner": sum(
                confirmed.get(one, 0) != (account.status == "booked") for one, account in accounts.items()
            ),
        }


async def _working(process: Process, stack: AsyncExitStack) -> None:
    """Run in this loop what a worker does for redemptions, until the end of the stack."""
    from faregate.infra.workflow.dbos_engine import DbosEngine  # takes two seconds to import

    engine = DbosEngine(database_url=process.site.database_url, clock=SystemClock())
    engine.register(await redemptions(process))
    await engine.open()
    stack.push_async_callback(engine.close)
    stop, pools = asyncio.Event(), await partner_pools(process)
    running = [asyncio.create_task(loop(stop)) for loop in pools.loops.values()]

    async def stopped() -> None:
        stop.set()
        await asyncio.gather(*running)

    stack.push_async_callback(stopped)
