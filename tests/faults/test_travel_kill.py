"""Processes of travel are killed while partners have worked and not yet answered: every redemption ends as it must."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from faregate.sandbox.faults import Fault
from tests.agency import WELCOME, Agency, open_agency
from tests.sandbox import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(180)]

SLOW = {"latency": {"median_ms": 700}, "hold_s": 60.0}
"""Time enough to say what goes wrong next, once it is known what is booked."""
TAKEN_OVER_S = 60
"""A killed worker's calls are somebody else's after the partner's time-out and two seconds."""


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agency(
    postgres_url: str, valkey_socket: Path, kafka: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Agency]:
    home = tmp_path_factory.mktemp("agency")
    async with open_agency(
        home, postgres_url=postgres_url, valkey_socket=valkey_socket, kafka=kafka
    ) as opened:
        yield opened


class Trip:
    """A redemption whose partner has done an act that nobody heard of, and how it must end."""

    def __init__(self, agency: Agency, member: str, redemption: str, *, ends: str) -> None:
        self.agency, self.member, self.redemption, self.ends = agency, member, redemption, ends

    @classmethod
    async def begin(cls, agency: Agency, *wanted: tuple[str, bool], ends: str) -> Trip:
        """Redeem an offer of each of these partners, held first or not."""
        member = await agency.member()
        offers = [await agency.offer(member, partner, holdable=holdable) for partner, holdable in wanted]
        return cls(agency, member, await agency.begun(member, *offers), ends=ends)

    async def struck(self, partner: str, fault: Fault, *, leg: int = 1) -> None:
        """Let the next act about a booking of this trip meet a fault."""
        await self.agency.sandbox.script(partner, fault, reference=f"{self.redemption}.{leg}.1.1")

    async def until_booked(self, *wanted: tuple[str, str]) -> None:
        """Wait until these are the bookings that the partners have."""
        await until(
            lambda: self.agency.bookings(self.redemption), lambda found: sorted(found) == sorted(wanted)
        )

    async def assert_ended(self) -> dict[str, Any]:
        """Wait for the end; points are gone if and only if the bookings stand."""
        view = await self.agency.until(self.redemption, within_s=TAKEN_OVER_S)
        assert view["status"] == self.ends, view
        live = await self.agency.live(self.redemption)
        posted, held = await self.agency.balance(self.member)
        assert held == 0
        assert len(live) == (len(view["legs"]) if self.ends == "booked" else 0)
        gone = sum(leg["points"] for leg in view["legs"]) if self.ends == "booked" else 0
        if self.ends != "cancelled":
            assert posted == WELCOME - gone
        return view


async def placing(agency: Agency) -> Trip:
    """A tentative booking was made."""
    await agency.sandbox.script("airline_a", Fault.HANG_AFTER)
    trip = await Trip.begin(agency, ("airline_a", True), ends="booked")
    await trip.until_booked(("airline_a", "held"))
    return trip


async def booking_at_once(agency: Agency) -> Trip:
    """The points are held, and the only booking was made."""
    await agency.sandbox.script("airline_a", Fault.HANG_AFTER)
    trip = await Trip.begin(agency, ("airline_a", False), ends="booked")
    await trip.until_booked(("airline_a", "confirmed"))
    return trip


async def confirming(agency: Agency) -> Trip:
    """The points are held, and what was held was confirmed."""
    trip = await Trip.begin(agency, ("airline_b", True), ends="booked")
    await trip.until_booked(("airline_b", "held"))
    await trip.struck("airline_b", Fault.HANG_AFTER)
    await trip.until_booked(("airline_b", "confirmed"))
    return trip


async def compensating(agency: Agency) -> Trip:
    """The second partner refused, and the first has released what it held: the worker dies in mid-compensation."""
    trip = await Trip.begin(agency, ("airline_b", True), ("hotel_c", True), ends="failed")
    await trip.struck("hotel_c", Fault.PARTNER_OFFER_GONE, leg=2)
    await trip.until_booked(("airline_b", "held"))
    await trip.struck("airline_b", Fault.HANG_AFTER)
    await trip.until_booked(("airline_b", "cancelled"))
    return trip


async def cancelling(agency: Agency) -> Trip:
    """The member cancels what was booked, and the partner has cancelled it."""
    trip = await Trip.begin(agency, ("hotel_c", True), ends="cancelled")
    await agency.until(trip.redemption, "booked")
    await trip.struck("hotel_c", Fault.HANG_AFTER)
    await agency.post(f"/api/travel/redemptions/{trip.redemption}/cancel")
    await trip.until_booked(("hotel_c", "cancelled"))
    return trip


@pytest.mark.requirement("L4")
@pytest.mark.requirement("L8")
async def test_whatever_a_partner_was_doing_when_the_worker_the_ledger_and_the_api_died_it_ends_as_it_must(
    agency: Agency,
) -> None:
    await agency.sandbox.set_faults({"default": SLOW})
    trips = [
        await begin(agency) for begin in (placing, booking_at_once, confirming, compensating, cancelling)
    ]
    dead = ("redemptions", "points", "travel")
    for name in dead:
        await agency.processes[name].kill9()
    for name in dead:
        await agency.processes[name].start()
    await agency.until_ready(*dead)
    ended = await asyncio.gather(*(trip.assert_ended() for trip in trips))
    assert (await agency.sandbox.get("/admin/bookings"))["live_duplicates"] == 0
    for view in ended:
        done = [(step["action"], step["leg"]) for step in view["steps"] if step["state"] == "done"]
        assert len(done) == len(set(done)), "a step was done twice"


@pytest.mark.requirement("L2")
async def test_a_ledger_that_is_killed_again_and_again_takes_points_once_for_each_booking(
    agency: Agency,
) -> None:
    await agency.sandbox.set_faults({})
    members = [await agency.member() for _ in range(8)]
    offers = [await agency.offer(member, "airline_a", holdable=True) for member in members]
    begun = [
        asyncio.create_task(agency.begun(member, offer))
        for member, offer in zip(members, offers, strict=True)
    ]
    for _ in range(3):
        await agency.processes["points"].kill9()
        await agency.processes["points"].start()
        await agency.until_ready("points")
    for member, offer, beginning in zip(members, offers, begun, strict=True):
        redemption = await beginning
        assert (await agency.until(redemption, within_s=TAKEN_OVER_S))["status"] == "booked"
        assert await agency.balance(member) == (WELCOME - offer["points"], 0)
