"""Households: who is in them, who heads them, who is invited."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.members.contracts import Household
from faregate.members.domain.household import AlreadyInHousehold, HouseholdNotFound

_Q = load_queries("faregate.members.store")


async def household_of(conn: Connection, member_id: str) -> str | None:
    """Return the id of the household that a member is in."""
    row = await (await conn.execute(_Q["household_of"], {"id": member_id})).fetchone()
    return None if row is None else str(row["household_id"])


async def household(conn: Connection, household_id: str) -> Household:
    """Return a household. Raises HouseholdNotFound."""
    return await _one(conn, "household", household_id)


async def lock_household(conn: Connection, household_id: str) -> Household:
    """Return a household, locked until the transaction ends. Raises HouseholdNotFound."""
    return await _one(conn, "lock_household", household_id)


async def _one(conn: Connection, query: str, household_id: str) -> Household:
    row = await (await conn.execute(_Q[query], {"id": household_id})).fetchone()
    if row is None:
        raise HouseholdNotFound(f"there is no household {household_id}")
    people: Any = await (await conn.execute(_Q["people_of_household"], {"id": household_id})).fetchone()
    return Household(**row, members=tuple(people["members"]), invitations=_invitations(people["invitations"]))


async def insert_household(conn: Connection, new: Household) -> None:
    """Add a household with its first member. Raises AlreadyInHousehold."""
    given = {"id": new.id, "head_id": new.head_id, "now": new.created_at}
    await conn.execute(_Q["insert_household"], given)
    await add_member(conn, new.id, new.head_id, now=new.created_at)


async def add_member(conn: Connection, household_id: str, member_id: str, *, now: datetime) -> None:
    """Put a member into a locked household and end the member's invitations. Raises AlreadyInHousehold."""
    given = {"id": household_id, "member_id": member_id, "now": now}
    cursor = await conn.execute(_Q["insert_household_member"], given)
    if await cursor.fetchone() is None:
        raise AlreadyInHousehold(f"member {member_id} is in a household already")
    await end_invitations(conn, member_id)


async def remove_member(conn: Connection, before: Household, after: Household | None, member_id: str) -> None:
    """Take a member out of a locked household, which has another head then or ends."""
    await conn.execute(_Q["delete_household_member"], {"id": before.id, "member_id": member_id})
    if after is None:
        await conn.execute(_Q["delete_household"], {"id": before.id})
    elif after.head_id != before.head_id:
        await save_head(conn, after)


async def save_head(conn: Connection, changed: Household) -> None:
    """Store the head of a locked household."""
    await conn.execute(_Q["save_head"], {"id": changed.id, "head_id": changed.head_id})


async def save_invitation(conn: Connection, changed: Household, member_id: str) -> None:
    """Store an invitation of a locked household."""
    given = {"id": changed.id, "member_id": member_id, "ends_at": changed.invitations[member_id]}
    await conn.execute(_Q["save_invitation"], given)


async def end_invitations(conn: Connection, member_id: str) -> None:
    """End every invitation of a member."""
    await conn.execute(_Q["delete_invitations_of"], {"member_id": member_id})


def _invitations(found: Mapping[str, str]) -> dict[str, datetime]:
    return {member_id: datetime.fromisoformat(ends_at) for member_id, ends_at in found.items()}
