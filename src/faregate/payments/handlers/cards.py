"""Cards: issued to members, found by their number, blocked, closed, given limits and a number.

A number is turned into a keyed hash at once. It is in no row, event, log or answer; whoever makes one sees it once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any, Final

from faregate.events.payments import CardIssued
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.infra.security import blind_index
from faregate.infra.security.blind_index import BlindIndex
from faregate.payments.contracts.cards import Card, CardAct, CardNumber, Limit, NewCard
from faregate.payments.domain.cards import check_limits, check_new, made_number, status_after
from faregate.payments.handlers.tools import Tools
from faregate.payments.store import cards as store
from faregate.payments.store.cards import CardEntry, IssuedCard

_ANY: Final = "*"
_NUMBER_BYTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class CardDesk:
    """Does what is asked of cards, in the caller's transaction. `by` says who acts: `client:acme`, `operator`."""

    tools: Tools
    index: BlindIndex

    async def find(self, database: Database, number: CardNumber) -> str | None:
        """Return the token of the card that has a number, None if there is none.

        A number that is found under an older key is kept under the present one from now on.
        """
        current, *older = self.index.candidates(blind_index.CardNumber(number.digits))
        async with database.transaction() as conn:
            found = await store.find(conn, [current, *older])
            if found is None:
                return None
            token, key_id = found
            if key_id != current.key_id:
                await store.rehash(conn, token, old_key_id=key_id, new=current)
        return token

    async def issue(self, conn: Connection, new: NewCard, *, by: str) -> Card:
        """Issue a card. Raises CardInvalid or LimitsInvalid."""
        check_new(new)
        limits = product_limits(new.product) if new.limits is None else new.limits
        check_limits(limits)
        now = self.tools.clock.now()
        token = self.tools.new_id("crd", now=now)
        card = IssuedCard(
            token=token,
            member_id=new.member_id,
            application_id=new.application_id,
            product=new.product,
            limits=limits,
        )
        await self.add(conn, [card], traceparents={}, by=by)
        return await store.card(conn, token)

    async def add(
        self,
        conn: Connection,
        new: Sequence[IssuedCard],
        *,
        traceparents: Mapping[str, str | None],
        by: str,
    ) -> frozenset[str]:
        """Add cards and announce them; one of an application that has its card already is passed over."""
        now = self.tools.clock.now()
        added = await store.insert_cards(conn, new, now=now)
        issued = [card for card in new if card.token in added]
        await store.insert_records(
            conn, [CardEntry(card_token=card.token, by=by, act="issued") for card in issued], now=now
        )
        events = [
            self.tools.stamp(
                CardIssued(
                    card_token=card.token,
                    member_id=card.member_id,
                    application_id=card.application_id,
                    product=card.product,
                    issued_at=now,
                ),
                now=now,
                traceparent=traceparents.get(card.application_id or ""),
            )
            for card in issued
        ]
        await append(conn, events)
        return added

    async def set_status(self, conn: Connection, token: str, act: CardAct, *, reason: str, by: str) -> Card:
        """Block, unblock or close a card. Raises CardNotFound or CardActRefused."""
        card = await store.card(conn, token, is_locked=True)
        after, now = status_after(card.status, act), self.tools.clock.now()
        await store.save_status(conn, token, after, now=now)
        entry = CardEntry(card_token=token, by=by, act=act.value, details={"reason": reason})
        await store.insert_records(conn, [entry], now=now)
        return await store.card(conn, token)

    async def set_limits(self, conn: Connection, token: str, limits: Sequence[Limit], *, by: str) -> Card:
        """Replace a card's limits. Raises CardNotFound or LimitsInvalid."""
        check_limits(limits)
        await store.card(conn, token, is_locked=True)
        await store.set_limits(conn, token, limits)
        details = {limit.currency: [limit.transaction_minor_max, limit.day_minor_max] for limit in limits}
        entry = CardEntry(card_token=token, by=by, act="limits", details=details)
        await store.insert_records(conn, [entry], now=self.tools.clock.now())
        return await store.card(conn, token)

    async def give_number(self, conn: Connection, token: str, number: CardNumber, *, by: str) -> Card:
        """Give a card its number, or another one. Raises CardNotFound or CardNumberTaken."""
        await store.card(conn, token, is_locked=True)
        digest = self.index.digest(blind_index.CardNumber(number.digits))
        now = self.tools.clock.now()
        await store.save_number(conn, token, digest, last4=number.digits[-4:], now=now)
        await store.insert_records(conn, [CardEntry(card_token=token, by=by, act="number")], now=now)
        return await store.card(conn, token)

    def stand_in(self, digits: str) -> str:
        """Return what stands for a number wherever the number itself must not be kept, not even as a plain hash."""
        return self.index.digest(blind_index.CardNumber(digits)).digest.hex()

    def make_number(self) -> CardNumber:
        """Return a fresh number of the test range, which is kept nowhere."""
        return made_number(self.tools.random_bytes(_NUMBER_BYTES))


def product_limits(product: str) -> Sequence[Limit]:
    """Return the limits of a product's cards; a product that is not named has those of all."""
    text = (files("faregate.payments") / "artefacts" / "products.json").read_text(encoding="utf-8")
    known: dict[str, list[dict[str, Any]]] = json.loads(text)
    return tuple(Limit(**limit) for limit in known.get(product, known[_ANY]))
