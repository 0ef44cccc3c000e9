"""Payments as clients use them, and what is due of cards and authorisations by itself."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Final

import aiohttp

from faregate.credit.api import ApplicantApi
from faregate.entrypoints.bootstrap.members import CONNECTIONS_MAX as MEMBERS_CONNECTIONS_MAX
from faregate.entrypoints.bootstrap.members import members_on
from faregate.entrypoints.bootstrap.own_key import own_token
from faregate.entrypoints.bootstrap.process import Opened, Process
from faregate.entrypoints.bootstrap.site import Site, identity_vault, key_rings
from faregate.infra.clock import SystemClock
from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Database
from faregate.infra.periodic import run_periodically
from faregate.infra.security.blind_index import BlindIndex
from faregate.infra.settings import Settings
from faregate.infra.telemetry.metrics import Metrics
from faregate.members.api import MembersApi
from faregate.payments.api import (
    Answer,
    Authoriser,
    CardDesk,
    Draft,
    Issuer,
    Looker,
    PaymentActs,
    PaymentsApi,
    PolicyDesk,
    Tools,
    Watch,
    Writer,
    publish_first_policy,
)
from faregate.payments.contracts.scoring import Scorer
from faregate.payments.providers.scorer import HttpScorer

ISSUE_S: Final = 1.0
EXPIRE_S: Final = 30.0
_KEEP_ALIVE_S: Final = 30
"""Shorter than the scorer keeps idle connections: who closes last breaks no request on its way."""


async def payments_api(process: Process) -> PaymentsApi:
    """Open payments, with the scorer that the settings name."""
    scorer = await http_scorer(process.stack, process.site.settings)
    database = await process.database("payments")
    await publish_first_policy(database, clock=SystemClock())
    api, writes = payments_on(database, process.site.settings, scorer=scorer, metrics=process.metrics)
    process.stack.push_async_callback(writes.close)
    return api


async def operators_payments(stack: AsyncExitStack, site: Site) -> PaymentsApi:
    """Open what operators use."""
    database = await site.database(stack, "payments", connections_max=2)
    scorer = await http_scorer(stack, site.settings)
    api, writes = payments_on(database, site.settings, scorer=scorer, metrics=Metrics())
    stack.push_async_callback(writes.close)
    return api


def payments_on(
    database: Database, settings: Settings, *, scorer: Scorer, metrics: Metrics
) -> tuple[PaymentsApi, Coalescer[Draft, Answer]]:
    """Return the payments context on its own database, and its writer, which is closed at the end."""
    own = _tools()
    writes: Coalescer[Draft, Answer] = Coalescer(write=Writer(database=database, tools=own))
    authoriser = Authoriser(
        tools=own,
        scorer=scorer,
        watch=Watch.of(metrics),
        looks=Coalescer(write=Looker(database=database)),
        writes=writes,
    )
    api = PaymentsApi(
        database=database,
        authoriser=authoriser,
        acts=PaymentActs(tools=own),
        desk=card_desk(settings),
        policy=PolicyDesk(database=database, clock=own.clock),
    )
    return api, writes


def card_desk(settings: Settings) -> CardDesk:
    """Return what does things to cards."""
    return CardDesk(tools=_tools(), index=BlindIndex(ring=key_rings(settings)["blind_index"]))


async def http_scorer(stack: AsyncExitStack, settings: Settings) -> HttpScorer:
    """Open the connections to the scorer: that of the settings, else this installation's own API."""
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=_KEEP_ALIVE_S)
    session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))
    return HttpScorer(
        session=session,
        base_url=settings.scorer_url or settings.public_url,
        key=scorer_token(settings),
        deadline_s=settings.scorer_deadline_ms / 1000,
    )


def scorer_token(settings: Settings) -> str:
    """Return the API key that payments have at the scorer."""
    key = settings.scorer_key
    return own_token(settings.home) if key is None else key.get_secret_value()


async def issuer(process: Process) -> Issuer:
    """Return what issues cards for approved applications."""
    settings = process.site.settings
    applicants = ApplicantApi(database=await process.database("credit"), vault=identity_vault(settings))
    members = members_on(await process.database("members", connections_max=MEMBERS_CONNECTIONS_MAX), settings)
    return Issuer(
        desk=card_desk(settings), approvals=CreditApprovals(applicants), holders=EnrolledHolders(members)
    )


async def payments(process: Process) -> Opened:
    """Open the loops that issue what waited for its member, and reverse what nobody captured."""
    database = await process.database("payments")
    issuing, acts = await process.once(issuer), PaymentActs(tools=_tools())

    async def issue() -> None:
        await issuing.sweep(database)

    async def expire() -> None:
        await acts.reverse_expired(database)

    return Opened(
        loops={
            "payments.issuing": lambda stop: run_periodically(
                stop, name="payments.issuing", every_s=ISSUE_S, work=issue
            ),
            "payments.expiry": lambda stop: run_periodically(
                stop, name="payments.expiry", every_s=EXPIRE_S, work=expire
            ),
        }
    )


@dataclass(frozen=True, slots=True)
class CreditApprovals:
    """Asks credit for which products applications are approved."""

    credit: ApplicantApi

    async def products(self, application_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the product of each of these applications that is approved now, by application."""
        return await self.credit.approved_products(application_ids)


@dataclass(frozen=True, slots=True)
class EnrolledHolders:
    """Asks members whom applications led to."""

    members: MembersApi

    async def members_of(self, application_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the member of each of these applications that has one already, by application."""
        return await self.members.enrolled(application_ids)


def _tools() -> Tools:
    return Tools(clock=SystemClock(), random_bytes=os.urandom)
