"""Cards as others see them: a token, a holder, limits. A card's number is in none of this."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol


class CardStatus(StrEnum):
    """Whether a card may pay. A closed one stays closed."""

    ACTIVE = "active"
    BLOCKED = "blocked"
    CLOSED = "closed"


class CardAct(StrEnum):
    """What may be done to a card's status."""

    BLOCK = "block"
    UNBLOCK = "unblock"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The most that a card may pay in a currency, at once and in a day (UTC)."""

    currency: str
    transaction_minor_max: int
    day_minor_max: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """A limit, and how much of a day's was used on the last day on which anything was."""

    limit: Limit
    spent_on: date
    spent_minor: int

    def spent_at(self, day: date) -> int:
        """Return what was used of a day's limit."""
        return self.spent_minor if day == self.spent_on else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A card. `last4` are the only digits of its number that are kept; None while it has no number."""

    token: str
    member_id: str
    application_id: str | None
    product: str
    status: CardStatus
    last4: str | None
    issued_at: datetime
    updated_at: datetime
    limits: Sequence[Limit] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCard:
    """A card that is to be issued to a member."""

    member_id: str
    product: str
    application_id: str | None = None
    limits: Sequence[Limit] | None = None
    """None: those of the product."""


@dataclass(frozen=True, slots=True)
class CardNumber:
    """A card's number on its way to a keyed hash. Its repr shows nothing."""

    digits: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardRecordEntry:
    """Something that was done to a card."""

    at: datetime
    by: str
    act: str
    details: Mapping[str, Any]


class Approvals(Protocol):
    """Knows which applications are approved, and for which product."""

    async def products(self, application_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the product of each of these applications that is approved now, by application."""
        ...


class Holders(Protocol):
    """Knows the members that applications led to."""

    async def members_of(self, application_ids: Sequence[str]) -> Mapping[str, str]:
        """Return the member of each of these applications that has one already, by application."""
        ...
