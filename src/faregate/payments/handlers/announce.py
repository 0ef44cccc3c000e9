"""The events of payments, as they follow from what was decided and done."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from faregate.events.base import PublishedEvent
from faregate.events.payments import PaymentAuthorised, PaymentDeclined, PaymentFlagged
from faregate.payments.contracts.payments import PaymentStatus
from faregate.payments.store.payments import NewPayment

_NO_REASON: Final = "SCORED"
"""The scorer said what to do and gave no reason."""


def decided_events(new: NewPayment, *, now: datetime) -> Iterator[PublishedEvent]:
    """Yield what a decision announces."""
    attempt = new.attempt
    facts: dict[str, Any] = {
        "payment_id": new.id,
        "member_id": attempt.member_id,
        "amount_minor": attempt.amount_minor,
        "currency": attempt.currency,
        "merchant_category": attempt.merchant_category,
        "merchant": attempt.merchant,
        "card_token": attempt.card_token,
        "channel": attempt.channel.value,
        "country": attempt.country,
        "terminal_id": attempt.terminal_id,
        "device_id": attempt.device_id,
        "ip_token": attempt.ip_token,
    }
    codes = tuple(reason["code"] for reason in new.decision["reasons"]) or (_NO_REASON,)
    # Features order a payment by when it was tried, which is also what the scorer was told.
    if new.status is PaymentStatus.DECLINED:
        yield PaymentDeclined(**facts, reasons=codes, declined_at=attempt.occurred_at)
        return
    yield PaymentAuthorised(**facts, authorised_at=attempt.occurred_at)
    if new.is_flagged:
        yield PaymentFlagged(payment_id=new.id, reasons=codes, flagged_at=now)
