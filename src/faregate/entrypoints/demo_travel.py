"""The demo's journey: whoever was approved is a member, gets points, and travels while partners misbehave."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from faregate.bench.chaos.travellers import Travellers
from faregate.bench.chaos.trips import Trip
from faregate.bench.partner import wait_until
from faregate.entrypoints.local_client import new_token, set_faults
from faregate.entrypoints.trips import SCOPES, Lookout, looking_at
from faregate.infra.local_system import LocalSystem
from faregate.sandbox.plans import PARTNER_PLANS

TRIPS_MAX: Final = 200
SHARE: Final = 3
"""One of so many applicants' worth of members travels at most."""
EARNED: Final = 300_000
ENROLLED_S_MAX: Final = 60.0
ENDED_S_MAX: Final = 180.0
TRIPS_PER_S: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Journeys:
    """What became of the members' trips."""

    members: int
    trips: Sequence[Trip]
    answered: int
    cancelled: int
    live_duplicates: int
    ledger_adds_up: bool

    @property
    def checks(self) -> Mapping[str, bool]:
        """What must hold, by its sentence."""
        return {
            "every redemption ended": all(t.status in ("booked", "failed", "cancelled") for t in self.trips),
            "points are spent if and only if the partners' bookings stand": not any(
                t.wrong for t in self.trips
            ),
            "no leg is booked twice": self.live_duplicates == 0,
            "the points ledger adds up": self.ledger_adds_up,
        }

    def document(self) -> dict[str, Any]:
        """Return the figures."""
        ends = [str(trip.status) for trip in self.trips]
        return {
            "members": self.members,
            "redemptions": len(self.trips),
            **{end: ends.count(end) for end in ("booked", "failed", "cancelled")},
            "answers_to_new_prices": self.answered,
        }


async def travel_a_while(
    system: LocalSystem, *, approved: int, applicants: int, console: Console
) -> Journeys:
    """Wait until the approved are members, let them earn, and let some of them redeem; return what came of it."""
    async with looking_at(system) as lookout:
        await set_faults(lookout.session, system, PARTNER_PLANS["rough"])

        async def are_enrolled() -> bool:
            return len(await lookout.members.ids(limit=approved)) >= approved

        await wait_until(are_enrolled, timeout_s=ENROLLED_S_MAX)
        members = await lookout.members.ids(limit=min(TRIPS_MAX, max(1, applicants // SHARE)))
        token = await new_token(lookout.site, client_id="demo-agency", scopes=SCOPES)
        await _earn(lookout, system, members, token=token)
        return await _travel(lookout, system, members, token=token, console=console)


async def _earn(lookout: Lookout, system: LocalSystem, members: Sequence[str], *, token: str) -> None:
    """Give each member points over HTTP; one whose account is not open yet is tried again under another key."""

    async def earned(member: str, key: str) -> bool:
        async with lookout.session.post(
            f"{system.api_url}/api/points/operations",
            headers={
                "Authorization": f"Bearer {token}",
                "Content-Type": "application/json",
                "Idempotency-Key": f'"{key}"',
            },
            data=orjson.dumps({"kind": "earn", "member_id": member, "amount": EARNED}),
        ) as answer:
            return answer.status == 201

    for member in members:

        async def once(of: str = member) -> bool:
            return await earned(of, f"welcome-{of}-{uuid4().hex[:6]}")

        await wait_until(once, timeout_s=ENROLLED_S_MAX)


async def _travel(
    lookout: Lookout, system: LocalSystem, members: Sequence[str], *, token: str, console: Console
) -> Journeys:
    travellers = Travellers(
        session=lookout.session,
        urls=system.api_urls,
        token=token,
        members=members,
        rate_per_s=TRIPS_PER_S,
        seed=1,
    )
    columns = (TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    answering = asyncio.create_task(travellers.answer_questions())
    with Progress(*columns, console=console) as progress:
        begun = progress.add_task("redeemed", total=len(members))
        ended = progress.add_task("ended", total=len(members))

        async def all_ended() -> bool:
            is_settled = await lookout.is_settled()
            under_way = await lookout.travel.under_way()
            progress.update(ended, completed=len(travellers.begun.redemptions) - under_way)
            return is_settled

        await travellers.redeem(
            range(len(members)), on_progress=lambda done: progress.update(begun, completed=done)
        )
        await wait_until(all_ended, timeout_s=ENDED_S_MAX)
    answering.cancel()
    of_member = {redemption: members[number] for number, redemption in travellers.begun.redemptions.items()}
    return Journeys(
        members=len(members),
        trips=await lookout.trips(of_member, had=EARNED),
        answered=travellers.begun.answered,
        cancelled=travellers.begun.cancelled,
        live_duplicates=(await lookout.bookings())["live_duplicates"],
        ledger_adds_up=(await lookout.ledger.reconcile()).is_clean,
    )
