"""What goes over the wire: the bodies of requests and answers, with examples for the documentation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from faregate.infra.http.dates import Instant
from faregate.kernel.currencies import CURRENCIES
from faregate.payments.contracts.cards import Card, CardAct, CardRecordEntry, CardStatus, Limit
from faregate.payments.contracts.payments import AMOUNT_MAX, Attempt, PaymentChannel, PaymentStatus
from faregate.payments.contracts.policy import CellAction, PolicyVersion, ScorerState
from faregate.payments.contracts.scoring import ScorerAction
from faregate.payments.domain.cards import MEMBER_ID_PATTERN, NUMBER_PATTERN, PRODUCT_PATTERN
from faregate.payments.domain.policy import COUNTRY_PATTERN, PaymentPolicyDocument, trial_attempt
from faregate.payments.domain.verdict import Verdict

CARD_TOKEN_PATTERN = r"^crd_[0-9A-Z]{26}$"  # noqa: S105 - the form of a name, not a secret
_WORDS = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,64}$"
_CURRENCIES: dict[str, Any] = {"enum": sorted(CURRENCIES)}

_Id = Annotated[str, StringConstraints(pattern=_WORDS)]
_Amount = Annotated[int, Field(ge=0, le=AMOUNT_MAX)]
_Reason = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,500}$")]
_Currency = Annotated[str, Field(json_schema_extra=_CURRENCIES)]

ATTEMPT_EXAMPLE = {
    "card_token": "crd_01J3R2J7F1TQ0K6W6N8A4X9V7R",
    "amount_minor": 4_250,
    "currency": "USD",
    "merchant": "mer_0042",
    "merchant_category": 5_812,
    "channel": "online",
    "country": "US",
    "device_id": "dev_9f8e7d6c",
    "ip": "203.0.113.7",
    "occurred_at": "2026-11-26T12:00:00Z",
}
LIMITS_EXAMPLE = {"limits": [{"currency": "USD", "transaction_minor_max": 200_000, "day_minor_max": 500_000}]}


class _Form(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _check_currency(code: str) -> None:
    if code not in CURRENCIES:
        raise ValueError("no active currency of ISO 4217")


class AuthorisationForm(BaseModel):
    """What is to be paid, with which card: its token; or its number, which becomes the token at once; or a member's."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "oneOf": [{"required": [name]} for name in ("card_token", "card_number", "member_id")]
        },
    )

    card_token: str | None = Field(default=None, pattern=CARD_TOKEN_PATTERN)
    card_number: str | None = Field(
        default=None,
        pattern=NUMBER_PATTERN,
        description="Kept nowhere.",
        repr=False,
    )
    member_id: str | None = Field(
        default=None,
        pattern=MEMBER_ID_PATTERN,
        description="Pays with the active card that was issued first and pays in this currency.",
    )
    amount_minor: _Amount = Field(description="In the minor unit of the currency.")
    currency: _Currency
    merchant: _Id
    merchant_category: int = Field(ge=0, le=9_999, description="ISO 18245.")
    channel: PaymentChannel = Field(strict=False)
    country: str = Field(pattern=COUNTRY_PATTERN, description="ISO 3166: where the payment is made.")
    terminal_id: _Id | None = Field(default=None)
    device_id: _Id | None = Field(default=None)
    ip: str | None = Field(
        default=None, min_length=1, max_length=45, description="IPv4 or IPv6; kept nowhere.", repr=False
    )
    occurred_at: Instant | None = Field(
        default=None,
        description="When it was tried, at most a minute ahead; left out: now. Said, a repetition is scored once.",
    )

    @model_validator(mode="after")
    def _one_card(self) -> Self:
        if [self.card_token, self.card_number, self.member_id].count(None) != 2:
            raise ValueError("say one of card_token, card_number and member_id")
        _check_currency(self.currency)
        return self


class PaymentReason(BaseModel):
    """Why, by whom, in words."""

    code: str
    source: Literal["payments", "policy", "rule", "model"]
    text: str


class PolicyUsed(BaseModel):
    """Which version of the policy counted, and the cell that was asked: null if the scorer said all."""

    version: int
    cell: str | None = Field(examples=["everything.middle.unavailable"])


class Scored(BaseModel):
    """What the scorer said, and by what."""

    decision_id: str
    action: ScorerAction
    score: float | None
    ruleset: Mapping[str, Any] | None
    model: Mapping[str, Any] | None
    features: Mapping[str, Any] | None


class AuthorisationAnswer(BaseModel):
    """A payment: what was decided, and how it stands. `degraded` names what the decision had to do without."""

    payment_id: str
    status: PaymentStatus
    card_token: str | None
    member_id: str | None
    amount_minor: int
    currency: str
    captured_minor: int
    refunded_minor: int
    flagged: bool
    reasons: Sequence[PaymentReason]
    message: str | None = Field(description="For the cardholder.")
    degraded: Sequence[str]
    policy: PolicyUsed
    scored: Scored | None
    decided_at: datetime
    expires_at: datetime


class CaptureForm(_Form):
    """How much is taken; left out: all. What is not taken is released."""

    amount_minor: int | None = Field(default=None, ge=1, le=AMOUNT_MAX)


class RefundForm(_Form):
    """How much is given back."""

    amount_minor: int = Field(ge=1, le=AMOUNT_MAX)


class RefundAnswer(BaseModel):
    """What was given back, and the payment as it stands."""

    refund_id: str
    payment: AuthorisationAnswer


