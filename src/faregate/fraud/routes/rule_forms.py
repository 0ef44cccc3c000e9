"""What goes over the wire about lists, labels, and rules that are tried."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from faregate.fraud.contracts.labels import Label
from faregate.fraud.contracts.lists import ListChange, ListEntry, ListKind, ListName, NewEntry
from faregate.fraud.handlers.lists import AT_ONCE_MAX
from faregate.infra.http.dates import Instant

_TEXT = r"^[^\x00-\x1f\x7f-\x9f\ufffe\uffff]*$"
_AFTER = r"^([a-z]{1,8}/[a-z_]{1,16}/[^\x00-\x1f\x7f-\x9f\ufffe\uffff]{1,64})?$"
LABEL_PATTERN = r"^[a-z][a-z0-9-]{2,62}-[1-9][0-9]{0,8}$"
PAYMENT_ID = r"^[A-Za-z0-9_-]{1,64}$"
_Kind = Annotated[ListKind, Field(strict=False)]
_Name = Annotated[ListName, Field(strict=False)]
_Reason = Annotated[str, Field(min_length=1, max_length=500, pattern=_TEXT, description="Kept for ever.")]
_Strict = ConfigDict(extra="forbid", strict=True)


class EntryForm(BaseModel):
    """What is to stand on a list."""

    model_config = _Strict

    kind: _Kind
    value: str = Field(
        min_length=1,
        max_length=64,
        description="A token, id, pseudonym or country; never the number of a card.",
        examples=["crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"],
    )
    expires_at: Instant | None = Field(
        default=None, description="From then on it does not stand there any more."
    )

    def entry(self) -> NewEntry:
        """Return what is to stand there."""
        return NewEntry(kind=self.kind, value=self.value, expires_at=self.expires_at)


class AddForm(BaseModel):
    """What is to be put on a list, and why."""

    model_config = _Strict

    entries: list[EntryForm] = Field(min_length=1, max_length=AT_ONCE_MAX)
    reason: _Reason


class ListedForm(BaseModel):
    """What stands on a list."""

    model_config = _Strict

    kind: _Kind
    value: str = Field(min_length=1, max_length=64, examples=["crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"])


class RemoveForm(BaseModel):
    """What is to be taken off a list, and why: all of it, or nothing if something is not there."""

    model_config = _Strict

    entries: list[ListedForm] = Field(min_length=1, max_length=AT_ONCE_MAX)
    reason: _Reason

    def listed(self) -> list[NewEntry]:
        """Return what is to be taken off."""
        return [NewEntry(kind=one.kind, value=one.value) for one in self.entries]


class ListsQuery(BaseModel):
    """Which entries are wanted."""

    model_config = ConfigDict(extra="forbid")

    list: ListName | None = Field(default=None, description="Only this list.")
    kind: ListKind | None = Field(default=None, description="Only this kind.")
    value: str | None = Field(default=None, min_length=1, max_length=64, description="Only this value.")
    after: str = Field(default="", max_length=100, pattern=_AFTER, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=1_000)

    @property
    def place(self) -> tuple[str, str, str]:
        """List, kind and value after which the page begins."""
        name, _, rest = self.after.partition("/")
        kind, _, value = rest.partition("/")
        return name, kind, value


class ListHistoryQuery(BaseModel):
    """Which acts are wanted, the newest first."""

    model_config = ConfigDict(extra="forbid")

    list: ListName | None = Field(default=None, description="Only this list.")
    kind: ListKind | None = Field(default=None, description="Only this kind.")
    value: str | None = Field(default=None, min_length=1, max_length=64, description="Only this value.")
    before: int | None = Field(default=None, ge=1, le=2**62, description="`next` of the page before.")
    limit: int = Field(default=100, ge=1, le=1_000)


class ListEntryAnswer(BaseModel):
    """What stands on a list."""

    model_config = ConfigDict(from_attributes=True)

    list: ListName
    kind: ListKind
    value: str
    expires_at: datetime | None
    added_at: datetime
    added_by: str
    reason: str


class FraudListAnswer(BaseModel):
    """A page of what stands on the lists, by list, kind and value. `next` is null at the end."""

    entries: list[ListEntryAnswer]
    next: str | None

    @classmethod
    def of(cls, found: Iterable[ListEntry], *, limit: int) -> FraudListAnswer:
        """Return a page as it is sent."""
        entries = [ListEntryAnswer.model_validate(one) for one in found]
        last = entries[-1] if len(entries) == limit else None
        following = f"{last.list}/{last.kind}/{last.value}" if last else None
        return cls(entries=entries, next=following)


class ListAddedAnswer(BaseModel):
    """What stands on the list now."""

    entries: list[ListEntryAnswer]


class ListRemovedAnswer(BaseModel):
    """How many entries were taken off."""

    removed: int


class ListChangeAnswer(BaseModel):
    """One act."""

    model_config = ConfigDict(from_attributes=True)

    version: int
    act: str
    list: ListName
    kind: ListKind
    value: str
    expires_at: datetime | None
    at: datetime
    by: str
    reason: str


class ListHistoryAnswer(BaseModel):
    """A page of what was done, the newest first. `next` is null at the end."""

    changes: list[ListChangeAnswer]
    next: int | None

    @classmethod
    def of(cls, found: Iterable[ListChange], *, limit: int) -> ListHistoryAnswer:
        """Return a page as it is sent."""
        changes = [ListChangeAnswer.model_validate(one) for one in found]
        return cls(changes=changes, next=changes[-1].version if len(changes) == limit else None)


class LabelForm(BaseModel):
    """What a source says of a payment."""

    model_config = _Strict

    payment_id: str = Field(pattern=PAYMENT_ID, examples=["pay_01J3R2J7F1TQ0K6W6N8A4X9V7R"])
    is_fraud: bool
    source: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$", examples=["chargeback"])
    known_at: Instant = Field(description="Since when it is known.", examples=["2026-11-26T12:00:00Z"])

    def label(self) -> Label:
        """Return the label."""
        return Label(
            payment_id=self.payment_id,
            is_fraud=self.is_fraud,
            source=self.source,
            known_at=self.known_at,
        )


class LabelsForm(BaseModel):
    """Labels that are brought."""

    model_config = _Strict

    labels: list[LabelForm] = Field(min_length=1, max_length=1_000)


class LabelsTakenAnswer(BaseModel):
    """How many labels were new, and how many were there already."""

    new: int
    known: int


class LabelAnswer(BaseModel):
    """What a source says of a payment."""

    model_config = ConfigDict(from_attributes=True)

    payment_id: str
    is_fraud: bool
    source: str
    known_at: datetime


class LabelsOfPaymentAnswer(BaseModel):
    """What is known of a payment, the newest first: that one counts."""

    labels: list[LabelAnswer]


class PeriodQuery(BaseModel):
    """Which decisions are looked at."""

    model_config = ConfigDict(extra="forbid")

    since: Instant | None = Field(default=None, description="Only decisions from this instant on.")
    until: Instant | None = Field(default=None, description="Only decisions before this instant.")


class FraudShadowQuery(PeriodQuery):
    """Which shadow is wanted."""

    version: str | None = Field(
        default=None, pattern=LABEL_PATTERN, description="One that watched; left out: the one that does."
    )


class FraudBacktestQuery(PeriodQuery):
    """Which payments are judged again."""

    limit: int = Field(default=1_000, ge=1, le=10_000, description="So many payments at most.")
    only_labelled: bool = Field(
        default=False, description="Only payments of which it is known what they were."
    )


class FraudRulesReport(BaseModel):
    """A report."""

    report: dict[str, Any]
