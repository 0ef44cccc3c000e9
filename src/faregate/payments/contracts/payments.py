"""Payments as others see them: what is to be paid, what was decided, and how a payment stands."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any

AMOUNT_MAX = 10**12
"""The largest amount of a payment, in the minor unit of its currency."""


class PaymentChannel(StrEnum):
    """How a card is used."""

    ONLINE = "online"
    IN_STORE = "in_store"
    ATM = "atm"
    RECURRING = "recurring"


class PaymentStatus(StrEnum):
    """Where a payment stands. What was given back is an amount, not a state."""

    AUTHORISED = "authorised"
    DECLINED = "declined"
    CAPTURED = "captured"
    REVERSED = "reversed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """What is to be paid. `card_token` is None where no card is known; `ip` is scored and kept nowhere.

    `member_id` is who is to pay with whatever card there is, and then whose card it is.
    """

    card_token: str | None
    member_id: str | None
    amount_minor: int
    currency: str
    merchant: str
    merchant_category: int
    channel: PaymentChannel
    country: str
    terminal_id: str | None
    device_id: str | None
    ip: str | None = field(repr=False)
    ip_token: str | None
    occurred_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Payment:
    """A payment as it stands. `decision` says what it was based on."""

    id: str
    client_id: str
    card_token: str | None
    member_id: str | None
    amount_minor: int
    currency: str
    merchant: str
    merchant_category: int
    channel: str
    country: str
    occurred_at: datetime
    status: PaymentStatus
    captured_minor: int
    refunded_minor: int
    is_flagged: bool
    decision: Mapping[str, Any]
    decided_at: datetime
    expires_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Degraded:
    """A decision that was made without a whole answer of the scorer."""

    payment_id: str
    at: datetime
    states: Sequence[str]
    missing: Sequence[str]
    why: str | None
    waited_us: int
    policy_version: int
    cell: str
    action: str
    outcome: str
    is_flagged: bool
    amount_minor: int
    currency: str
    merchant_category: int
    channel: str
