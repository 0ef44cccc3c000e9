"""Issuing: an approved application leads to one card, once its applicant is a member, however often it is told.

What keeps it to one are rows under constraints: an application that was noted, and a card's application. Who became a
member through which application is asked of members, who hear of the same decision by themselves and may be later.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from faregate.infra.database import Connection, Database
from faregate.payments.contracts.cards import Approvals, Holders
from faregate.payments.handlers.cards import CardDesk, product_limits
from faregate.payments.store import cards as store
from faregate.payments.store.cards import IssuedCard

_BY: Final = "issuing"
_BATCH_MAX: Final = 500


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """Issues cards for approved applications."""

    desk: CardDesk
    approvals: Approvals
    holders: Holders
    batch_max: int = _BATCH_MAX

    async def note(self, conn: Connection, traceparents: Mapping[str, str | None]) -> None:
        """Note approved applications, given with the trace of each, and issue what can be issued."""
        await store.insert_issuances(conn, traceparents, now=self.desk.tools.clock.now())
        await self.issue_waiting(conn)

    async def issue_waiting(self, conn: Connection) -> int:
        """Issue a card for each application whose applicant is a member by now; return how many."""
        now = self.desk.tools.clock.now()
        waiting = await store.waiting_issuances(conn, now=now, limit=self.batch_max)
        if not waiting:
            return 0
        products = await self.approvals.products(list(waiting))
        await store.drop_issuances(conn, [one for one in waiting if one not in products])
        members = await self.holders.members_of(list(products))
        await store.postpone_issuances(conn, [one for one in products if one not in members], now=now)
        new = [
            IssuedCard(
                token=self.desk.tools.new_id("crd", now=now),
                member_id=members[application_id],
                application_id=application_id,
                product=product,
                limits=product_limits(product),
            )
            for application_id, product in products.items()
            if application_id in members
        ]
        if not new:
            return 0
        added = await self.desk.add(conn, new, traceparents=waiting, by=_BY)
        await store.save_issuances(conn, [card.application_id for card in new if card.application_id])
        return len(added)

    async def sweep(self, database: Database) -> int:
        """Issue what waits, for whoever became a member without a word to us; return how many."""
        async with database.transaction() as conn:
            return await self.issue_waiting(conn)
