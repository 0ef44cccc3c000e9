"""Why the ledger refuses, in sentences for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from faregate.points.contracts.ledger import Refusal

SENTENCES: Final[Mapping[Refusal, str]] = {
    Refusal.SUBJECT_NOT_FOUND: "there is no operation of that number, or it was refused itself",
    Refusal.SUBJECT_OF_ANOTHER_KIND: "the operation that it refers to is of a kind to which this cannot be done",
    Refusal.MEMBER_UNKNOWN: "the member has no points account",
    Refusal.RECEIVER_UNKNOWN: "the member who is to receive has no points account",
    Refusal.ACCOUNTS_EQUAL: "nobody gives points to themselves",
    Refusal.ACCOUNT_CLOSED: "the account is closed",
    Refusal.RECEIVER_CLOSED: "the account that is to receive is closed",
    Refusal.ACCOUNT_FROZEN: "the account is frozen: nothing is spent from it",
    Refusal.ACCOUNT_NOT_EMPTY: "the account still has points, holds or debts, and cannot be closed",
    Refusal.IN_THE_FUTURE: "it is said to have happened in the future",
    Refusal.TOO_LONG_AGO: "it happened longer ago than may still be entered",
    Refusal.ALREADY_EXPIRED: "the points would have expired already",
    Refusal.SECOND_PERSON_NEEDED: "a correction as large as this needs the approval of a second person",
    Refusal.ALREADY_POSTED: "it was posted or confirmed before",
    Refusal.ALREADY_VOIDED: "it was voided or cancelled before",
    Refusal.HOLD_EXPIRED: "the time of the hold is over",
    Refusal.ALREADY_REVERSED: "all of it was reversed before",
    Refusal.MORE_THAN_RESERVED: "it is more than was reserved",
    Refusal.MORE_THAN_LEFT: "it is more than is left to reverse",
    Refusal.BALANCE_TOO_LARGE: "the balance would become larger than an account can hold",
    Refusal.INSUFFICIENT_POINTS: "there are not enough points available",
}
