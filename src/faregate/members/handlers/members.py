"""One member: register, change, freeze, close, erase. Each act belongs to the caller's transaction.

Guards in this order: the member is there, it is not erased, its status allows it, it has the version that was read, the
new values are possible. An act that changes nothing writes nothing and announces nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from faregate.events.base import PublishedEvent
from faregate.events.members import (
    ConsentChanged,
    MemberErased,
    ProfileUpdated,
    StatusChanged,
    UserRegistered,
)
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.members.contracts import (
    ConsentChange,
    Member,
    MemberStatus,
    Preferences,
    Profile,
    ProfileChanges,
    StatusAct,
    TierNews,
)
from faregate.members.domain import profile as rules
from faregate.members.domain import status as states
from faregate.members.domain.profile import EmailTaken, ProfileInvalid
from faregate.members.domain.status import MemberNotFound
from faregate.members.handlers.households import HouseholdDesk
from faregate.members.handlers.tools import Tools
from faregate.members.handlers.vault import MemberVault
from faregate.members.store import members as store
from faregate.members.store.members import Act, LockedMember, NewMember, StoredMember

_log = structlog.get_logger(__name__)

_PROGRAMME = "programme"
"""Who tells tiers, in the record."""


@dataclass(frozen=True, kw_only=True)
class MemberDesk:
    """What is done to members."""

    tools: Tools
    vault: MemberVault
    households: HouseholdDesk

    async def register(self, conn: Connection, profile: Profile, *, by: str) -> Member:
        """Make somebody a member who has a name and an e-mail address. Raises ProfileInvalid or EmailTaken."""
        now = self.tools.clock.now()
        rules.checked_profile(profile, today=now.date())
        if profile.email is None:
            raise ProfileInvalid("who registers has an e-mail address", field="email")
        await self._refuse_taken(conn, profile.email, by_other_than=None)
        member_id = self.tools.new_id("mbr", now=now)
        new = NewMember(
            id=member_id,
            fields=self.vault.seal_profile(member_id, profile),
            digest=self.vault.email_digest(profile.email),
        )
        if not await store.insert_members(conn, [new], now=now):
            raise EmailTaken("another member has this e-mail address")
        event = UserRegistered(member_id=member_id, source="registration", registered_at=now)
        await self._keep(conn, event, Act(member_id=member_id, by=by, act="registered"), now=now)
        return await self.member(conn, member_id)

    async def member(self, conn: Connection, member_id: str) -> Member:
        """Return a member. Raises MemberNotFound."""
        found = await self.members(conn, [member_id])
        if not found:
            raise MemberNotFound(f"there is no member {member_id}")
        return found[0]

    async def members(self, conn: Connection, member_ids: Sequence[str]) -> list[Member]:
        """Return those of the members that there are, in the order of their ids."""
        return [self._opened(stored) for stored in await store.members_of(conn, member_ids)]

    async def find_by_email(self, conn: Connection, address: str) -> str | None:
        """Return the id of the member who has an address, None if nobody has it."""
        return await store.find_by_digest(conn, self.vault.email_candidates(address))

    async def update_profile(
        self, conn: Connection, member_id: str, changes: ProfileChanges, *, version: int, by: str
    ) -> Member:
        """Change personal fields. Raises MemberChanged, ProfileInvalid or EmailTaken, and what `_open` raises."""
        now, locked = self.tools.clock.now(), await self._open(conn, member_id, version=version)
        before = self.vault.open_profile(member_id, locked.sealed)
        after, fields = rules.changed_profile(before, changes, today=now.date())
        if fields:
            if after.email is not None and "email" in fields:
                await self._refuse_taken(conn, after.email, by_other_than=member_id)
            sealed = self.vault.seal_profile(member_id, after)
            digest = self.vault.email_digest(after.email)
            await store.save_profile(conn, member_id, sealed, digest=digest, now=now)
            await self._note_update(conn, locked, fields, by=by, now=now)
        return await self.member(conn, member_id)

    async def set_preferences(
        self, conn: Connection, member_id: str, preferences: Preferences, *, version: int, by: str
    ) -> Member:
        """Replace the preferences. Raises MemberChanged or PreferencesInvalid, and what `_open` raises."""
        now, locked = self.tools.clock.now(), await self._open(conn, member_id, version=version)
        wanted = rules.checked_preferences(preferences)
        if wanted != self.vault.open_preferences(member_id, locked.sealed.preferences):
            sealed = self.vault.seal_preferences(member_id, wanted)
            await store.save_preferences(conn, member_id, sealed, now=now)
            await self._note_update(conn, locked, ["preferences"], by=by, now=now)
        return await self.member(conn, member_id)

    async def set_home_airports(
        self, conn: Connection, member_id: str, codes: Sequence[str], *, version: int, by: str
    ) -> Member:
        """Replace the home airports. Raises MemberChanged or HomeAirportsInvalid, and what `_open` raises."""
        now, locked = self.tools.clock.now(), await self._open(conn, member_id, version=version)
        wanted = rules.checked_airports(codes)
        if wanted != locked.home_airports:
            await store.save_home_airports(conn, member_id, wanted, now=now)
            await self._note_update(conn, locked, ["home_airports"], by=by, now=now)
        return await self.member(conn, member_id)

    async def set_consent(
        self, conn: Connection, member_id: str, change: ConsentChange, *, by: str
    ) -> Member:
        """Note that a member gave or withdrew a consent, whatever its status. Raises MemberErased, ConsentInvalid."""
        now, locked = self.tools.clock.now(), await store.lock_member(conn, member_id)
        states.require_not_erased(member_id, is_erased=locked.is_erased)
        rules.checked_consent(change)
        said = await store.newest_consent(conn, member_id, change.purpose)
        if said != (change.given, change.text_version):
            await store.insert_consent(conn, member_id, change, by=by, now=now)
            details: dict[str, Any] = {
                "purpose": change.purpose.value,
                "given": change.given,
                "text_version": change.text_version,
            }
            event = ConsentChanged(member_id=member_id, **details, changed_at=now)
            act = Act(member_id=member_id, by=by, act="consent_changed", details=details)
            await self._keep(conn, event, act, now=now)
        return await self.member(conn, member_id)

    async def set_status(
        self, conn: Connection, member_id: str, act: StatusAct, *, reason: str, by: str
    ) -> Member:
        """Freeze, unfreeze or close a member; who is closed leaves its household.

        Raises MemberErased, StatusActRefused or ReasonMalformed.
        """
        now, locked = self.tools.clock.now(), await store.lock_member(conn, member_id)
        states.require_not_erased(member_id, is_erased=locked.is_erased)
        following = states.after(locked.status, act)
        states.require_reason(reason)
        await store.save_status(conn, member_id, following, now=now)
        await self._note_status(conn, locked, following, reason=reason, by=by, now=now)
        if following is MemberStatus.CLOSED:
            await self.households.part(conn, member_id, by=by, now=now)
        return await self.member(conn, member_id)

    async def erase(self, conn: Connection, member_id: str, *, reason: str, by: str) -> Member:
        """Destroy what is personal of a member; an erased one stays as it is.

        The id, the consents and the record of acts stay: they say nothing about a person. Raises ReasonMalformed.
        """
        now, locked = self.tools.clock.now(), await store.lock_member(conn, member_id)
        states.require_reason(reason)
        if not locked.is_erased:
            await self.households.part(conn, member_id, by=by, now=now)
            await store.erase(conn, member_id, now=now)
            if locked.status is not MemberStatus.CLOSED:
                await self._note_status(conn, locked, MemberStatus.CLOSED, reason=reason, by=by, now=now)
            event = MemberErased(member_id=member_id, reason=reason, erased_at=now)
            act = Act(member_id=member_id, by=by, act="erased", details={"reason": reason})
            await self._keep(conn, event, act, now=now)
        return await self.member(conn, member_id)

    async def note_tiers(self, conn: Connection, news: Sequence[TierNews]) -> None:
        """Keep the tiers that the programme told; the newest of each member counts."""
        now = self.tools.clock.now()
        newest: Mapping[str, TierNews] = {
            one.member_id: one for one in sorted(news, key=lambda one: one.changed_at)
        }
        changed = await store.save_tiers(conn, list(newest.values()), now=now)
        acts = [
            Act(member_id=one.member_id, by=_PROGRAMME, act="tier_changed", details={"tier": one.tier})
            for one in newest.values()
            if one.member_id in changed
        ]
        await store.insert_records(conn, acts, now=now)
        if passed_over := sorted(newest.keys() - changed):
            _log.info("members.tiers_passed_over", member_ids=passed_over)

    async def _open(self, conn: Connection, member_id: str, *, version: int) -> LockedMember:
        """Lock a member that may be changed. Raises MemberNotFound, MemberErased, MemberClosed or MemberChanged."""
        locked = await store.lock_member(conn, member_id)
        states.require_open(member_id, status=locked.status, is_erased=locked.is_erased)
        rules.require_version(member_id, version=locked.version, expected=version)
        return locked

    async def _refuse_taken(self, conn: Connection, address: str, *, by_other_than: str | None) -> None:
        """Raise EmailTaken for an address that is known under any key; the constraint knows the current one only."""
        owner = await self.find_by_email(conn, address)
        if owner not in (None, by_other_than):
            raise EmailTaken("another member has this e-mail address")

    async def _note_update(
        self, conn: Connection, locked: LockedMember, fields: Sequence[str], *, by: str, now: datetime
    ) -> None:
        names = tuple(str(field) for field in fields)
        event = ProfileUpdated(member_id=locked.id, fields=names, version=locked.version + 1, updated_at=now)
        act = Act(member_id=locked.id, by=by, act="profile_updated", details={"fields": names})
        await self._keep(conn, event, act, now=now)

    async def _note_status(
        self,
        conn: Connection,
        locked: LockedMember,
        following: MemberStatus,
        *,
        reason: str,
        by: str,
        now: datetime,
    ) -> None:
        details: dict[str, Any] = {
            "status": following.value,
            "previous": locked.status.value,
            "reason": reason,
        }
        event = StatusChanged(member_id=locked.id, **details, changed_at=now)
        act = Act(member_id=locked.id, by=by, act="status_changed", details=details)
        await self._keep(conn, event, act, now=now)

    async def _keep(self, conn: Connection, event: PublishedEvent, act: Act, *, now: datetime) -> None:
        """Add to the member's record, and tell the others."""
        await store.insert_records(conn, [act], now=now)
        await append(conn, [self.tools.stamp(event, now=now)])

    def _opened(self, stored: StoredMember) -> Member:
        return Member(
            id=stored.id,
            status=stored.status,
            version=stored.version,
            tier=stored.tier,
            profile=self.vault.open_profile(stored.id, stored.sealed),
            preferences=self.vault.open_preferences(stored.id, stored.sealed.preferences),
            home_airports=stored.home_airports,
            consents=stored.consents,
            household_id=stored.household_id,
            registered_at=stored.registered_at,
            updated_at=stored.updated_at,
            erased_at=stored.erased_at,
        )
