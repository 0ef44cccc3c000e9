"""What travel needs of the points ledger and of members, wherever these are: in this process or in others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import ceil
from typing import Final, Protocol

from faregate.entrypoints.bootstrap.apart import ApartSession, LedgerOverHttp, TravellersOverHttp
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.providers import provider_session
from faregate.infra.settings import Settings
from faregate.kernel.errors import InvalidError
from faregate.members.api import MembersApi
from faregate.members.contracts import MemberStatus
from faregate.members.domain.status import MemberNotFound
from faregate.points.contracts.ledger import (
    Answer,
    Extend,
    Hold,
    Operation,
    Post,
    Refusal,
    Request,
    Reverse,
    Void,
)
from faregate.travel.contracts.redemptions import Came, Members, Traveller

CLIENT: Final = "travel"
"""Who asks. The ledger keeps the keys of each client apart, so they are the same in one process and in many."""
_BY: Final = f"client:{CLIENT}"
_ALREADY_FREE: Final = frozenset({Refusal.HOLD_EXPIRED, Refusal.ALREADY_VOIDED})


class LedgerAnsweredOtherwise(RuntimeError):
    """A key of ours stands for something else in the ledger: a defect, and nothing was done."""


class ApartIncomplete(InvalidError):
    """Only a part of what it takes to ask another process is configured."""


class Ledger(Protocol):
    """The points ledger. Keys are those of the client that travel is."""

    async def submit(self, request: Request) -> Answer:
        """Carry out an operation, or return what came of it before."""
        ...

    async def convert(self, *, key: str, by: str, member_id: str, amount: int, partner: str) -> Answer:
        """Turn points into a partner's units. Raises PartnerUnknown or LessThanOneBlock."""
        ...


async def ledger(process: Process) -> Ledger:
    """Return the ledger: over HTTP if it is configured to be elsewhere, else in this process."""
    url = process.site.settings.points_url
    if url is not None:
        return LedgerOverHttp(await process.once(apart_session), base_url=url, client=CLIENT)
    return await points_api(process.stack, process.site, database=await process.database("points"))


async def travellers(process: Process) -> Members:
    """Return what knows members: over HTTP if it is configured to be elsewhere, else in this process."""
    settings = process.site.settings
    if settings.members_url is not None:
        return TravellersOverHttp(await process.once(apart_session), base_url=settings.members_url)
    return MembersWhoTravel(members_on(await process.database("members", connections_max=2), settings))


async def apart_session(process: Process) -> ApartSession:
    """Open the connections to our other processes. Raises ApartIncomplete."""
    key = process.site.settings.travel_key
    if key is None:
        raise ApartIncomplete(
            "FAREGATE_POINTS_URL, FAREGATE_MEMBERS_URL and FAREGATE_PAYMENTS_URL need FAREGATE_TRAVEL_KEY: make one "
            f"with `faregate keys create {CLIENT} --scope points:write --scope members:read "
            "--scope payments:authorise --scope payments:write`"
        )
    return ApartSession(session=await provider_session(process.stack), key=key.get_secret_value())


def parts_apart(settings: Settings) -> tuple[str, ...]:
    """Return the parts that travel asks over HTTP."""
    urls = {
        "members": settings.members_url,
        "payments": settings.payments_url,
        "points": settings.points_url,
    }
    return tuple(part for part, url in urls.items() if url is not None)


@dataclass(frozen=True, slots=True)
class LedgerPoints:
    """The points ledger as a redemption uses it."""

    ledger: Ledger

    async def hold(self, *, key: str, member_id: str, amount: int, lasts: timedelta, reference: str) -> Came:
        """Reserve points."""
        asked = Hold(
            key=_own(key),
            by=_BY,
            member_id=member_id,
            amount=amount,
            expires_in_s=_seconds(lasts),
            reference=reference,
        )
        return await self._came(
            asked, lambda done: {"hold": done.no, "amount": amount, "expires_at": _end(done, lasts)}
        )

    async def extend(self, *, key: str, hold: int, lasts: timedelta) -> Came:
        """Let a hold last longer."""
        asked = Extend(key=_own(key), by=_BY, subject=hold, expires_in_s=_seconds(lasts))
        return await self._came(asked, lambda done: {"expires_at": _end(done, lasts)})

    async def post(self, *, key: str, hold: int) -> Came:
        """Spend what is held."""
        asked = Post(key=_own(key), by=_BY, subject=hold)
        return await self._came(asked, lambda done: {"operation": done.no, "amount": done.amount})

    async def void(self, *, key: str, hold: int) -> Came:
        """Release what is held, if it is held still."""
        came = await self._came(Void(key=_own(key), by=_BY, subject=hold), lambda _: {})
        return Came() if came.refusal in _ALREADY_FREE else came

    async def refund(self, *, key: str, operation: int, amount: int) -> Came:
        """Give points of a posted hold back."""
        asked = Reverse(
            key=_own(key), by=_BY, subject=operation, amount=amount, reason="redemption_cancelled"
        )
        return await self._came(asked, lambda _: {"amount": amount})

    async def _came(self, asked: Request, facts: Callable[[Operation], Mapping[str, object]]) -> Came:
        answer = await self.ledger.submit(asked)
        if not isinstance(answer, Operation):
            raise LedgerAnsweredOtherwise(f"{answer.key}: {answer.field} differs")
        if answer.refusal is not None:
            return Came(refusal=answer.refusal.value)
        return Came(facts=facts(answer))


@dataclass(frozen=True, slots=True)
class LedgerExchange:
    """The points ledger as transfers use it."""

    ledger: Ledger

    async def convert(self, *, key: str, member_id: str, points: int, partner: str) -> Came:
        """Take points in whole blocks."""
        answer = await self.ledger.convert(
            key=_own(key), by=_BY, member_id=member_id, amount=points, partner=partner
        )
        if not isinstance(answer, Operation):
            return Came(refusal="key_reused")
        if answer.refusal is not None:
            return Came(refusal=answer.refusal.value)
        return Came(facts={"operation": answer.no, "points": answer.amount, "units": answer.gives})

    async def give_back(self, *, key: str, operation: int) -> Came:
        """Give the points of a conversion back."""
        asked = Reverse(key=_own(key), by=_BY, subject=operation, reason="rejected_by_partner")
        answer = await self.ledger.submit(asked)
        is_back = isinstance(answer, Operation) and answer.refusal in (None, Refusal.ALREADY_REVERSED)
        return Came() if is_back else Came(refusal="not_given_back")


@dataclass(frozen=True, slots=True)
class MembersWhoTravel:
    """Members as travel asks about them, in this process."""

    members: MembersApi

    async def traveller(self, member_id: str) -> Traveller | None:
        """Return in whose name an active member travels."""
        try:
            member = await self.members.get(member_id)
        except MemberNotFound:
            return None
        if member.status is not MemberStatus.ACTIVE or not member.profile.name:
            return None
        return Traveller(name=member.profile.name, date_of_birth=member.profile.date_of_birth)


def _own(key: str) -> str:
    return f"{CLIENT}:{key}"


def _seconds(lasts: timedelta) -> int:
    return max(1, ceil(lasts.total_seconds()))


def _end(done: Operation, lasts: timedelta) -> str:
    end: datetime = done.at + timedelta(seconds=_seconds(lasts))
    return end.isoformat()
