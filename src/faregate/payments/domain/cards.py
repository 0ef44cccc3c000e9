"""Cards: their numbers, their status, and what a card may not do whatever the scorer says."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from datetime import date
from typing import Final

from faregate.kernel.currencies import CURRENCIES
from faregate.kernel.errors import ConflictError, InvalidError, NotFoundError
from faregate.payments.contracts.cards import (
    Card,
    CardAct,
    CardNumber,
    CardStatus,
    Limit,
    NewCard,
    Spending,
)
from faregate.payments.contracts.payments import AMOUNT_MAX, Attempt
from faregate.payments.contracts.scoring import Reason

TEST_PREFIX: Final = "999999"
"""Begins the numbers that are made here: no network routes them."""
MEMBER_ID_PATTERN: Final = r"^mbr_[0-9A-Z]{26}$"
PRODUCT_PATTERN: Final = r"^[a-z][a-z0-9_]{0,63}$"
NUMBER_DIGITS: Final = 16
NUMBER_PATTERN: Final = r"^[0-9]{12,19}$"
_NUMBER: Final = re.compile(r"[0-9]{12,19}")


class CardNotFound(NotFoundError):
    """There is no such card."""


class CardActRefused(ConflictError):
    """The card's status does not allow this act: a closed card stays closed, and an act is not done twice."""


class CardNumberInvalid(InvalidError):
    """A card number has 12 to 19 digits, the last of which is a check digit (Luhn).

    Send it without spaces; it is not repeated here.
    """


class CardNumberTaken(ConflictError):
    """Another card has this number."""


class LimitsInvalid(InvalidError):
    """A card has at most one limit a currency (ISO 4217), and a day's is not below that of one transaction."""


class CardInvalid(InvalidError):
    """A card is issued to a member, by a product that is named in lower case."""


_AFTER: Final = {
    (CardStatus.ACTIVE, CardAct.BLOCK): CardStatus.BLOCKED,
    (CardStatus.BLOCKED, CardAct.UNBLOCK): CardStatus.ACTIVE,
    (CardStatus.ACTIVE, CardAct.CLOSE): CardStatus.CLOSED,
    (CardStatus.BLOCKED, CardAct.CLOSE): CardStatus.CLOSED,
}


def status_after(status: CardStatus, act: CardAct) -> CardStatus:
    """Return a card's status after an act. Raises CardActRefused."""
    after = _AFTER.get((status, act))
    if after is None:
        raise CardActRefused(f"a card that is {status.value} cannot be changed by {act.value}")
    return after


def luhn_digit(digits: str) -> str:
    """Return the check digit that goes behind these digits (ISO/IEC 7812-1)."""
    doubled = [int(digit) * (2 - place % 2) for place, digit in enumerate(reversed(digits))]
    return str(-sum(value - 9 if value > 9 else value for value in doubled) % 10)


def checked_number(digits: str) -> CardNumber:
    """Return a card's number. Raises CardNumberInvalid, which does not repeat it."""
    if not _NUMBER.fullmatch(digits) or luhn_digit(digits[:-1]) != digits[-1]:
        raise CardNumberInvalid("the card number is not valid")
    return CardNumber(digits)


def made_number(random: bytes) -> CardNumber:
    """Return a number of the test range out of eight random bytes."""
    wanted = NUMBER_DIGITS - len(TEST_PREFIX) - 1
    digits = f"{TEST_PREFIX}{int.from_bytes(random) % 10**wanted:0{wanted}}"
    return CardNumber(digits + luhn_digit(digits))


def check_limits(limits: Sequence[Limit]) -> None:
    """Raise LimitsInvalid for limits that contradict each other."""
    seen: set[str] = set()
    for limit in limits:
        if limit.currency in seen:
            raise LimitsInvalid(f"{limit.currency} has two limits")
        seen.add(limit.currency)
        if limit.currency not in CURRENCIES:
            raise LimitsInvalid(f"{limit.currency} is no active currency of ISO 4217")
        if not 0 <= limit.transaction_minor_max <= limit.day_minor_max <= AMOUNT_MAX:
            raise LimitsInvalid(
                f"{limit.currency}: the limit of a transaction is not within that of a day, up to {AMOUNT_MAX}"
            )


def check_new(new: NewCard) -> None:
    """Raise CardInvalid for a card that could not be issued."""
    if not re.fullmatch(MEMBER_ID_PATTERN, new.member_id):
        raise CardInvalid("a member is mbr_ and 26 digits and letters")
    if not re.fullmatch(PRODUCT_PATTERN, new.product):
        raise CardInvalid("a product is lower-case letters, digits and _, 64 at most, a letter first")


def knock_out(
    attempt: Attempt,
    *,
    card: Card | None,
    spending: Spending | None,
    sanctioned: Collection[str],
    day: date,
) -> Reason | None:
    """Return why a payment is declined whatever the scorer says, None if nothing here is against it.

    The guards are read in order; the first that holds is the reason. `spending` is that of the payment's currency.
    """
    if card is None and attempt.member_id is not None:
        return _because("NO_CARD", "The member has no card that pays in this currency")
    if card is None:
        return _because("CARD_UNKNOWN", "There is no such card")
    if card.status is CardStatus.BLOCKED:
        return _because("CARD_BLOCKED", "The card is blocked")
    if card.status is CardStatus.CLOSED:
        return _because("CARD_CLOSED", "The card is closed")
    if attempt.country in sanctioned:
        return _because("SANCTIONED_COUNTRY", "No payment is made in this country")
    if spending is None:
        return _because("CURRENCY_NOT_ALLOWED", "The card does not pay in this currency")
    if attempt.amount_minor > spending.limit.transaction_minor_max:
        return _because("TRANSACTION_LIMIT", "The amount is above the card's limit for one payment")
    if spending.spent_at(day) + attempt.amount_minor > spending.limit.day_minor_max:
        return _because("DAY_LIMIT", "The amount is above what is left of the card's limit for a day")
    return None


def _because(code: str, text: str) -> Reason:
    return Reason(code=code, source="payments", text=text)
