"""The events of payments, ordered by the payment that they are about. Cards and people appear by surrogate id."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent


class PaymentEvent(PublishedEvent):
    """A fact about one payment."""

    aggregate_type: ClassVar[str] = "payments.payment"
    key: ClassVar[str] = "payment_id"

    payment_id: str = Field(min_length=1, examples=["pay_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class PaymentAuthorised(PaymentEvent):
    """A payment was authorised. `member_id` is that of the card's holder, if there is one."""

    type: ClassVar[str] = "payments.payment.authorised"

    member_id: str | None
    amount_minor: int = Field(ge=0)
    currency: str = Field(min_length=3, max_length=3, examples=["EUR"])
    merchant_category: int = Field(ge=0, le=9999, examples=[5812])
    merchant: str = Field(examples=["mer_0042"])
    authorised_at: AwareDatetime


class PaymentCaptured(PaymentEvent):
    """The merchant took what was authorised, or a part of it."""

    type: ClassVar[str] = "payments.payment.captured"

    amount_minor: int = Field(ge=0)
    captured_at: AwareDatetime


class PaymentReversed(PaymentEvent):
    """The authorisation was withdrawn before anything was captured."""

    type: ClassVar[str] = "payments.payment.reversed"

    reversed_at: AwareDatetime


class PaymentRefunded(PaymentEvent):
    """The merchant gave back what was captured, or a part of it."""

    type: ClassVar[str] = "payments.payment.refunded"

    refund_id: str = Field(min_length=1, examples=["ref_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    amount_minor: int = Field(ge=1)
    refunded_at: AwareDatetime


EVENTS: tuple[type[PaymentEvent], ...] = (
    PaymentAuthorised,
    PaymentCaptured,
    PaymentReversed,
    PaymentRefunded,
)
"""Every event of this part."""
