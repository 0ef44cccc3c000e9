"""How operators see travel's partners, and hold their breakers: by the same routes as the providers of checks."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio

from faregate.sandbox.faults import Fault
from tests.agency import WELCOME, Agency, open_agency
from tests.sandbox import until

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("L10")]
PARTNERS = "/internal/gateway/providers"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def agency(
    postgres_url: str, valkey_socket: Path, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Agency]:
    home = tmp_path_factory.mktemp("agency")
    async with open_agency(
        home, postgres_url=postgres_url, valkey_socket=valkey_socket, kafka=None
    ) as opened:
        yield opened


async def sends(agency: Agency, partner: str) -> dict[str, Any]:
    """Return how sending to a partner stands."""
    providers = {one["provider"]: one for one in (await agency.get(PARTNERS))["providers"]}
    found: list[dict[str, Any]] = providers[partner]["operations"]
    return next(one for one in found if one["operation"] == "send")


async def hold(agency: Agency, partner: str, state: str) -> None:
    said = await agency.send("PUT", f"{PARTNERS}/{partner}/breaker", {"state": state, "reason": "a test"})
    assert said.status == 200, said.body


async def test_nothing_is_sent_to_a_partner_that_an_operator_holds_until_it_is_let_go(agency: Agency) -> None:
    member = await agency.member()
    offer = await agency.offer(member, "airline_a", holdable=True)
    await hold(agency, "airline_a", "forced_open")
    await until(lambda: sends(agency, "airline_a"), lambda found: found["following"] == 1)
    redemption = await agency.begun(member, offer)
    flies = await agency.member()
    other = await agency.begun(flies, await agency.offer(flies, "airline_b", holdable=True))
    assert (await agency.until(other))["status"] == "booked"
    assert await agency.bookings(redemption) == []
    assert await agency.balance(member) == (WELCOME, 0)
    await hold(agency, "airline_a", "automatic")
    assert (await agency.until(redemption))["status"] == "booked"


async def test_a_partner_that_fails_all_the_time_is_shown_with_an_open_breaker_and_left_alone(
    agency: Agency,
) -> None:
    members = [await agency.member() for _ in range(12)]
    offers = [await agency.offer(member, "hotel_c", holdable=True) for member in members]
    await agency.sandbox.script("hotel_c", Fault.ERROR_BEFORE, times=1_000)
    begun = [await agency.begun(member, offer) for member, offer in zip(members, offers, strict=True)]
    await until(lambda: sends(agency, "hotel_c"), lambda found: found["shared_state"] == "open")
    await agency.sandbox.set_faults({})
    for member, redemption in zip(members, begun, strict=True):
        view = await agency.until(redemption)
        assert bool(await agency.live(redemption)) is (view["status"] == "booked")
        assert (await agency.balance(member))[1] == 0
