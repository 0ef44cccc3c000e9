"""Starts a system of its own and lets members redeem on it while parts of it break."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from itertools import count, takewhile
from pathlib import Path
from time import perf_counter

from faregate.bench.chaos.injector import Injector
from faregate.bench.chaos.plan import ChaosPlan
from faregate.bench.chaos.travellers import Travellers
from faregate.bench.chaos.trips import TripsRun
from faregate.bench.chaos.world import WorldUnderFaults
from faregate.bench.partner import wait_until
from faregate.entrypoints.chaos import written
from faregate.entrypoints.local_client import new_token
from faregate.entrypoints.trips import SCOPES, Lookout, looking_at
from faregate.infra.local_system import Plan, local_system
from faregate.infra.witness import PostgresWitness
from faregate.members.contracts import Profile
from faregate.points.api import BATCH_MAX
from faregate.points.contracts.ledger import Earn
from faregate.sandbox.plans import PARTNER_PLANS

APIS = WORKERS = 2
WELCOME = 1_000_000
SPARE = 3
"""How many members there are for each redemption that is planned: they go on until the faults stop."""
ANSWERED_S_MAX = 30.0

Say = Callable[[str], None]


async def run_chaos_travel(
    plan: ChaosPlan, *, home: Path, on_event: Say, on_progress: Say = lambda _: None
) -> TripsRun:
    """Run everything in `home`, break parts of it as planned, and return what came of it."""
    faults = PARTNER_PLANS["rough"]
    file = written(faults, home)
    local = Plan(home=home, temporary=True, workers=WORKERS, apis=APIS, faults_file=file)
    async with local_system(local) as system, looking_at(system) as lookout:
        on_event("members register")
        members = await _members(lookout, count=plan.applications * SPARE)
        world = WorldUnderFaults(session=lookout.session, url=system.sandbox_url, faults_file=file)
        travellers = Travellers(
            session=lookout.session,
            urls=system.api_urls,
            token=await new_token(lookout.site, client_id="chaos-travel", scopes=SCOPES),
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
            run = _Run(plan, lookout=lookout, travellers=travellers, world=world, say=on_event)
            return await run.judged(injector, witness, members=members, on_progress=on_progress)


class _Run:
    """One fault run."""

    def __init__(
        self,
        plan: ChaosPlan,
        *,
        lookout: Lookout,
        travellers: Travellers,
        world: WorldUnderFaults,
        say: Say,
    ) -> None:
        self._plan, self._lookout = plan, lookout
        self._travellers, self._world, self._say = travellers, world, say

    async def judged(
        self, injector: Injector, witness: PostgresWitness, *, members: Sequence[str], on_progress: Say
    ) -> TripsRun:
        """Break things while members redeem, let all settle, and judge."""
        begin, begun, lookout = perf_counter(), self._travellers.begun, self._lookout
        background = [
            asyncio.create_task(self._world.watch()),
            asyncio.create_task(self._travellers.answer_questions()),
        ]
        breaking = asyncio.create_task(self._break(injector, begin))

        def say_progress(done: int) -> None:
            faults = injector.counts.total()
            on_progress(f"{done:,} of {self._plan.applications:,} redemptions begun, {faults} faults")

        redeeming = asyncio.create_task(
            self._travellers.redeem(self._numbers(breaking, most=len(members)), on_progress=say_progress)
        )
        await breaking
        await self._world.set_plan(PARTNER_PLANS["calm"])
        stopped = perf_counter()
        self._say(f"the faults have stopped after {stopped - begin:.0f} s")
        await redeeming
        left_s = max(0.0, stopped + self._plan.settle_s_max - perf_counter())
        await wait_until(lookout.is_settled, timeout_s=left_s)
        settled = perf_counter()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await wait_until(lookout.is_answered, timeout_s=ANSWERED_S_MAX)
        self._say(f"settled after {settled - stopped:.0f} s; now all is judged")
        return TripsRun(
            plan=self._plan,
            begun=begun,
            trips=await lookout.trips(
                {redemption: members[number] for number, redemption in begun.redemptions.items()}, had=WELCOME
            ),
            live_duplicates=(await lookout.bookings())["live_duplicates"],
            ledger_adds_up=(await lookout.ledger.reconcile()).is_clean,
            faults=dict(injector.counts),
            world=dict(self._world.counts),
            outages=witness.outages,
            tried_again=lookout.tried_again,
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


async def _members(lookout: Lookout, *, count: int) -> list[str]:
    """Register members, and give each the same points."""
    made = []
    for begin in range(0, count, BATCH_MAX):
        async with lookout.members.database.transaction() as conn:
            batch = [
                await lookout.members.register(
                    conn, Profile(name="Ada Byron", email=f"ada{number}@example.org"), by="chaos"
                )
                for number in range(begin, min(begin + BATCH_MAX, count))
            ]
        ids = [member.id for member in batch]
        await lookout.ledger.open_accounts(ids, at=datetime.now(UTC))
        await lookout.ledger.submit_many(
            [Earn(key=f"welcome-{id_}", member_id=id_, amount=WELCOME) for id_ in ids]
        )
        made += ids
    return made
