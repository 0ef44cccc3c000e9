"""Enrolment: whose card was approved becomes a member, once a person, however often and by whichever event it is told.

What keeps it to one are rows under constraints: an application that was dealt with, and an applicant who is a member.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from faregate.events.members import UserRegistered
from faregate.infra.database import Connection
from faregate.infra.eventlog import append
from faregate.members.contracts import Applicant, ApplicantProfiles, Profile
from faregate.members.handlers.tools import Tools
from faregate.members.handlers.vault import MemberVault
from faregate.members.store import members as store
from faregate.members.store.members import Act, NewMember

_BY = "enrolment"


@dataclass(frozen=True, kw_only=True)
class Enroller:
    """Makes members of applicants. `applicants` knows who they are."""

    tools: Tools
    vault: MemberVault
    applicants: ApplicantProfiles

    async def enrol(self, conn: Connection, traceparents: Mapping[str, str | None]) -> Sequence[str]:
        """Enrol the people of approved applications, given with the trace of each; return who is new.

        An application that is not approved any more leads to nobody, and is not noted: it may be approved again.
        """
        fresh = await store.not_enrolled(conn, list(traceparents))
        people = await self.applicants.approved(fresh) if fresh else {}
        if not people:
            return ()
        now = self.tools.clock.now()
        added = await self._add(conn, people, now=now)
        applicant_ids = sorted({person.applicant_id for person in people.values()})
        member_of = await store.members_of_applicants(conn, applicant_ids)
        led_to = {application: member_of[person.applicant_id] for application, person in people.items()}
        await store.insert_enrolments(conn, led_to, now=now)
        trace_of = {led_to[application]: traceparents[application] for application in people}
        await self._announce(conn, {member_id: trace_of[member_id] for member_id in added}, now=now)
        return added

    async def _add(
        self, conn: Connection, people: Mapping[str, Applicant], *, now: datetime
    ) -> Sequence[str]:
        each = {person.applicant_id: person for person in people.values()}
        new = [self._new(person, now=now) for person in each.values()]
        return sorted(await store.insert_members(conn, new, now=now))

    def _new(self, person: Applicant, *, now: datetime) -> NewMember:
        member_id = self.tools.new_id("mbr", now=now)
        profile = Profile(name=person.name, date_of_birth=person.date_of_birth)
        return NewMember(
            id=member_id,
            applicant_id=person.applicant_id,
            fields=self.vault.seal_profile(member_id, profile),
            digest=None,
        )

    async def _announce(self, conn: Connection, trace_of: Mapping[str, str | None], *, now: datetime) -> None:
        acts = [Act(member_id=member_id, by=_BY, act="registered") for member_id in trace_of]
        await store.insert_records(conn, acts, now=now)
        events = [
            self.tools.stamp(
                UserRegistered(member_id=member_id, source="enrolment", registered_at=now),
                now=now,
                traceparent=traceparent,
            )
            for member_id, traceparent in trace_of.items()
        ]
        await append(conn, events)
