"""The events of payments, ordered by the payment or card that they are about. Cards and people are surrogate ids."""

from __future__ import annotations

from typing import ClassVar

from pydantic import AwareDatetime, Field

from faregate.events.base import PublishedEvent


class PaymentEvent(PublishedEvent):
    """A fact about one payment."""

    aggregate_type: ClassVar[str] = "payments.payment"
    key: ClassVar[str] = "payment_id"

    payment_id: str = Field(min_length=1, examples=["pay_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class AttemptedPayment(PaymentEvent):
    """What was to be paid, with which card, where and from where.

    `member_id` is that of the card's holder, if there is one; `ip_token` stands for an address, with no way back.
    """

    member_id: str | None
    amount_minor: int = Field(ge=0)
    currency: str = Field(min_length=3, max_length=3, examples=["EUR"])
    merchant_category: int = Field(ge=0, le=9999, examples=[5812])
    merchant: str = Field(examples=["mer_0042"])
    card_token: str | None = Field(default=None, examples=["crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    channel: str | None = Field(default=None, examples=["online"])
    country: str | None = Field(default=None, examples=["DE"])
    terminal_id: str | None = Field(default=None, examples=["ter_0042"])
    device_id: str | None = Field(default=None, examples=["dev_9f8e7d6c"])
    ip_token: str | None = Field(default=None, examples=["ip_3d1f0c9b8a7e6d5c4b3a2918"])


class PaymentAuthorised(AttemptedPayment):
    """A payment was authorised."""

    type: ClassVar[str] = "payments.payment.authorised"

    authorised_at: AwareDatetime


class PaymentDeclined(AttemptedPayment):
    """A payment was declined. It counts in the features of fraud as an authorised one does."""

    type: ClassVar[str] = "payments.payment.declined"

    reasons: tuple[str, ...] = Field(min_length=1, examples=[["SANCTIONED_COUNTRY"]])
    declined_at: AwareDatetime


class PaymentFlagged(PaymentEvent):
    """Somebody should look at a payment: the scorer or the failure policy said so."""

    type: ClassVar[str] = "payments.payment.flagged"

    reasons: tuple[str, ...] = Field(min_length=1, examples=[["SCORER_UNAVAILABLE"]])
    flagged_at: AwareDatetime


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


class CardIssued(PublishedEvent):
    """A card was issued to a member. Its number is in no event."""

    type: ClassVar[str] = "payments.card.issued"
    aggregate_type: ClassVar[str] = "payments.card"
    key: ClassVar[str] = "card_token"

    card_token: str = Field(min_length=1, examples=["crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    member_id: str
    application_id: str | None
    product: str
    issued_at: AwareDatetime


EVENTS: tuple[type[PublishedEvent], ...] = (
    PaymentAuthorised,
    PaymentDeclined,
    PaymentFlagged,
    PaymentCaptured,
    PaymentReversed,
    PaymentRefunded,
    CardIssued,
)
"""Every event of this part."""
