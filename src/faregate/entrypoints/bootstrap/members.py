"""The members context as others ask it, and what tells it who an applicant is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from faregate.credit.api import ApplicantApi
from faregate.entrypoints.bootstrap.site import Site, identity_vault, key_rings
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.security.blind_index import BlindIndex
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.settings import Settings
from faregate.members.api import Enroller, HouseholdDesk, MemberDesk, MembersApi, MemberVault, Tools
from faregate.members.contracts import Applicant

CONNECTIONS_MAX = 8


async def members_api(stack: AsyncExitStack, site: Site) -> MembersApi:
    """Open what operators use."""
    database = await site.database(stack, "members", connections_max=CONNECTIONS_MAX)
    return members_on(database, site.settings)


def members_on(database: Database, settings: Settings) -> MembersApi:
    """Return the members context on its own database."""
    tools = _tools()
    desk = MemberDesk(tools=tools, vault=_vault(settings), households=HouseholdDesk(tools=tools))
    return MembersApi(database=database, desk=desk)


def enroller_on(settings: Settings, *, applications: Database) -> Enroller:
    """Return what enrols; `applications` is credit's own database, in which nobody else may look."""
    applicants = CreditApplicants(ApplicantApi(database=applications, vault=identity_vault(settings)))
    return Enroller(tools=_tools(), vault=_vault(settings), applicants=applicants)


@dataclass(frozen=True, slots=True)
class CreditApplicants:
    """Asks credit who is behind approved applications."""

    credit: ApplicantApi

    async def approved(self, application_ids: Sequence[str]) -> Mapping[str, Applicant]:
        """Return the applicant of each of these applications that is approved now, by application."""
        found = await self.credit.approved(application_ids)
        return {
            application_id: Applicant(
                applicant_id=person.applicant_id,
                name=person.identity.legal_name,
                date_of_birth=person.identity.dob,
            )
            for application_id, person in found.items()
        }


def _tools() -> Tools:
    return Tools(clock=SystemClock(), random_bytes=os.urandom)


def _vault(settings: Settings) -> MemberVault:
    rings = key_rings(settings)
    return MemberVault(
        cipher=FieldCipher(ring=rings["encryption"]), index=BlindIndex(ring=rings["blind_index"])
    )
