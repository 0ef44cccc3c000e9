"""Travel partners for tests: each adapter beside its twin in the sandbox, and what its twin really booked."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import aiohttp
from aiohttp import web
from aiohttp.test_utils import TestServer
from pydantic import SecretStr
from yarl import URL

from faregate.entrypoints.bootstrap.partners import partners
from faregate.gateway.contracts import ProviderRequest
from faregate.gateway.intent import provider_request_id
from faregate.infra.settings import Settings
from faregate.kernel.outcome import Done, Outcome
from faregate.sandbox.faults import Fault
from faregate.travel.contracts.partners import Act, Offer, Partner, SearchQuery, TravelKind
from faregate.travel.domain.references import read_request_id, subject_of
from tests.sandbox import CREDENTIALS, Sandbox

_numbers = itertools.count(1)
TRAVELLER = {"name": "Ada Byron", "date_of_birth": "1985-12-10"}


def partner_settings(sandbox_url: str) -> Settings:
    """Return settings under which the partners are those of a sandbox."""
    host, port = sandbox_url.removeprefix("http://").split(":")
    return Settings(
        _env_file=None,  # type: ignore[call-arg]
        sandbox_host=host,
        sandbox_port=int(port),
        airline_a_token=SecretStr(CREDENTIALS.airline_a_token),
        airline_b_secret=SecretStr(CREDENTIALS.airline_b_secret),
        hotel_c_key=SecretStr(CREDENTIALS.hotel_c_key),
        hotel_c_secret=SecretStr(CREDENTIALS.hotel_c_secret),
        hotel_d_key=SecretStr(CREDENTIALS.hotel_d_key),
    )


@asynccontextmanager
async def passing_on(
    sandbox: Sandbox, change: Callable[[int, bytes], tuple[int, bytes]]
) -> AsyncIterator[str]:
    """Serve what passes every request on to the sandbox, and answers something else."""

    async def passed_on(request: web.Request) -> web.Response:
        async with sandbox.session.request(
            request.method,
            URL(sandbox.url + request.path_qs, encoded=True),
            headers=request.headers,
            data=await request.read(),
        ) as answer:
            status, body = change(answer.status, await answer.read())
            return web.Response(status=status, body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", passed_on)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/")


@dataclass
class Stand:
    """One partner: its adapter, and one booking at a time under a redemption of its own."""

    name: str
    adapter: Partner
    sandbox: Sandbox
    redemption: str = field(default_factory=lambda: f"rdm_{next(_numbers)}")
    made: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def at(cls, name: str, sandbox: Sandbox, session: aiohttp.ClientSession, *, by: str = "") -> Stand:
        """Return a stand at a partner of a sandbox, asked `by` another address if need be."""
        return cls(name, partners(partner_settings(by or sandbox.url))[name](session), sandbox)

    def query(self) -> SearchQuery:
        flies = self.adapter.about.kind is TravelKind.FLIGHT
        return SearchQuery(
            kind=self.adapter.about.kind,
            origin="JFK" if flies else "",
            destination="ZRH",
            on=date(2027, 3, 1),
            until=None if flies else date(2027, 3, 4),
        )

    async def offers(self) -> Sequence[Offer]:
        return await self.adapter.search(self.query(), timeout_s=5)

    async def offer(self, *, holdable: bool) -> Offer:
        return next(one for one in await self.offers() if one.is_holdable is holdable)

    def request(
        self, act: Act, *, offer: Offer, attempt: int = 1, number: int = 1, **changes: Any
    ) -> ProviderRequest:
        """Return what the gateway hands over for an act about the booking that was made."""
        is_new = act in (Act.PLACE, Act.BOOK)
        subject = subject_of(
            redemption=self.redemption, leg=1, act=act, number=number, booking="" if is_new else self.made
        )
        id_ = provider_request_id(subject_id=subject, provider=self.name, attempt=attempt)
        return ProviderRequest(
            provider_request_id=id_,
            subject={
                "act": act.value,
                "reference": read_request_id(id_).booking,
                "offer_id": offer.offer_id,
                "booking_id": self.facts.get("booking_id"),
                "price_minor": offer.price_minor,
                "penalty_minor": offer.price_minor,
                "currency": offer.currency,
                "traveller": TRAVELLER,
                **changes,
            },
        )

    async def do(self, act: Act, *, offer: Offer, timeout_s: float = 8, **of: Any) -> tuple[Outcome, str]:
        """Do an act; return its outcome and the id of the request."""
        request = self.request(act, offer=offer, **of)
        outcome = await self.adapter.submit(request, timeout_s=timeout_s)
        if isinstance(outcome, Done) and act in (Act.PLACE, Act.BOOK):
            self.made = read_request_id(request.provider_request_id).booking
            self.facts = outcome.payload
        return outcome, request.provider_request_id

    async def look_up(self, request_id: str) -> Outcome:
        return await self.adapter.look_up(request_id, timeout_s=5)

    async def prepare(self, act: Act) -> Offer:
        """Bring a booking to where an act is about it; return its offer."""
        holdable = self.adapter.about.is_holdable and act is not Act.BOOK
        offer = await self.offer(holdable=holdable)
        if act in (Act.CONFIRM, Act.RELEASE):
            await self.do(Act.PLACE, offer=offer)
        elif act is Act.CANCEL:
            await self.do(Act.PLACE if holdable else Act.BOOK, offer=offer)
            if holdable:
                await self.do(Act.CONFIRM, offer=offer)
        return offer

    async def booked(self) -> list[dict[str, Any]]:
        """Return what the partner really has under this redemption."""
        found = await self.sandbox.get("/admin/bookings", redemption=self.redemption)
        return list(found["bookings"])

    async def states(self) -> list[str]:
        return [booking["state"] for booking in await self.booked()]

    async def script(self, fault: Fault, *, times: int = 1, reference: str | None = None) -> None:
        await self.sandbox.script(self.name, fault, times=times, reference=reference)
