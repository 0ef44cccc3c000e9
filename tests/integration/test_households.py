"""Households on a real database: who comes, goes and heads them, in whatever order and at once."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from faregate.members.contracts import StatusAct
from faregate.members.domain.household import (
    HOUSEHOLD_MAX,
    AlreadyInHousehold,
    HouseholdFull,
    HouseholdNotFound,
    NotHeadOfHousehold,
    NotInvited,
)
from faregate.members.domain.status import MemberFrozen
from tests.member_desk import BY, Desk, desk

__all__ = ["desk"]
pytestmark = pytest.mark.requirement("L1")


async def set_status(desk: Desk, member_id: str, act: StatusAct) -> Any:
    return await desk.do(lambda api, conn: api.set_status(conn, member_id, act, reason="asked", by=BY))


async def erase(desk: Desk, member_id: str) -> Any:
    return await desk.do(lambda api, conn: api.erase(conn, member_id, reason="member_request", by=BY))


async def household(desk: Desk, *members: str) -> str:
    """Make a household of members, the first one its head; return its id."""
    head = members[0]
    made = await desk.do(lambda api, conn: api.households.create(conn, head, by=BY))
    for member_id in members[1:]:
        await invite(desk, head, member_id)
        await join(desk, member_id, made.id)
    return made.id


async def invite(desk: Desk, head_id: str, member_id: str) -> Any:
    return await desk.do(lambda api, conn: api.households.invite(conn, head_id, member_id=member_id, by=BY))


async def join(desk: Desk, member_id: str, household_id: str) -> Any:
    return await desk.do(
        lambda api, conn: api.households.join(conn, member_id, household_id=household_id, by=BY)
    )


async def people(desk: Desk, count: int) -> list[str]:
    return [(await desk.member()).id for _ in range(count)]


@pytest.mark.requirement("L6")
async def test_a_household_is_made_joined_handed_over_left_and_ended(desk: Desk) -> None:
    ada, bob = await people(desk, 2)
    made = await household(desk, ada, bob)
    assert (await desk.api.get(bob)).household_id == made
    await desk.do(lambda api, conn: api.households.hand_over(conn, ada, to=bob, by=BY))
    await desk.do(lambda api, conn: api.households.leave(conn, bob, by=BY))
    assert (await desk.api.household_of(ada)).head_id == ada
    await desk.do(lambda api, conn: api.households.leave(conn, ada, by=BY))
    with pytest.raises(HouseholdNotFound):
        await desk.api.household_of(ada)
    told = [(e["change"], e["subject_id"], e["head_id"]) for e in await desk.events("members.household.%")]
    assert told == [
        ("created", ada, ada),
        ("invited", bob, ada),
        ("joined", bob, ada),
        ("head_changed", bob, bob),
        ("left", bob, ada),
        ("head_changed", ada, ada),
        ("dissolved", ada, None),
    ]


async def test_nobody_joins_uninvited_or_twice_and_only_the_head_invites(desk: Desk) -> None:
    ada, bob, eve = await people(desk, 3)
    made = await household(desk, ada, bob)
    with pytest.raises(NotInvited):
        await join(desk, eve, made)
    with pytest.raises(NotHeadOfHousehold):
        await invite(desk, bob, eve)
    await household(desk, eve)
    await invite(desk, ada, eve)
    with pytest.raises(AlreadyInHousehold):
        await join(desk, eve, made)
    with pytest.raises(AlreadyInHousehold):
        await household(desk, bob)


async def test_an_invitation_ends(desk: Desk) -> None:
    ada, bob = await people(desk, 2)
    made = await household(desk, ada)
    await invite(desk, ada, bob)
    desk.pass_by(days=14)
    with pytest.raises(NotInvited):
        await join(desk, bob, made)


async def test_only_active_members_are_invited_and_join(desk: Desk) -> None:
    ada, bob = await people(desk, 2)
    made = await household(desk, ada)
    await invite(desk, ada, bob)
    await set_status(desk, bob, StatusAct.FREEZE)
    with pytest.raises(MemberFrozen):
        await join(desk, bob, made)
    with pytest.raises(MemberFrozen):
        await invite(desk, ada, bob)


async def test_who_is_closed_or_erased_leaves_the_household_and_all_invitations(desk: Desk) -> None:
    ada, bob, eve = await people(desk, 3)
    made = await household(desk, ada, bob)
    await invite(desk, ada, eve)
    await set_status(desk, ada, StatusAct.CLOSE)
    await erase(desk, eve)
    left = await desk.api.household_of(bob)
    assert (left.id, left.head_id, left.members, left.invitations) == (made, bob, (bob,), {})
    await erase(desk, bob)
    assert not (await desk.tables())["household"]


async def test_a_member_who_joins_two_households_at_once_is_in_one(desk: Desk) -> None:
    ada, bob, eve = await people(desk, 3)
    made = [await household(desk, ada), await household(desk, bob)]
    for head in (ada, bob):
        await invite(desk, head, eve)
    found = await asyncio.gather(*(join(desk, eve, one) for one in made), return_exceptions=True)
    assert sorted(type(one).__name__ for one in found) == ["AlreadyInHousehold", "Household"]
    assert len((await desk.tables())["household_member"]) == 3


async def test_a_race_for_the_last_place_in_a_household_has_one_winner(desk: Desk) -> None:
    ada, *others = await people(desk, HOUSEHOLD_MAX + 2)
    made = await household(desk, ada, *others[: HOUSEHOLD_MAX - 2])
    late = others[HOUSEHOLD_MAX - 2 :]
    for member_id in late:
        await invite(desk, ada, member_id)
    found = await asyncio.gather(*(join(desk, one, made) for one in late), return_exceptions=True)
    refused = [one for one in found if isinstance(one, HouseholdFull)]
    assert len(refused) == len(late) - 1
    assert len((await desk.api.household_of(ada)).members) == HOUSEHOLD_MAX


async def test_everybody_leaves_at_once_without_a_deadlock(desk: Desk) -> None:
    members = await people(desk, 6)
    await household(desk, *members)
    acts = [
        erase(desk, member_id)
        if n % 2
        else desk.do(lambda api, conn, member_id=member_id: api.households.leave(conn, member_id, by=BY))
        for n, member_id in enumerate(members)
    ]
    await asyncio.gather(*acts)
    tables = await desk.tables()
    assert (tables["household"], tables["household_member"]) == ([], [])
