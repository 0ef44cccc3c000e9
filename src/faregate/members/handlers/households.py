"""Households: make, invite, join, leave, hand over. Each act belongs to the caller's transaction.

Locks in this order: the member, then the household. A member's version counts what happens to the member alone, so that
what somebody else does in a household disturbs nobody who edits a profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from faregate.events.members import HouseholdChanged
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.members.contracts import Household, HouseholdAct
from faregate.members.domain import household as rules
from faregate.members.domain import status as states
from faregate.members.domain.household import AlreadyInHousehold, HouseholdNotFound
from faregate.members.handlers.tools import Tools
from faregate.members.store import households as store
from faregate.members.store import members as people
from faregate.members.store.members import Act


@dataclass(frozen=True, kw_only=True)
class HouseholdDesk:
    """What is done to households."""

    tools: Tools

    async def of_member(self, conn: Connection, member_id: str) -> Household:
        """Return the household that a member is in. Raises HouseholdNotFound."""
        return await store.household(conn, await self._id_of(conn, member_id))

    async def create(self, conn: Connection, member_id: str, *, by: str) -> Household:
        """Make a household of one member, its head. Raises AlreadyInHousehold, and what `_active` raises."""
        now = self.tools.clock.now()
        await self._active(conn, member_id)
        household = rules.created(id=self.tools.new_id("hsh", now=now), member_id=member_id, now=now)
        await store.insert_household(conn, household)
        await self._keep(conn, household, HouseholdAct.CREATED, member_id, by=by, now=now)
        return household

    async def invite(self, conn: Connection, head_id: str, *, member_id: str, by: str) -> Household:
        """Let the head invite a member, or renew an invitation.

        Raises HouseholdNotFound, NotHeadOfHousehold, AlreadyInHousehold or HouseholdFull, and what `_active` raises.
        """
        now = self.tools.clock.now()
        await self._active(conn, member_id)
        locked = await store.lock_household(conn, await self._id_of(conn, head_id))
        household = rules.invited(locked, by=head_id, member_id=member_id, now=now)
        await store.save_invitation(conn, household, member_id)
        await self._keep(conn, household, HouseholdAct.INVITED, member_id, by=by, now=now)
        return household

    async def join(self, conn: Connection, member_id: str, *, household_id: str, by: str) -> Household:
        """Let an invited member in.

        Raises HouseholdNotFound, NotInvited, AlreadyInHousehold or HouseholdFull, and what `_active` raises.
        """
        now = self.tools.clock.now()
        await self._active(conn, member_id)
        if await store.household_of(conn, member_id) is not None:
            raise AlreadyInHousehold(f"member {member_id} is in a household already")
        locked = await store.lock_household(conn, household_id)
        household = rules.joined(locked, member_id=member_id, now=now)
        await store.add_member(conn, household_id, member_id, now=now)
        await self._keep(conn, household, HouseholdAct.JOINED, member_id, by=by, now=now)
        return household

    async def leave(self, conn: Connection, member_id: str, *, by: str) -> Household | None:
        """Let a member go; return what is left of the household. Raises MemberNotFound or HouseholdNotFound."""
        now = self.tools.clock.now()
        await people.lock_member(conn, member_id)
        return await self._leave(conn, await self._id_of(conn, member_id), member_id, by=by, now=now)

    async def hand_over(self, conn: Connection, head_id: str, *, to: str, by: str) -> Household:
        """Let the head make another member the head. Raises HouseholdNotFound, NotHeadOfHousehold, NotInHousehold."""
        now = self.tools.clock.now()
        locked = await store.lock_household(conn, await self._id_of(conn, head_id))
        household = rules.handed_over(locked, by=head_id, to=to)
        if household.head_id != locked.head_id:
            await store.save_head(conn, household)
            await self._keep(conn, household, HouseholdAct.HEAD_CHANGED, to, by=by, now=now)
        return household

    async def part(self, conn: Connection, member_id: str, *, by: str, now: datetime) -> None:
        """Take a locked member, who leaves the programme, out of a household and all invitations."""
        await store.end_invitations(conn, member_id)
        household_id = await store.household_of(conn, member_id)
        if household_id is not None:
            await self._leave(conn, household_id, member_id, by=by, now=now)

    async def _leave(
        self, conn: Connection, household_id: str, member_id: str, *, by: str, now: datetime
    ) -> Household | None:
        locked = await store.lock_household(conn, household_id)
        household = rules.left(locked, member_id=member_id)
        await store.remove_member(conn, locked, household, member_id)
        if household is None:
            await self._keep(conn, locked, HouseholdAct.DISSOLVED, member_id, by=by, now=now)
            return None
        await self._keep(conn, household, HouseholdAct.LEFT, member_id, by=by, now=now)
        if household.head_id != locked.head_id:
            await self._keep(conn, household, HouseholdAct.HEAD_CHANGED, household.head_id, by=by, now=now)
        return household

    async def _active(self, conn: Connection, member_id: str) -> None:
        """Lock a member who is active. Raises MemberNotFound, MemberErased, MemberClosed or MemberFrozen."""
        locked = await people.lock_member(conn, member_id)
        states.require_active(member_id, status=locked.status, is_erased=locked.is_erased)

    async def _id_of(self, conn: Connection, member_id: str) -> str:
        household_id = await store.household_of(conn, member_id)
        if household_id is None:
            raise HouseholdNotFound(f"member {member_id} is in no household")
        return household_id

    async def _keep(
        self,
        conn: Connection,
        household: Household,
        change: HouseholdAct,
        member_id: str,
        *,
        by: str,
        now: datetime,
    ) -> None:
        """Add to the record of the member whom it is about, and tell the others."""
        details = {"household_id": household.id, "change": change.value}
        act = Act(member_id=member_id, by=by, act="household_changed", details=details)
        await people.insert_records(conn, [act], now=now)
        is_over = change is HouseholdAct.DISSOLVED
        event = HouseholdChanged(
            household_id=household.id,
            change=change.value,
            subject_id=member_id,
            head_id=None if is_over else household.head_id,
            member_ids=() if is_over else tuple(household.members),
            changed_at=now,
        )
        await append(conn, [self.tools.stamp(event, now=now)])
