"""What travel needs of points and members, in its own process and over HTTP: one contract, under the same keys."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import pytest
import pytest_asyncio
from yarl import URL

from faregate.entrypoints.bootstrap.apart import (
    ApartSession,
    LedgerOverHttp,
    LedgerUnavailable,
    TravellersOverHttp,
)
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.travel_needs import (
    CLIENT,
    Ledger,
    LedgerAnsweredOtherwise,
    LedgerExchange,
    LedgerPoints,
    MembersWhoTravel,
)
from faregate.infra.supervisor import free_port
from faregate.members.api import MembersApi
from faregate.members.contracts import Profile, StatusAct
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Earn
from faregate.points.domain.conversion import LessThanOneBlock, PartnerUnknown
from faregate.travel.contracts.redemptions import Came, Members, MembersUnavailable, Traveller
from tests.credit_world import CreditWorld, shared_world

__all__ = ["shared_world"]
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("L2")]

HAS = 10_000
HOUR = timedelta(hours=1)
_numbers = itertools.count(1)


@dataclass(frozen=True, kw_only=True)
class Needs:
    """One implementation of both ports, and what stands behind it."""

    ledger: Ledger
    members: Members
    points_api: PointsApi
    members_api: MembersApi

    @property
    def points(self) -> LedgerPoints:
        return LedgerPoints(self.ledger)

    async def member(self, *, points: int = HAS) -> str:
        """Make a member who has so many points."""
        profile = Profile(
            name="Ada Byron", email=f"needs{next(_numbers)}@example.org", date_of_birth=date(1985, 12, 10)
        )
        async with self.members_api.database.transaction() as conn:
            made = await self.members_api.register(conn, profile, by="test")
        await self.points_api.open_accounts([made.id], at=datetime.now(UTC))
        await self.points_api.submit(Earn(key=f"welcome-{made.id}", member_id=made.id, amount=points))
        return made.id

    async def balance(self, member: str) -> tuple[int, int]:
        found = (await self.points_api.account(member)).balance
        return found.posted, found.held

    async def held(self, member: str, key: str, amount: int = 1_000) -> Came:
        return await self.points.hold(key=key, member_id=member, amount=amount, lasts=HOUR, reference="trip")


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=["in this process", "over HTTP"])
async def needs(request: pytest.FixtureRequest, shared_world: CreditWorld) -> AsyncIterator[Needs]:
    site = shared_world.site
    async with AsyncExitStack() as stack:
        points = await points_api(stack, site, database=await site.database(stack, "points"))
        members = members_on(await site.database(stack, "members"), site.settings)
        if request.param == "in this process":
            yield Needs(
                ledger=points, members=MembersWhoTravel(members), points_api=points, members_api=members
            )
            return
        await shared_world.add_key(CLIENT, client=CLIENT, scopes=["points:write", "members:read"])
        apart = ApartSession(session=shared_world.session, key=shared_world.tokens[CLIENT])
        yield Needs(
            ledger=LedgerOverHttp(apart, base_url=shared_world.url, client=CLIENT),
            members=TravellersOverHttp(apart, base_url=shared_world.url),
            points_api=points,
            members_api=members,
        )


async def test_a_hold_lasts_is_made_longer_and_is_spent(needs: Needs) -> None:
    member = await needs.member()
    held = await needs.held(member, f"a-{member}")
    assert held.refusal is None
    assert held.facts["amount"] == 1_000
    ends = datetime.fromisoformat(held.facts["expires_at"])
    assert HOUR - timedelta(minutes=1) < ends - datetime.now(UTC) <= HOUR + timedelta(seconds=1)
    longer = await needs.points.extend(key=f"longer-{member}", hold=held.facts["hold"], lasts=2 * HOUR)
    assert datetime.fromisoformat(longer.facts["expires_at"]) > ends
    posted = await needs.points.post(key=f"post-{member}", hold=held.facts["hold"])
    assert posted.facts["amount"] == 1_000
    assert await needs.balance(member) == (HAS - 1_000, 0)
    back = await needs.points.refund(key=f"back-{member}", operation=posted.facts["operation"], amount=400)
    assert back == Came(facts={"amount": 400})
    assert await needs.balance(member) == (HAS - 600, 0)


async def test_whatever_comes_again_under_its_key_is_done_once_and_answered_the_same(needs: Needs) -> None:
    member = await needs.member()
    held = [await needs.held(member, f"again-{member}") for _ in range(3)]
    assert held[0] == held[1] == held[2]
    posted = [await needs.points.post(key=f"p-{member}", hold=held[0].facts["hold"]) for _ in range(2)]
    assert posted[0] == posted[1]
    assert await needs.balance(member) == (HAS - 1_000, 0)


async def test_a_key_that_means_something_else_is_no_answer(needs: Needs) -> None:
    member = await needs.member()
    await needs.held(member, f"else-{member}")
    with pytest.raises(LedgerAnsweredOtherwise, match="amount"):
        await needs.held(member, f"else-{member}", amount=2_000)


async def test_refusals_are_named(needs: Needs) -> None:
    member = await needs.member(points=10)
    assert (await needs.held(member, f"r-{member}")).refusal == "insufficient_points"
    assert (await needs.held("mbr_00000000000000000000000000", "r-nobody")).refusal == "member_unknown"
    assert (await needs.points.post(key=f"rp-{member}", hold=999_999_999)).refusal == "subject_not_found"


async def test_a_hold_is_released_and_releasing_it_again_is_nothing_new(needs: Needs) -> None:
    member = await needs.member()
    hold = (await needs.held(member, f"v-{member}")).facts["hold"]
    for key in ("v-1", "v-2"):
        assert await needs.points.void(key=f"{key}-{member}", hold=hold) == Came()
    assert await needs.balance(member) == (HAS, 0)


async def test_points_become_a_partners_units_in_whole_blocks_and_come_back(needs: Needs) -> None:
    member = await needs.member()
    exchange = LedgerExchange(needs.ledger)
    came = await exchange.convert(key=f"c-{member}", member_id=member, points=3_500, partner="skymiles")
    assert (came.facts["points"], came.facts["units"]) == (3_000, 1_000)
    assert (
        await exchange.convert(key=f"c-{member}", member_id=member, points=3_500, partner="skymiles") == came
    )
    assert await needs.balance(member) == (HAS - 3_000, 0)
    for _ in range(2):
        assert await exchange.give_back(key=f"g-{member}", operation=came.facts["operation"]) == Came()
    assert await needs.balance(member) == (HAS, 0)


async def test_what_no_programme_converts_is_an_error_and_changes_nothing(needs: Needs) -> None:
    member = await needs.member()
    exchange = LedgerExchange(needs.ledger)
    with pytest.raises(PartnerUnknown):
        await exchange.convert(key=f"n-{member}", member_id=member, points=3_000, partner="nobody")
    with pytest.raises(LessThanOneBlock):
        await exchange.convert(key=f"n-{member}", member_id=member, points=10, partner="skymiles")
    assert await needs.balance(member) == (HAS, 0)


async def test_active_members_travel_under_their_names_and_nobody_else(needs: Needs) -> None:
    ada, frozen, erased = [await needs.member() for _ in range(3)]
    async with needs.members_api.database.transaction() as conn:
        await needs.members_api.set_status(conn, frozen, StatusAct.FREEZE, reason="suspected", by="test")
        await needs.members_api.erase(conn, erased, reason="wanted", by="test")
    assert await needs.members.traveller(ada) == Traveller(name="Ada Byron", date_of_birth=date(1985, 12, 10))
    for nobody in (frozen, erased, "mbr_00000000000000000000000000", "..", "x/y"):
        assert await needs.members.traveller(nobody) is None


async def test_one_key_is_one_thing_in_one_process_and_over_http(
    needs: Needs, shared_world: CreditWorld
) -> None:
    """A redemption that began in one process goes on in many, and back."""
    member = await needs.member()
    here = await needs.held(member, f"both-{member}")
    there = await LedgerPoints(needs.points_api).hold(
        key=f"both-{member}", member_id=member, amount=1_000, lasts=HOUR, reference="trip"
    )
    assert here == there
    assert await needs.balance(member) == (HAS, 1_000)


@pytest.mark.parametrize("way", ["a key that is none", "nobody listens", "another address"])
async def test_a_process_that_cannot_be_asked_is_unavailable_and_nothing_is_taken_for_an_answer(
    shared_world: CreditWorld, way: str
) -> None:
    await shared_world.add_key("t2", client=CLIENT, scopes=["points:write", "members:read"])
    key = "fg_none" if way == "a key that is none" else shared_world.tokens["t2"]
    nobody = f"http://127.0.0.1:{free_port(host='127.0.0.1')}"
    base = {"nobody listens": nobody, "another address": str(URL(shared_world.url) / "elsewhere")}
    apart, url = ApartSession(session=shared_world.session, key=key), base.get(way, shared_world.url)
    points = LedgerPoints(LedgerOverHttp(apart, base_url=url, client=CLIENT))
    with pytest.raises(LedgerUnavailable):
        await points.post(key="never", hold=1)
    with pytest.raises(MembersUnavailable):
        await TravellersOverHttp(apart, base_url=url).traveller("mbr_00000000000000000000000000")