class LimitForm(_Form):
    """The most that a card may pay in a currency, at once and in a day (UTC)."""

    currency: _Currency
    transaction_minor_max: _Amount
    day_minor_max: _Amount

    @model_validator(mode="after")
    def _known_currency(self) -> Self:
        _check_currency(self.currency)
        return self

    def limit(self) -> Limit:
        """Return what the form says."""
        return Limit(**self.model_dump())


class CardForm(_Form):
    """A card that is to be issued; left out: the limits of its product. Its number comes by a route of its own."""

    member_id: str = Field(pattern=MEMBER_ID_PATTERN)
    product: str = Field(pattern=PRODUCT_PATTERN, examples=["cashback_card"])
    limits: list[LimitForm] | None = Field(default=None, max_length=50)


class CardNumberForm(_Form):
    """A card's number, which is kept nowhere."""

    card_number: str = Field(pattern=NUMBER_PATTERN, repr=False)


class CardStatusForm(_Form):
    """What is done to a card, and why."""

    act: CardAct = Field(strict=False)
    reason: _Reason


class LimitsForm(_Form):
    """All limits of a card; it does not pay in another currency."""

    limits: list[LimitForm] = Field(max_length=50)


class LimitAnswer(BaseModel):
    """A limit of a card."""

    currency: str
    transaction_minor_max: int
    day_minor_max: int


class CardAnswer(BaseModel):
    """A card. The last four digits are all that is kept of its number."""

    card_token: str
    member_id: str
    application_id: str | None
    product: str
    status: CardStatus
    last4: str | None
    limits: Sequence[LimitAnswer]
    issued_at: datetime
    updated_at: datetime

    @classmethod
    def of(cls, card: Card) -> Self:
        """Return the answer for a card."""
        return cls(
            card_token=card.token,
            member_id=card.member_id,
            application_id=card.application_id,
            product=card.product,
            status=card.status,
            last4=card.last4,
            limits=[LimitAnswer.model_validate(limit, from_attributes=True) for limit in card.limits],
            issued_at=card.issued_at,
            updated_at=card.updated_at,
        )


class CardsAnswer(BaseModel):
    """A member's cards, oldest first."""

    cards: Sequence[CardAnswer]


class CardRecordEntryAnswer(BaseModel):
    """Something that was done to a card."""

    at: datetime
    by: str
    act: str
    details: Mapping[str, Any]

    @classmethod
    def of(cls, entry: CardRecordEntry) -> Self:
        """Return the answer for an entry."""
        return cls.model_validate(entry, from_attributes=True)


class CardRecordAnswer(BaseModel):
    """What was done to a card, oldest first."""

    entries: Sequence[CardRecordEntryAnswer]


class PaymentPolicySetForm(_Form):
    """A whole policy, and why it is set."""

    policy: PaymentPolicyDocument
    reason: _Reason


class PaymentPolicyRollBackForm(_Form):
    """The version that counts again, and why."""

    version: int = Field(ge=1, le=2**31 - 1)
    reason: _Reason


class PaymentPolicyTryForm(_Form):
    """A payment that is not made: what the policy would do with it. `policy`: another one than that which counts."""

    amount_minor: _Amount
    currency: _Currency
    merchant_category: int = Field(ge=0, le=9_999)
    channel: PaymentChannel = Field(strict=False)
    state: ScorerState = Field(strict=False)
    scored: ScorerAction = Field(
        default=ScorerAction.APPROVE, strict=False, description="What the scorer says, if it is there."
    )
    policy: PaymentPolicyDocument | None = None

    @model_validator(mode="after")
    def _known_currency(self) -> Self:
        _check_currency(self.currency)
        return self

    def attempt(self, now: datetime) -> Attempt:
        """Return the payment that is not made."""
        return trial_attempt(
            amount_minor=self.amount_minor,
            currency=self.currency,
            merchant_category=self.merchant_category,
            channel=self.channel,
            at=now,
        )


class PaymentPolicyTryAnswer(BaseModel):
    """What would be done, and by which cell."""

    action: CellAction
    message: str | None
    cell: str | None

    @classmethod
    def of(cls, verdict: Verdict) -> Self:
        """Return the answer for a verdict."""
        return cls(action=verdict.action, message=verdict.message, cell=verdict.cell)


class PaymentPolicyAnswer(BaseModel):
    """A version of the policy, and who set it, when and why."""

    version: int
    policy: PaymentPolicyDocument
    sha256: str
    by: str
    reason: str
    set_at: datetime
    back_to: int | None

    @classmethod
    def of(cls, version: PolicyVersion) -> Self:
        """Return the answer for a version."""
        return cls(
            version=version.version,
            policy=PaymentPolicyDocument.model_validate(version.document),
            sha256=version.sha256,
            by=version.by,
            reason=version.reason,
            set_at=version.set_at,
            back_to=version.back_to,
        )


class PaymentPolicyHistoryEntry(BaseModel):
    """Who set a version, when and why."""

    version: int
    sha256: str
    back_to: int | None
    by: str
    reason: str
    set_at: datetime


class PaymentPolicyHistoryAnswer(BaseModel):
    """The versions, the newest first."""

    versions: Sequence[PaymentPolicyHistoryEntry]


class CardsQuery(_Form):
    """Whose cards are wanted."""

    member_id: str = Field(pattern=MEMBER_ID_PATTERN)
