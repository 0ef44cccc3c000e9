"""The door to travel: search, redeem, follow, cancel. Do not import other modules of this context from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from faregate.infra.database import Connection, Database
from faregate.kernel.errors import FaregateError
from faregate.travel.contracts.partners import Offer, PartnerCapabilities, SearchQuery
from faregate.travel.contracts.redemptions import NewRedemption, RedemptionView, Traveller
from faregate.travel.contracts.transfers import NewTransfer, TransferView
from faregate.travel.handlers.money import Money
from faregate.travel.handlers.partners import PartnerHooks
from faregate.travel.handlers.reading import view_of
from faregate.travel.handlers.redeem import Redeeming, StayEndsBeforeItBegins
from faregate.travel.handlers.rotation import rotate_keys
from faregate.travel.handlers.saga import MOVED, REDEMPTION_RUN, SagaDesk
from faregate.travel.handlers.tools import Tools
from faregate.travel.handlers.transfers import TransferCounter
from faregate.travel.store import redemptions as store
from faregate.travel.store import transfers

__all__ = [
    "MOVED",
    "REDEMPTION_RUN",
    "Money",
    "PartnerHooks",
    "Redeeming",
    "SagaDesk",
    "Tools",
    "TravelApi",
    "rotate_keys",
]
LIST_MAX = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a search found, the cheapest first, and why partners are missing from it, by name."""

    offers: Sequence[Offer]
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class TravelApi:
    """What members' clients and operators do."""

    database: Database
    redeeming: Redeeming
    counter: TransferCounter

    @property
    def partners(self) -> Sequence[PartnerCapabilities]:
        """Return what each partner can do."""
        return [partner.about for partner in self.redeeming.partners.values()]

    def points_for(self, price_minor: int) -> int:
        """Return what a price is in points."""
        return self.redeeming.points_for(price_minor)

    async def quote(self, partner: str, offer_id: str) -> Offer:
        """Return an offer as it stands now. Raises PartnerNotFound, OfferGone or PartnerUnavailable."""
        return await self.redeeming.quote(partner, offer_id)

    async def search(self, query: SearchQuery, *, member_id: str, within_s: float) -> Found:
        """Ask every partner of the kind at once, and return by the deadline what has come.

        Raises StayEndsBeforeItBegins.
        """
        if query.until is not None and query.until <= query.on:
            raise StayEndsBeforeItBegins("the day of departure is not after that of arrival")
        found = await self._ask_all(query, within_s=within_s)
        async with self.database.transaction() as conn:
            await self.redeeming.announce_search(conn, query, member_id=member_id, offers=len(found.offers))
        return found

    async def _ask_all(self, query: SearchQuery, *, within_s: float) -> Found:
        asked = {
            name: asyncio.ensure_future(partner.search(query, timeout_s=within_s))
            for name, partner in self.redeeming.partners.items()
            if partner.about.kind is query.kind
        }
        if asked:
            await asyncio.wait(asked.values(), timeout=within_s)
        offers: list[Offer] = []
        missing: dict[str, str] = {}
        for name, answer in asked.items():
            if not answer.done():
                answer.cancel()
                missing[name] = "did not answer in time"
            elif (error := answer.exception()) is None:
                offers += answer.result()
            elif isinstance(error, FaregateError):
                missing[name] = error.detail
            else:
                raise error
        await asyncio.gather(*asked.values(), return_exceptions=True)
        return Found(offers=sorted(offers, key=lambda offer: offer.price_minor), missing=missing)

    async def prepare(self, wanted: NewRedemption) -> tuple[Traveller, Sequence[Offer]]:
        """Ask who travels, and what the offers cost now, outside of any transaction.

        Raises MemberMayNotTravel, TripInvalid, PartnerNotFound, OfferGone, PartnerUnavailable or PriceRose.
        """
        return await self.redeeming.prepare(wanted)

    async def begin(
        self, conn: Connection, wanted: NewRedemption, *, traveller: Traveller, offers: Sequence[Offer]
    ) -> str:
        """Begin a redemption that was prepared, and return its id."""
        return await self.redeeming.begin(conn, wanted, traveller=traveller, offers=offers)

    async def get(self, redemption_id: str) -> RedemptionView:
        """Return a redemption with its time line. Raises RedemptionNotFound."""
        async with self.database.connection() as conn:
            return view_of(await store.read(conn, redemption_id))

    async def of_member(
        self, member_id: str, *, before: str | None = None, limit: int = LIST_MAX
    ) -> Sequence[RedemptionView]:
        """Return a member's redemptions, the newest first."""
        async with self.database.connection() as conn:
            rows = await store.of_member(conn, member_id, before=before, limit=limit)
        return [view_of(row, with_steps=False) for row in rows]

    async def under_way(self) -> int:
        """Return how many redemptions have not ended."""
        async with self.database.connection() as conn:
            return await store.under_way(conn)

    async def accounts(self) -> Mapping[str, store.RedemptionAccount]:
        """Return what each redemption came to, by its id."""
        async with self.database.connection() as conn:
            return await store.accounts(conn)

    async def needing_attention(self, *, limit: int = LIST_MAX) -> Sequence[RedemptionView]:
        """Return the redemptions that wait for a person, those first that wait longest."""
        async with self.database.connection() as conn:
            return [view_of(row) for row in await store.for_people(conn, limit=limit)]

    async def begin_transfer(self, conn: Connection, wanted: NewTransfer) -> str:
        """Note that a member turns points into a partner's units. Raises TransferPartnerNotFound."""
        return await self.counter.begin(conn, wanted)

    async def transfer(self, transfer_id: str) -> TransferView:
        """Return a transfer as it stands. Raises TransferNotFound."""
        async with self.database.connection() as conn:
            return await transfers.read(conn, transfer_id)

    async def answer(
        self, conn: Connection, redemption_id: str, *, leg: int, price_minor: int, is_yes: bool
    ) -> None:
        """Take a member's answer to a new price. Raises RedemptionNotFound or NothingToAnswer."""
        await self.redeeming.answer(conn, redemption_id, leg=leg, price_minor=price_minor, is_yes=is_yes)

    async def cancel(self, conn: Connection, redemption_id: str) -> None:
        """Take a redemption back. Raises RedemptionNotFound or CannotBeCancelled."""
        await self.redeeming.cancel(conn, redemption_id)

    async def try_again(self, conn: Connection, redemption_id: str) -> None:
        """Let what is stuck be tried again. Raises RedemptionNotFound or NothingIsStuck."""
        await self.redeeming.try_again(conn, redemption_id)
