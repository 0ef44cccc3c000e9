"""Travel as clients use it, the pools that call its partners, and what its runs need of the ledger and of members."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Mapping
from datetime import timedelta
from uuid import uuid4

from faregate.entrypoints.bootstrap.cash import cash_desk
from faregate.entrypoints.bootstrap.gateway import NAME
from faregate.entrypoints.bootstrap.partners import partner_declarations, partners
from faregate.entrypoints.bootstrap.process import GATHER_S, Opened, Process, instance
from faregate.entrypoints.bootstrap.providers import provider_session
from faregate.entrypoints.bootstrap.site import key_rings, tools
from faregate.entrypoints.bootstrap.transfers import transfer_counter, transfer_desk
from faregate.entrypoints.bootstrap.travel_needs import LedgerExchange, LedgerPoints, ledger, travellers
from faregate.gateway.book import PolicyBook
from faregate.gateway.control import Control
from faregate.gateway.policy import Policies, Route
from faregate.gateway.poller import Intervals
from faregate.gateway.pool import PoolOptions, ProviderPool
from faregate.gateway.recorder import Recorder
from faregate.gateway.scout import SCOUTED, Scout
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
from faregate.travel.api import Money, PartnerHooks, Redeeming, SagaDesk, Tools, TravelApi
from faregate.travel.contracts.partners import Partner
from faregate.travel.domain.course import Terms
from faregate.travel.workflows import redemption_workflow

CONNECTIONS_MAX = 8
_INTERVALS = Intervals(busy_s=GATHER_S, idle_s=0.05)


async def known_partners(process: Process) -> Mapping[str, Partner]:
    """Return the adapter of each partner; each has connections of its own."""
    made = {}
    for name, make in partners(process.site.settings).items():
        made[name] = make(await provider_session(process.stack))
    return made


async def travel_api(process: Process, *, database: Database) -> TravelApi:
    """Open what clients use."""
    settings = process.site.settings
    return TravelApi(
        database=database,
        counter=transfer_counter(settings, tools=travel_tools(settings)),
        redeeming=Redeeming(
            desk=saga_desk(settings, await process.once(known_partners)),
            partners=await process.once(known_partners),
            members=await travellers(process),
            point_micro_minor=settings.travel_point_value_micro_minor,
            decide_within=timedelta(seconds=settings.travel_decide_s),
        ),
    )


async def redemptions(process: Process) -> Workflow:
    """Return the workflow of redemptions, for the engine of this process."""
    database = await process.database("travel", connections_max=CONNECTIONS_MAX)
    return redemption_workflow(
        desk=saga_desk(process.site.settings, await process.once(known_partners)),
        money=Money(points=LedgerPoints(await ledger(process)), payments=await cash_desk(process)),
        database=database,
        working_max=process.site.settings.working_steps_max,
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
    pools = [
        ProviderPool(
            adapter=partner,
            database=database,
            hooks=hooks,
            policies=rules,
            recorder=recorder,
            holder=f"{socket.gethostname()}:{os.getpid()}",
            chance=random.random,
            new_token=uuid4,
            gate=control.gate(name),
            options=PoolOptions(intervals=SCOUTED),
        )
        for name, partner in known.items()
    ]
    scout = Scout(database=database, pools=pools, intervals=_INTERVALS)
    transfers = transfer_desk(
        database,
        LedgerExchange(await ledger(process)),
        settings=site.settings,
        tools=travel_tools(site.settings),
    )
    return Opened(
        loops={
            **{f"partner.{pool.provider}": pool.run for pool in pools},
            "partners.scout": scout.run,
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
