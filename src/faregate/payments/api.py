"""The door to the payments context: cards, payments, and the policy that decides when the scorer cannot.

Functions that take a connection join its transaction. Do not import other modules of this context from outside.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from faregate.infra.database import Database
from faregate.infra.http.idempotency_store import Attempt as KeyAttempt
from faregate.payments.contracts.cards import Card, CardRecordEntry
from faregate.payments.contracts.payments import Attempt, Degraded, Payment
from faregate.payments.domain.cards import checked_number
from faregate.payments.handlers.acts import PaymentActs
from faregate.payments.handlers.answers import METHOD, ROUTE, payment_document
from faregate.payments.handlers.authorise import Answer, Authoriser, Draft, Looker, PaymentExists, Writer
from faregate.payments.handlers.cards import CardDesk
from faregate.payments.handlers.issuing import Issuer
from faregate.payments.handlers.policies import PolicyDesk, publish_first_policy
from faregate.payments.handlers.tools import Tools
from faregate.payments.handlers.watch import Watch
from faregate.payments.store import cards as card_store
from faregate.payments.store import payments as store


@dataclass(frozen=True, kw_only=True)
class PaymentsApi:
    """Everything that others may ask of payments. `by` says who acts, for the record: `client:acme`, `operator`."""

    database: Database
    authoriser: Authoriser
    acts: PaymentActs
    desk: CardDesk
    policy: PolicyDesk

    async def authorise(self, key: KeyAttempt, attempt: Attempt) -> Answer:
        """Decide a payment once a key, within the hard time of the scorer; written with whatever else arrives."""
        return await self.authoriser(key, attempt)

    async def token_of(self, card_number: str) -> str | None:
        """Return the token of the card that has a number, None if there is none. Raises CardNumberInvalid."""
        return await self.desk.find(self.database, checked_number(card_number))

    async def payment(self, payment_id: str, *, client_id: str | None) -> Payment:
        """Return a client's payment; any client's for None. Raises PaymentNotFound."""
        async with self.database.connection() as conn:
            return await store.payment(conn, payment_id, client_id=client_id)

    async def payments(
        self,
        *,
        card_token: str | None = None,
        member_id: str | None = None,
        flagged: bool = False,
        limit: int = 50,
    ) -> Sequence[Payment]:
        """Return the newest payments."""
        async with self.database.connection() as conn:
            return await store.newest(
                conn, card_token=card_token, member_id=member_id, flagged=flagged, limit=limit
            )

    async def card(self, token: str) -> Card:
        """Return a card. Raises CardNotFound."""
        async with self.database.connection() as conn:
            return await card_store.card(conn, token)

    async def cards(self, member_id: str | None = None, *, limit: int = 50) -> Sequence[Card]:
        """Return a member's cards, the newest of all if none is named."""
        async with self.database.connection() as conn:
            return await card_store.cards_of(conn, member_id, limit=limit)

    async def paying_card(self, member_id: str, currency: str) -> str | None:
        """Return the token of the card with which a member pays in a currency, None if there is none."""
        async with self.database.connection() as conn:
            return await card_store.paying_card(conn, member_id, currency)

    async def card_record(self, token: str) -> Sequence[CardRecordEntry]:
        """Return what was done to a card, oldest first."""
        async with self.database.connection() as conn:
            return await card_store.record_of(conn, token)

    async def degraded(self, since: datetime, *, limit: int) -> Sequence[Degraded]:
        """Return decisions that were made without a whole answer of the scorer, oldest first."""
        async with self.database.connection() as conn:
            return await store.degraded_since(conn, since, limit=limit)

    async def degraded_counts(self, since: datetime) -> Sequence[Mapping[str, Any]]:
        """Return how many of them there are by cell, action, outcome and how the call ended."""
        async with self.database.connection() as conn:
            return await store.degraded_counts(conn, since)


__all__ = [
    "METHOD",
    "ROUTE",
    "Answer",
    "Authoriser",
    "CardDesk",
    "Draft",
    "Issuer",
    "Looker",
    "PaymentActs",
    "PaymentExists",
    "PaymentsApi",
    "PolicyDesk",
    "Tools",
    "Watch",
    "Writer",
    "payment_document",
    "publish_first_policy",
]
