"""The door to the members context: who members are, how they stand, and what is done to them.

Functions that take a connection join its transaction. Do not import other modules of this context from outside.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from faregate.infra.database import Connection, Database
from faregate.members.contracts import (
    Consent,
    ConsentChange,
    Household,
    Member,
    Preferences,
    Profile,
    ProfileChanges,
    RecordEntry,
    Standing,
    StatusAct,
)
from faregate.members.domain.status import MemberNotFound
from faregate.members.handlers.enrolment import Enroller
from faregate.members.handlers.households import HouseholdDesk
from faregate.members.handlers.members import MemberDesk
from faregate.members.handlers.tools import Tools
from faregate.members.handlers.vault import MemberVault, rotate_members
from faregate.members.store import members as store


@dataclass(frozen=True, kw_only=True)
class MembersApi:
    """Everything that others may ask of members. `by` says who acts, for the record: `client:acme`, `operator`."""

    database: Database
    desk: MemberDesk

    @property
    def households(self) -> HouseholdDesk:
        """Households: make, invite, join, leave, hand over, in the caller's transaction."""
        return self.desk.households

    async def get(self, member_id: str) -> Member:
        """Return a member, all of it decrypted. Raises MemberNotFound."""
        async with self.database.connection() as conn:
            return await self.desk.member(conn, member_id)

    async def get_many(self, member_ids: Sequence[str]) -> Sequence[Member]:
        """Return those of the members that there are, in the order of their ids."""
        async with self.database.connection() as conn:
            return await self.desk.members(conn, member_ids)

    async def find_by_email(self, address: str) -> str | None:
        """Return the id of the member who has an e-mail address, None if nobody has it."""
        async with self.database.connection() as conn:
            return await self.desk.find_by_email(conn, address)

    async def standings(self, member_ids: Sequence[str]) -> Sequence[Standing]:
        """Return status and tier of those of the members that there are; nothing personal is read."""
        async with self.database.connection() as conn:
            return await store.standings_of(conn, member_ids)

    async def enrolled(self, application_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the active member that each of these applications led to, by application; nothing personal is read."""
        async with self.database.connection() as conn:
            return await store.members_of_applications(conn, application_ids)

    async def ids(self, *, limit: int) -> Sequence[str]:
        """Return the active members who joined first."""
        async with self.database.connection() as conn:
            return await store.active_ids(conn, limit=limit)

    async def tier_of(self, member_id: str) -> str | None:
        """Return a member's tier, None while the programme has told none. Raises MemberNotFound."""
        found = await self.standings([member_id])
        if not found:
            raise MemberNotFound(f"there is no member {member_id}")
        return found[0].tier

    async def home_airports(self, member_id: str) -> Sequence[str]:
        """Return a member's home airports, the nearest first. Raises MemberNotFound."""
        async with self.database.connection() as conn:
            return await store.home_airports_of(conn, member_id)

    async def consents(self, member_id: str) -> Sequence[Consent]:
        """Return all that a member ever gave and withdrew, oldest first."""
        async with self.database.connection() as conn:
            return await store.consents_of(conn, member_id)

    async def record(self, member_id: str) -> Sequence[RecordEntry]:
        """Return what was done to a member, oldest first."""
        async with self.database.connection() as conn:
            return await store.record_of(conn, member_id)

    async def household_of(self, member_id: str) -> Household:
        """Return the household that a member is in. Raises HouseholdNotFound."""
        async with self.database.transaction() as conn:
            return await self.households.of_member(conn, member_id)

    async def register(self, conn: Connection, profile: Profile, *, by: str) -> Member:
        """Make somebody a member. Raises ProfileInvalid or EmailTaken."""
        return await self.desk.register(conn, profile, by=by)

    async def update_profile(
        self, conn: Connection, member_id: str, changes: ProfileChanges, *, version: int, by: str
    ) -> Member:
        """Change personal fields of the version that was read.

        Raises MemberNotFound, MemberErased, MemberClosed, MemberChanged, ProfileInvalid or EmailTaken.
        """
        return await self.desk.update_profile(conn, member_id, changes, version=version, by=by)

    async def set_preferences(
        self, conn: Connection, member_id: str, preferences: Preferences, *, version: int, by: str
    ) -> Member:
        """Replace the preferences of the version that was read.

        Raises MemberNotFound, MemberErased, MemberClosed, MemberChanged or PreferencesInvalid.
        """
        return await self.desk.set_preferences(conn, member_id, preferences, version=version, by=by)

    async def set_home_airports(
        self, conn: Connection, member_id: str, codes: Sequence[str], *, version: int, by: str
    ) -> Member:
        """Replace the home airports of the version that was read.

        Raises MemberNotFound, MemberErased, MemberClosed, MemberChanged or HomeAirportsInvalid.
        """
        return await self.desk.set_home_airports(conn, member_id, codes, version=version, by=by)

    async def set_consent(
        self, conn: Connection, member_id: str, change: ConsentChange, *, by: str
    ) -> Member:
        """Note a consent. Raises MemberNotFound, MemberErased or ConsentInvalid."""
        return await self.desk.set_consent(conn, member_id, change, by=by)

    async def set_status(
        self, conn: Connection, member_id: str, act: StatusAct, *, reason: str, by: str
    ) -> Member:
        """Freeze, unfreeze or close. Raises MemberNotFound, MemberErased, StatusActRefused or ReasonMalformed."""
        return await self.desk.set_status(conn, member_id, act, reason=reason, by=by)

    async def erase(self, conn: Connection, member_id: str, *, reason: str, by: str) -> Member:
        """Destroy what is personal; the id stays valid. Raises MemberNotFound or ReasonMalformed."""
        return await self.desk.erase(conn, member_id, reason=reason, by=by)

    async def rotate_keys(self, *, on_progress: Callable[[int], None]) -> int:
        """Re-encrypt every personal field under the current key; return how many members changed."""
        return await rotate_members(self.database, vault=self.desk.vault, on_progress=on_progress)


__all__ = ["Enroller", "HouseholdDesk", "MemberDesk", "MemberVault", "MembersApi", "Tools"]
