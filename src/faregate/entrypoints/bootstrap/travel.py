"""Travel as clients use it, the pools that call its partners, and what its runs need of the ledger and of members."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from importlib.resources import files
from importlib.resources.abc import Traversable
from math import ceil
from uuid import uuid4

from faregate.entrypoints.bootstrap.gateway import NAME
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.partners import partners
from faregate.entrypoints.bootstrap.points import points_api
from faregate.entrypoints.bootstrap.process import GATHER_S, Opened, Process, instance
from faregate.entrypoints.bootstrap.providers import provider_session
from faregate.entrypoints.bootstrap.site import key_rings, tools
from faregate.entrypoints.bootstrap.transfers import transfer_counter, transfer_desk
from faregate.gateway.book import PolicyBook
from faregate.gateway.control import Control
from faregate.gateway.declarations import Declarations
from faregate.gateway.policy import Policies, Route
from faregate.gateway.poller import Intervals
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.gateway.shared import Shared
from faregate.infra.cache import Cache
from faregate.infra.clock import SystemClock
from faregate.infra.database import Database
from faregate.infra.periodic import run_periodically
from faregate.infra.security.encryption import FieldCipher
from faregate.infra.settings import Settings
from faregate.infra.shared_breakers import SharedBreakers
from faregate.infra.token_bucket import TokenBuckets
from faregate.infra.workflow import Workflow
from faregate.members.api import MembersApi
from faregate.members.contracts import MemberStatus
from faregate.members.domain.status import MemberNotFound
from faregate.points.api import PointsApi
from faregate.points.contracts.ledger import Extend, Hold, Operation, Post, Refusal, Request, Reverse, Void
from faregate.travel.api import Money, PartnerHooks, Redeeming, SagaDesk, Tools, TravelApi
from faregate.travel.contracts.partners import Partner
from faregate.travel.contracts.redemptions import Came, Traveller
from faregate.travel.domain.course import Terms
from faregate.travel.partners.cards import CardDesk
from faregate.travel.workflows import redemption_workflow

CONNECTIONS_MAX = 8
_INTERVALS = Intervals(busy_s=GATHER_S, idle_s=0.05)
_ALREADY_FREE = frozenset({Refusal.HOLD_EXPIRED, Refusal.ALREADY_VOIDED})


class LedgerAnsweredOtherwise(RuntimeError):
    """A key of ours stands for something else in the ledger: a defect, and nothing was done."""


@dataclass(frozen=True, slots=True)
class LedgerPoints:
    """The points ledger as a redemption uses it."""

    ledger: PointsApi

    async def hold(self, *, key: str, member_id: str, amount: int, lasts: timedelta, reference: str) -> Came:
        """Reserve points."""
        asked = Hold(
            key=key,
            by="travel",
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
        asked = Extend(key=key, by="travel", subject=hold, expires_in_s=_seconds(lasts))
        return await self._came(asked, lambda done: {"expires_at": _end(done, lasts)})

    async def post(self, *, key: str, hold: int) -> Came:
        """Spend what is held."""
        asked = Post(key=key, by="travel", subject=hold)
        return await self._came(asked, lambda done: {"operation": done.no, "amount": done.amount})

    async def void(self, *, key: str, hold: int) -> Came:
        """Release what is held, if it is held still."""
        came = await self._came(Void(key=key, by="travel", subject=hold), lambda _: {})
        return Came() if came.refusal in _ALREADY_FREE else came

    async def refund(self, *, key: str, operation: int, amount: int) -> Came:
        """Give points of a posted hold back."""
        asked = Reverse(key=key, by="travel", subject=operation, amount=amount, reason="redemption cancelled")
        return await self._came(asked, lambda _: {"amount": amount})

    async def _came(self, asked: Request, facts: Callable[[Operation], Mapping[str, object]]) -> Came:
        answer = await self.ledger.submit(asked)
        if not isinstance(answer, Operation):
            raise LedgerAnsweredOtherwise(f"{answer.key}: {answer.field} differs")
        if answer.refusal is not None:
            return Came(refusal=answer.refusal.value)
        return Came(facts=facts(answer))


@dataclass(frozen=True, slots=True)
class MembersWhoTravel:
    """Members as travel asks about them."""

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


async def known_partners(process: Process) -> Mapping[str, Partner]:
    """Return the adapter of each partner; each has connections of its own."""
    made = {}
    for name, make in partners(process.site.settings).items():
        made[name] = make(await provider_session(process.stack))
    return made


async def travel_api(process: Process, *, database: Database) -> TravelApi:
    """Open what clients use."""
    settings = process.site.settings
    members = members_on(await process.database("members", connections_max=2), settings)
    return TravelApi(
        database=database,
        counter=transfer_counter(settings, tools=travel_tools(settings)),
        redeeming=Redeeming(
            desk=saga_desk(settings, await process.once(known_partners)),
            partners=await process.once(known_partners),
            members=MembersWhoTravel(members),
            point_micro_minor=settings.travel_point_value_micro_minor,
            decide_within=timedelta(seconds=settings.travel_decide_s),
        ),
    )


async def redemptions(process: Process) -> Workflow:
    """Return the workflow of redemptions, for the engine of this process."""
    database = await process.database("travel", connections_max=CONNECTIONS_MAX)
    ledger = await points_api(process.stack, process.site, database=await process.database("points"))
    return redemption_workflow(
        desk=saga_desk(process.site.settings, await process.once(known_partners)),
        money=Money(points=LedgerPoints(ledger), payments=await card_desk(process)),
        database=database,
        working_max=process.site.settings.working_steps_max,
    )


async def card_desk(process: Process) -> CardDesk:
    """Return the cash desk, with connections of its own."""
    settings = process.site.settings
    return CardDesk(
        session=await provider_session(process.stack),
        base_url=settings.provider_url("cards"),
        api_key=settings.cards_key.get_secret_value(),
    )


async def partner_pools(process: Process) -> Opened:
    """Open a pool for each partner, and what keeps their gates in step with those of other processes."""
    site, database = process.site, await process.database("travel", connections_max=CONNECTIONS_MAX)
    known = await process.once(known_partners)
    cache = await Cache.open(site.valkey_url)
    process.stack.push_async_callback(cache.close)
    control = Control(
        database=database,
        book=PolicyBook(partner_declarations(site.settings), providers=sorted(known)),
        shared=Shared(
            breakers=SharedBreakers(cache=cache, name=NAME), buckets=TokenBuckets(cache=cache, name=NAME)
        ),
        stamp=tools().stamp,
        process=instance(),
    )
    hooks = PartnerHooks(desk=saga_desk(site.settings, known))
    rules = Policies(
        routes={name: Route(check=name, providers=(name,)) for name in known},
        capabilities={name: partner.capabilities for name, partner in known.items()},
        providers=control.book,
        tells_late_refusals=True,
    )
    recorder = Recorder(database=database, hooks=hooks, pause_s=GATHER_S)
    pools = {
        f"partner.{name}": ProviderPool(
            adapter=partner,
            database=database,
            hooks=hooks,
            policies=rules,
            recorder=recorder,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            chance=random.random,
            new_token=uuid4,
            gate=control.gate(name),
            options=PoolOptions(intervals=_INTERVALS),
        ).run
        for name, partner in known.items()
    }
    ledger = await points_api(process.stack, site, database=await process.database("points"))
    transfers = transfer_desk(database, ledger, settings=site.settings, tools=travel_tools(site.settings))
    return Opened(
        loops={
            **pools,
            "partners.policies": control.run_policies,
            "partners.others": control.run_others,
            "partners.transfers": lambda stop: run_periodically(
                stop, name="partners.transfers", every_s=site.settings.transfer_every_s, work=transfers.turn
            ),
        }
    )


def saga_desk(settings: Settings, known: Mapping[str, Partner]) -> SagaDesk:
    """Return what drives redemptions."""

    def send_within_s(name: str) -> float:
        return max(settings.travel_send_s, 2 * known[name].about.timeout_floor_s)

    own = travel_tools(settings)
    terms = Terms(
        resolve_within=timedelta(seconds=settings.travel_resolve_s),
        answer_within=timedelta(seconds=settings.travel_answer_s),
    )
    return SagaDesk(tools=own, terms=terms, send_within_s=send_within_s)


def travel_tools(settings: Settings) -> Tools:
    """Return the machine's clock and randomness, and what encrypts travellers."""
    ring = key_rings(settings)["encryption"]
    return Tools(clock=SystemClock(), random_bytes=os.urandom, cipher=FieldCipher(ring=ring))


def partner_declarations(settings: Settings) -> Declarations:
    """Read how the partners are to be treated. Raises PolicyInvalid with the line of what is wrong."""
    comes_along = files("faregate.travel") / "artefacts" / "partners.toml"
    source: Traversable = settings.partner_policies or comes_along
    return Declarations(source.read_text(encoding="utf-8"), source=str(source))


def _seconds(lasts: timedelta) -> int:
    return max(1, ceil(lasts.total_seconds()))


def _end(done: Operation, lasts: timedelta) -> str:
    end: datetime = done.at + timedelta(seconds=_seconds(lasts))
    return end.isoformat()
