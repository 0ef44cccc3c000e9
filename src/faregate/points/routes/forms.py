"""The JSON forms of the points routes."""

from __future__ import annotations

import re
from datetime import date, datetime
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, RootModel

from faregate.infra.http.dates import Day, Instant
from faregate.points.contracts import ledger
from faregate.points.contracts.ledger import (
    AMOUNT_MAX,
    REASON_PATTERN,
    REFERENCE_PATTERN,
    AccountStatus,
    Balance,
    Operation,
    OperationKind,
    Refusal,
    Request,
)
from faregate.points.contracts.reading import AccountState, OpenReservation, OperationPage

MEMBER_ID = re.compile(r"[A-Za-z0-9_.:-]{1,64}")
_WORDS = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]*$"
NUMBER_MAX = 2**53 - 1

MemberId = Annotated[
    str, Field(pattern=f"^{MEMBER_ID.pattern}$", examples=["mbr_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
]
Amount = Annotated[int, Field(ge=1, le=AMOUNT_MAX, examples=[2500])]
Number = Annotated[int, Field(ge=1, le=NUMBER_MAX, examples=[4711])]
Reference = Annotated[
    str,
    Field(
        pattern=REFERENCE_PATTERN,
        description="An id; nothing that tells who somebody is.",
        examples=["trip-1"],
    ),
]
Reason = Annotated[
    str,
    Field(pattern=REASON_PATTERN, description="One word: it is kept for ever.", examples=["entered_twice"]),
]
Key = Annotated[str, Field(min_length=1, max_length=255, pattern=r"^[\x21-\x7e]+$")]


class OperationForm(BaseModel):
    """What all operations have in common."""

    model_config = ConfigDict(extra="forbid", strict=True)
    asks: ClassVar[type[Request]]

    def request(self, *, key: str, by: str) -> Request:
        """Return what is asked of the ledger."""
        return self.asks(key=key, by=by, **self.model_dump(exclude={"kind", "key"}, exclude_unset=True))


class EarnForm(OperationForm):
    """Points come in at once."""

    asks = ledger.Earn
    kind: Literal["earn"]
    member_id: MemberId
    amount: Amount
    expires_on: Day | None = None
    is_rolling: bool = Field(default=False, description="They live as long as the member is active.")
    active_until: Day | None = Field(default=None, description="Rolling points live at least until then.")
    occurred_at: Instant | None = None
    qualifying: int = Field(default=0, ge=0, le=AMOUNT_MAX, description="Points that count for tiers.")
    reference: Reference = ""


class EarnPendingForm(EarnForm):
    """Points are promised."""

    asks = ledger.EarnPending
    kind: Literal["earn_pending"]  # type: ignore[assignment]


class ConfirmForm(OperationForm):
    """What was promised comes in, or a part of it."""

    asks = ledger.Confirm
    kind: Literal["confirm"]
    subject: Number
    amount: Amount | None = None


class CancelForm(OperationForm):
    """What was promised does not come."""

    asks = ledger.Cancel
    kind: Literal["cancel"]
    subject: Number


class BurnForm(OperationForm):
    """Points are spent at once."""

    asks = ledger.Burn
    kind: Literal["burn"]
    member_id: MemberId
    amount: Amount
    active_until: Day | None = None
    reference: Reference = ""


class PointsHoldForm(OperationForm):
    """Points are reserved for a while."""

    asks = ledger.Hold
    kind: Literal["hold"]
    member_id: MemberId
    amount: Amount
    expires_in_s: int = Field(default=900, ge=1, le=366 * 86_400)
    reference: Reference = ""


class PostForm(OperationForm):
    """What a hold reserved is spent, or a part of it."""

    asks = ledger.Post
    kind: Literal["post"]
    subject: Number
    amount: Amount | None = None
    active_until: Day | None = None


class VoidForm(OperationForm):
    """What a hold reserved is free again."""

    asks = ledger.Void
    kind: Literal["void"]
    subject: Number


class ExtendForm(OperationForm):
    """A hold lasts for longer, counted from now. It never lasts for less than before."""

    asks = ledger.Extend
    kind: Literal["extend"]
    subject: Number
    expires_in_s: int = Field(default=900, ge=1, le=366 * 86_400)


class ReverseForm(OperationForm):
    """An operation is undone, or a part of it."""

    asks = ledger.Reverse
    kind: Literal["reverse"]
    subject: Number
    amount: Amount | None = None
    reason: Reason | Literal[""] = ""


class TransferForm(OperationForm):
    """Points go to another member, at the programme's ratio and rounded down; the programme has the rest."""

    asks = ledger.Transfer
    kind: Literal["transfer"]
    member_id: MemberId
    to_member_id: MemberId
    amount: Amount


class ConvertForm(OperationForm):
    """Points become units of a partner, at the programme's ratio and in whole blocks; the rest stays."""

    asks = ledger.Convert
    kind: Literal["convert"]
    member_id: MemberId
    amount: Amount
    partner: Annotated[str, Field(min_length=1, max_length=64, pattern=_WORDS)]


class AdjustForm(OperationForm):
    """A balance is corrected by hand."""

    asks = ledger.Adjust
    kind: Literal["adjust"]
    member_id: MemberId
    amount: int = Field(
        ge=-AMOUNT_MAX, le=AMOUNT_MAX, description="Negative takes away. Not 0.", examples=[-500]
    )
    reason: Reason
    expires_on: Day | None = None


class SetStatusForm(OperationForm):
    """An account is frozen, opened again or closed."""

    asks = ledger.SetStatus
    kind: Literal["set_status"]
    member_id: MemberId
    status: Annotated[AccountStatus, Field(strict=False)]
    reason: Reason


class SetFloorForm(OperationForm):
    """What must stay available after a debit is changed."""

    asks = ledger.SetFloor
    kind: Literal["set_floor"]
    member_id: MemberId
    floor: int = Field(ge=0, le=AMOUNT_MAX)
    reason: Reason


_AnyForm = (
    EarnForm
    | EarnPendingForm
    | ConfirmForm
    | CancelForm
    | BurnForm
    | PointsHoldForm
    | PostForm
    | VoidForm
    | ExtendForm
    | ReverseForm
    | TransferForm
    | ConvertForm
)


class AnyOperationForm(RootModel[Annotated[_AnyForm, Field(discriminator="kind")]]):
    """An operation of the ledger. Its kind says what else it takes."""


class CorrectionForm(
    RootModel[Annotated[AdjustForm | SetStatusForm | SetFloorForm, Field(discriminator="kind")]]
):
    """What is done to an account by hand. Its kind says what else it takes."""


class BatchItemForm(BaseModel):
    """An operation of a batch, under a key of its own."""

    model_config = ConfigDict(extra="forbid", strict=True)

    key: Key
    operation: AnyOperationForm


class BatchForm(BaseModel):
    """Operations that are done in their order, in one transaction."""

    model_config = ConfigDict(extra="forbid")

    operations: list[BatchItemForm] = Field(min_length=1, max_length=500)


class BalanceAnswer(BaseModel):
    """The balances of an account at one instant."""

    posted: int
    pending: int
    held: int
    owed: int
    available: int

    @classmethod
    def of(cls, balance: Balance) -> Self:
        """Show balances."""
        return cls(
            posted=balance.posted,
            pending=balance.pending,
            held=balance.held,
            owed=balance.owed,
            available=balance.available,
        )


class LedgerOperationAnswer(BaseModel):
    """An operation, done or refused."""

    operation: int
    kind: OperationKind
    member_id: str
    amount: int
    at: datetime
    subject: int | None
    gives: int | None = Field(description="What the partner gives for a conversion, in its units.")
    arrives: int | None = Field(description="What the receiver of a transfer gets; null: all of it.")
    refusal: Refusal | None
    balance: BalanceAnswer | None = Field(description="That of right after it; none if it was refused.")

    @classmethod
    def of(cls, done: Operation) -> Self:
        """Show an operation."""
        return cls(
            operation=done.no,
            kind=done.kind,
            member_id=done.member_id,
            amount=done.amount,
            at=done.at,
            subject=done.subject,
            gives=done.gives,
            arrives=done.arrives,
            refusal=done.refusal,
            balance=None if done.balance is None else BalanceAnswer.of(done.balance),
        )


class BatchResultAnswer(BaseModel):
    """What became of one operation of a batch: it is there, or its key was used for something else."""

    key: str
    operation: LedgerOperationAnswer | None
    key_reused: str | None = Field(description="The first field that differs from what the key was used for.")


class BatchAnswer(BaseModel):
    """What became of a batch, in its order."""

    results: list[BatchResultAnswer]


class LedgerOperationsAnswer(BaseModel):
    """A page of operations, the newest first."""

    operations: list[LedgerOperationAnswer]
    before: int | None = Field(description="Begins the next page.")

    @classmethod
    def of(cls, page: OperationPage) -> Self:
        """Show a page."""
        return cls(operations=[LedgerOperationAnswer.of(one) for one in page.operations], before=page.before)


class ExpiryAnswer(BaseModel):
    """Points that expire when a day is over; null: never."""

    expires_on: date | None
    amount: int


class ReservationAnswer(BaseModel):
    """A hold or a promise that is open."""

    operation: int
    amount: int
    expires_at: datetime | None


class AccountAnswer(BaseModel):
    """An account at one instant."""

    member_id: str
    at: datetime
    status: AccountStatus
    floor: int
    balance: BalanceAnswer
    expiries: list[ExpiryAnswer]
    holds: list[ReservationAnswer]
    pending: list[ReservationAnswer]

    @classmethod
    def of(cls, account: AccountState) -> Self:
        """Show an account."""
        return cls(
            member_id=account.member_id,
            at=account.at,
            status=account.status,
            floor=account.floor,
            balance=BalanceAnswer.of(account.balance),
            expiries=[ExpiryAnswer(expires_on=one.expires_on, amount=one.amount) for one in account.expiries],
            holds=[_reservation(one) for one in account.holds],
            pending=[_reservation(one) for one in account.pending],
        )


def _reservation(one: OpenReservation) -> ReservationAnswer:
    return ReservationAnswer(operation=one.no, amount=one.amount, expires_at=one.expires_at)


class BalanceAtAnswer(BaseModel):
    """The balances at an instant. What was due by then counts as done, even if nobody had entered it yet."""

    member_id: str
    at: datetime
    balance: BalanceAnswer


class BalanceQuery(BaseModel):
    """Which instant is meant."""

    model_config = ConfigDict(extra="forbid")

    at: Instant = Field(description="The instant.")


class OperationsQuery(BaseModel):
    """Which page is meant."""

    model_config = ConfigDict(extra="forbid")

    limit: int = Field(default=50, ge=1, le=500, description="How many at most.")
    before: int | None = Field(default=None, ge=1, le=NUMBER_MAX, description="`before` of the page before.")


class SourceAnswer(BaseModel):
    """Points of a spend that came from one earn."""

    operation: int
    earned_at: datetime
    expires_on: date | None
    amount: int


class StatementBalanceAnswer(BaseModel):
    """The balances at one instant."""

    posted: int
    pending: int
    held: int
    owed: int


class StatementLineAnswer(BaseModel):
    """One operation on a statement."""

    operation: int
    at: datetime
    kind: OperationKind
    words: str
    change: int = Field(description="Of what is posted.")
    held: int = Field(description="Change of what is held.")
    balance: StatementBalanceAnswer
    subject: int | None
    reference: str
    sources: list[SourceAnswer] = Field(description="The earns that a spend came from.")


class StatementAnswer(BaseModel):
    """What happened on an account in a period."""

    member_id: str
    since: datetime
    until: datetime
    opening: StatementBalanceAnswer
    closing: StatementBalanceAnswer
    lines: list[StatementLineAnswer]


class StatementQuery(BaseModel):
    """Which period, and as what."""

    model_config = ConfigDict(extra="forbid")

    since: Instant = Field(description="The instant at which it begins.")
    until: Instant = Field(description="The instant before which it ends.")
    format: Literal["json", "csv", "pdf"] = Field(default="json", description="The form of the answer.")
