"""The JSON forms of scoring."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, WithJsonSchema

from faregate.fraud.contracts.scoring import Action
from faregate.infra.http.dates import Instant
from faregate.kernel.currencies import CURRENCIES

AMOUNT_MAX = 10**12
DECISION_ID = r"^dec_[0-9A-HJKMNP-TV-Z]{26}$"
PAYMENT_ID = r"^[A-Za-z0-9_-]{1,64}$"
CARD_TOKEN = r"^[A-Za-z][A-Za-z0-9_.:-]{0,63}$"  # noqa: S105 - begins with a letter: a card's number is none
_WORDS = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,64}$"


def _known(currency: str) -> str:
    if currency not in CURRENCIES:
        raise ValueError("Input should be an active code of ISO 4217")
    return currency


Currency = Annotated[
    str, AfterValidator(_known), WithJsonSchema({"type": "string", "enum": sorted(CURRENCIES)})
]
Id = Annotated[str, Field(pattern=_WORDS)]


class ScoreForm(BaseModel):
    """A payment that is to be decided."""

    model_config = ConfigDict(extra="forbid", strict=True)

    payment_id: str = Field(pattern=PAYMENT_ID, examples=["pay_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    card_token: str = Field(
        pattern=CARD_TOKEN,
        description="What stands for the card; never its number.",
        examples=["crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"],
    )
    member_id: Id | None = Field(examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    amount_minor: int = Field(ge=0, le=AMOUNT_MAX, examples=[4_250])
    currency: Currency = Field(examples=["USD"])
    merchant: Id = Field(examples=["mer_0042"])
    merchant_category: int = Field(ge=0, le=9_999, description="ISO 18245.", examples=[5_812])
    channel: Literal["online", "in_store", "atm", "recurring"]
    country: str = Field(
        pattern=r"^[A-Z]{2}$", description="ISO 3166: where the payment is made.", examples=["US"]
    )
    terminal_id: Id | None = Field(examples=["ter_0042"])
    device_id: Id | None = Field(examples=["dev_9f8e7d6c"])
    ip: str | None = Field(
        min_length=1, max_length=45, description="IPv4 or IPv6; it is kept nowhere.", examples=["203.0.113.7"]
    )
    occurred_at: Instant = Field(
        description="When it was asked for; at most a minute ahead.", examples=["2026-11-26T12:00:00Z"]
    )


class ScoreQuery(BaseModel):
    """What else is wanted."""

    model_config = ConfigDict(extra="forbid")

    explain: bool = Field(default=False, description="Reasons of the model for an approval, too.")


class ScoreReason(BaseModel):
    """Why, by whom, in words."""

    code: str
    source: Literal["rule", "model"]
    text: str


class ScoreRuleset(BaseModel):
    """Which version of the rules."""

    name: str
    version: int


class ScoreModel(ScoreRuleset):
    """Which version of the model."""

    sha256: str


class ScoreFeatures(BaseModel):
    """Which features, as of when, and how far their consumer is behind; null if nobody knows."""

    version: str
    as_of: str
    fresh_ms: int | None


class FraudScoreAnswer(BaseModel):
    """A decision. `score` is null where the model was not asked or could not be; `degraded` names what was missing."""

    decision_id: str
    payment_id: str
    score: float | None = Field(ge=0, le=1)
    action: Action
    reasons: list[ScoreReason]
    ruleset: ScoreRuleset | None
    model: ScoreModel | None
    features: ScoreFeatures
    degraded: list[
        Literal["features_missing", "features_stale", "model_missing", "rules_missing", "audit_spooled"]
    ]


class DecisionsQuery(BaseModel):
    """Which decisions are wanted."""

    model_config = ConfigDict(extra="forbid")

    action: Action | None = None
    card_token: str | None = Field(default=None, pattern=CARD_TOKEN)
    since: Instant | None = Field(default=None, description="Decided then or later.")
    until: Instant | None = Field(default=None, description="Decided before.")
    before: str | None = Field(
        default=None, pattern=DECISION_ID, description="`next` of the page before: goes on behind it."
    )
    limit: int = Field(default=50, ge=1, le=500)


class FraudDecisionRow(BaseModel):
    """A decision in a list."""

    decision_id: str
    decided_at: str
    payment_id: str
    action: Action
    score: float | None
    amount_minor: int
    currency: str
    card_token: str
    degraded: list[str]
    counts: bool = Field(description="False: another decision of the payment was there first.")


class FraudDecisionsAnswer(BaseModel):
    """A page; `next` is null on the last one."""

    decisions: list[FraudDecisionRow]
    next: str | None


class FraudDecisionAnswer(BaseModel):
    """A decision as it was answered, and when it was made."""

    decided_at: str
    counts: bool = Field(description="False: another decision of the payment was there first.")
    answer: FraudScoreAnswer
