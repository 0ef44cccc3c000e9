"""What happens to a payment after its authorisation: capture, reversal, refund, and the end of what nobody captured."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from faregate.events.base import PublishedEvent
from faregate.events.payments import PaymentCaptured, PaymentRefunded, PaymentReversed
from faregate.infra.database import Connection, Database
from faregate.infra.eventlog import append
from faregate.payments.contracts.payments import Payment
from faregate.payments.domain import lifecycle
from faregate.payments.domain.lifecycle import Standing
from faregate.payments.handlers.tools import Tools
from faregate.payments.store import cards as card_store
from faregate.payments.store import payments as store

SWEEP_MAX: Final = 200
"""So many expired authorisations are reversed in one transaction."""


@dataclass(frozen=True, kw_only=True)
class PaymentActs:
    """Acts on payments, in the caller's transaction. A `client_id` of None acts as the operator, who sees all."""

    tools: Tools

    async def capture(
        self, conn: Connection, payment_id: str, *, amount_minor: int | None, client_id: str | None
    ) -> Payment:
        """Take what is authorised, or a part of it; the rest is released.

        Raises PaymentNotFound, PaymentNotAuthorised, AuthorisationExpired or CaptureTooLarge.
        """
        found, now = await self._locked(conn, payment_id, client_id), self.tools.clock.now()
        after = lifecycle.captured(store.standing_of(found), amount_minor=amount_minor, now=now)
        await self._release(conn, found, amount_minor=found.amount_minor - after.captured_minor)
        event = PaymentCaptured(payment_id=found.id, amount_minor=after.captured_minor, captured_at=now)
        return await self._save(conn, found, after, event, now=now)

    async def reverse(self, conn: Connection, payment_id: str, *, client_id: str | None) -> Payment:
        """Withdraw an authorisation. Raises PaymentNotFound or PaymentNotAuthorised."""
        return await self._reverse(conn, await self._locked(conn, payment_id, client_id))

    async def refund(
        self, conn: Connection, payment_id: str, *, amount_minor: int, client_id: str | None, by: str
    ) -> tuple[Payment, str]:
        """Give captured money back; return the payment and the id of what was given back.

        Raises PaymentNotFound, PaymentNotCaptured or RefundTooLarge.
        """
        found, now = await self._locked(conn, payment_id, client_id), self.tools.clock.now()
        after = lifecycle.refunded(store.standing_of(found), amount_minor=amount_minor)
        refund_id = self.tools.new_id("ref", now=now)
        await store.insert_refund(conn, refund_id, found.id, amount_minor=amount_minor, by=by, now=now)
        event = PaymentRefunded(
            payment_id=found.id, refund_id=refund_id, amount_minor=amount_minor, refunded_at=now
        )
        return await self._save(conn, found, after, event, now=now), refund_id

    async def reverse_expired(self, database: Database) -> int:
        """Withdraw every authorisation whose time is over; return how many there were."""
        total = 0
        while True:
            async with database.transaction() as conn:
                due = await store.expired(conn, now=self.tools.clock.now(), limit=SWEEP_MAX)
                for found in due:
                    await self._reverse(conn, found)
            total += len(due)
            if len(due) < SWEEP_MAX:
                return total

    async def _reverse(self, conn: Connection, found: Payment) -> Payment:
        now = self.tools.clock.now()
        after = lifecycle.reversed_(store.standing_of(found))
        await self._release(conn, found, amount_minor=found.amount_minor)
        event = PaymentReversed(payment_id=found.id, reversed_at=now)
        return await self._save(conn, found, after, event, now=now)

    async def _locked(self, conn: Connection, payment_id: str, client_id: str | None) -> Payment:
        return await store.payment(conn, payment_id, client_id=client_id, is_locked=True)

    async def _release(self, conn: Connection, found: Payment, *, amount_minor: int) -> None:
        """Give the limit of the day on which it was authorised back what is not paid."""
        if found.card_token is not None and amount_minor:
            await card_store.give_back(
                conn,
                found.card_token,
                found.currency,
                amount_minor=amount_minor,
                day=found.decided_at.date(),
            )

    async def _save(
        self, conn: Connection, found: Payment, after: Standing, event: PublishedEvent, *, now: datetime
    ) -> Payment:
        await store.save_standing(conn, found.id, after, now=now)
        await append(conn, [self.tools.stamp(event, now=now)])
        return replace(
            found,
            status=after.status,
            captured_minor=after.captured_minor,
            refunded_minor=after.refunded_minor,
            updated_at=now,
        )
