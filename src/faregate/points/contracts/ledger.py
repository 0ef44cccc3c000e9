"""What the ledger is asked to do and what it answers: amounts in whole points, days of the programme."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import date, datetime
from enum import StrEnum
from typing import Any, ClassVar, Final

from faregate.kernel.errors import InvalidError

AMOUNT_MAX: Final = 10**15
"""The most that one operation moves, and that one account holds: far from the end of 64 bits."""
KEY_MAX: Final = 400
REFERENCE_PATTERN: Final = r"^[A-Za-z0-9_.:/-]{0,200}$"
"""What a reference is: the id of something elsewhere."""
REASON_PATTERN: Final = r"^[a-z][a-z0-9_]{0,63}$"
"""What a reason is: one word, such as `entered_twice`."""


_REFERENCE: Final = re.compile(REFERENCE_PATTERN[:-1] + r"\Z")
_REASON: Final = re.compile(REASON_PATTERN[:-1] + r"\Z")


class OperationKind(StrEnum):
    """What an operation is. The last four are the ledger's own."""

    SET_STATUS = "set_status"
    SET_FLOOR = "set_floor"
    EARN = "earn"
    EARN_PENDING = "earn_pending"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    BURN = "burn"
    ADJUST = "adjust"
    HOLD = "hold"
    POST = "post"
    VOID = "void"
    EXTEND = "extend"
    REVERSE = "reverse"
    TRANSFER = "transfer"
    CONVERT = "convert"
    RECEIVE = "receive"
    GIVE_BACK = "give_back"
    EXPIRE = "expire"
    TIME_OUT = "time_out"


class Layer(StrEnum):
    """Which of an account's balances an entry moves. Each sums to zero over all accounts."""

    POSTED = "posted"
    PENDING = "pending"
    HELD = "held"
    OWED = "owed"


class AccountStatus(StrEnum):
    """What an account may do: a frozen one spends nothing, a closed one can only be opened again."""

    OPEN = "open"
    FROZEN = "frozen"
    CLOSED = "closed"


class System(StrEnum):
    """The accounts of the programme itself, where points come from and go to. They keep no running balance."""

    ISSUED = "issued"
    SPENT = "spent"
    EXPIRED = "expired"
    ADJUSTED = "adjusted"
    CONVERTED = "converted"
    WITHHELD = "withheld"


SYSTEM_NUMBERS: Final[Mapping[System, int]] = {system: -place for place, system in enumerate(System, start=1)}


class Refusal(StrEnum):
    """Why nothing was done, in the order in which it is examined. It stands for ever under the key of the request."""

    SUBJECT_NOT_FOUND = "subject_not_found"
    SUBJECT_OF_ANOTHER_KIND = "subject_of_another_kind"
    MEMBER_UNKNOWN = "member_unknown"
    RECEIVER_UNKNOWN = "receiver_unknown"
    ACCOUNTS_EQUAL = "accounts_equal"
    ACCOUNT_CLOSED = "account_closed"
    RECEIVER_CLOSED = "receiver_closed"
    ACCOUNT_FROZEN = "account_frozen"
    ACCOUNT_NOT_EMPTY = "account_not_empty"
    IN_THE_FUTURE = "in_the_future"
    TOO_LONG_AGO = "too_long_ago"
    ALREADY_EXPIRED = "already_expired"
    SECOND_PERSON_NEEDED = "second_person_needed"
    ALREADY_POSTED = "already_posted"
    ALREADY_VOIDED = "already_voided"
    HOLD_EXPIRED = "hold_expired"
    ALREADY_REVERSED = "already_reversed"
    MORE_THAN_RESERVED = "more_than_reserved"
    MORE_THAN_LEFT = "more_than_left"
    BALANCE_TOO_LARGE = "balance_too_large"
    INSUFFICIENT_POINTS = "insufficient_points"


class RequestInvalid(InvalidError):
    """A request that can never be carried out, whatever the ledger holds: it is not stored."""


class WordsRefused(RequestInvalid):
    """A reference is an id, and a reason one word: the ledger keeps them for ever, also of a member who is erased."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """An operation that is wanted, under a key that makes it happen at most once.

    `by` is who asked: a client or a person. Raises RequestInvalid for a key or an amount that no ledger takes.
    """

    kind: ClassVar[OperationKind]
    columns: ClassVar[frozenset[str]] = frozenset({"key", "by"})
    """The fields that are stored in a column of their own."""
    derived: ClassVar[frozenset[str]] = frozenset()
    """The fields that the programme's terms of the moment made: a repeat is one whatever they are by now."""

    key: str
    by: str = "system"

    def __post_init__(self) -> None:
        """Check what can be checked without the ledger."""
        if not 0 < len(self.key) <= KEY_MAX:
            raise RequestInvalid(f"a key has 1 to {KEY_MAX} characters, not {len(self.key)}")
        amount = getattr(self, "amount", None)
        least = -AMOUNT_MAX if self.kind is OperationKind.ADJUST else 1
        if amount is not None and (not least <= amount <= AMOUNT_MAX or amount == 0):
            raise RequestInvalid(
                f"an amount is a whole number from {least} to {AMOUNT_MAX}, and not 0: {amount}"
            )
        if not _REFERENCE.match(getattr(self, "reference", "")):
            raise WordsRefused("a reference is an id of letters, digits and _ . : / -")
        if (reason := getattr(self, "reason", "")) and not _REASON.match(reason):
            raise WordsRefused("a reason is one word, such as entered_twice")

    def details(self) -> dict[str, Any]:
        """Return what was asked but for what has a column of its own, without what was left at its default."""
        return {
            field.name: _plain(value)
            for field in fields(self)
            if field.name not in self.columns and (value := getattr(self, field.name)) != field.default
        }


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@dataclass(frozen=True, slots=True, kw_only=True)
class OfMember(Request):
    """A request that names the member whose account it is about."""

    columns = frozenset({"key", "by", "member_id", "amount"})

    member_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfSubject(Request):
    """A request about an earlier operation, by its number. An amount that is left out is all of it."""

    columns = frozenset({"key", "by", "subject"})

    subject: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SetStatus(OfMember):
    """Freeze, unfreeze or close an account. Only an empty one is closed."""

    kind = OperationKind.SET_STATUS
    status: AccountStatus
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetFloor(OfMember):
    """Set what must stay available after a debit, in points. What is held already is not asked again."""

    kind = OperationKind.SET_FLOOR
    floor: int
    reason: str

    def __post_init__(self) -> None:
        """Check that it is a floor."""
        super(SetFloor, self).__post_init__()
        if not 0 <= self.floor <= AMOUNT_MAX:
            raise RequestInvalid(f"a floor is a whole number from 0 to {AMOUNT_MAX}: {self.floor}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Earn(OfMember):
    """Give points that can be spent at once.

    They expire at the end of `expires_on`, or, when `is_rolling`, with the member's activity; else never. `qualifying`
    of them count for tiers. `earned_by` names the versions of rules and programme that say how many they are, and
    `promoted` how many of them promotions gave.
    """

    kind = OperationKind.EARN
    amount: int
    expires_on: date | None = None
    is_rolling: bool = False
    occurred_at: datetime | None = None
    active_until: date | None = None
    qualifying: int = 0
    reference: str = ""
    earned_by: str = ""
    promoted: Mapping[str, int] | None = None

    def __post_init__(self) -> None:
        """Check that the points can expire in one way only, and that rolling ones have a day to begin with."""
        super(Earn, self).__post_init__()
        if not 0 <= self.qualifying <= self.amount:
            raise RequestInvalid(f"of {self.amount} points {self.qualifying} cannot be qualifying")
        if self.is_rolling and (self.expires_on is not None or self.active_until is None):
            raise RequestInvalid("rolling points take `active_until`, and no `expires_on`")


@dataclass(frozen=True, slots=True, kw_only=True)
class EarnPending(Earn):
    """Promise points that can be spent once they are confirmed."""

    kind = OperationKind.EARN_PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Confirm(OfSubject):
    """Give what a pending earn promised, or a part of it; the rest is promised no more."""

    kind = OperationKind.CONFIRM
    amount: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancel(OfSubject):
    """Take a pending earn back."""

    kind = OperationKind.CANCEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Burn(OfMember):
    """Spend points at once."""

    kind = OperationKind.BURN
    amount: int
    active_until: date | None = None
    reference: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjust(OfMember):
    """Correct a balance by hand, up or down, for a stated reason. A large one needs a second person."""

    kind = OperationKind.ADJUST
    amount: int
    reason: str
    approved_by: str = ""
    expires_on: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold(OfMember):
    """Reserve points for so many seconds. They are released by `Post`, `Void` or the end of that time, not before."""

    kind = OperationKind.HOLD
    amount: int
    expires_in_s: int = 900
    reference: str = ""

    def __post_init__(self) -> None:
        """Check that the time is one."""
        super(Hold, self).__post_init__()
        _check_length(self.expires_in_s)


def _check_length(expires_in_s: int) -> None:
    if not 0 < expires_in_s <= 366 * 86_400:
        raise RequestInvalid(f"a hold lasts from one second to 366 days: {expires_in_s}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Extend(OfSubject):
    """Let a hold last for so many seconds from now, or for as long as it would anyway if that is longer."""

    kind = OperationKind.EXTEND
    expires_in_s: int = 900

    def __post_init__(self) -> None:
        """Check that the time is one."""
        super(Extend, self).__post_init__()
        _check_length(self.expires_in_s)


@dataclass(frozen=True, slots=True, kw_only=True)
class Post(OfSubject):
    """Spend what a hold reserved, or a part of it; the rest is available again."""

    kind = OperationKind.POST
    amount: int | None = None
    active_until: date | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Void(OfSubject):
    """Release what a hold reserved."""

    kind = OperationKind.VOID


@dataclass(frozen=True, slots=True, kw_only=True)
class Reverse(OfSubject):
    """Undo an earn, a spend, an adjustment, a conversion or a transfer: so much of it, or all that is left."""

    kind = OperationKind.REVERSE
    amount: int | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Transfer(OfMember):
    """Give points to another member, with the dates on which they expire.

    `arrives` is how many the receiver gets at the programme's ratio; not given, all. The programme has the rest.
    """

    kind = OperationKind.TRANSFER
    derived = frozenset({"arrives"})
    amount: int
    to_member_id: str
    arrives: int | None = None

    def __post_init__(self) -> None:
        """Check that no points are made."""
        super(Transfer, self).__post_init__()
        if self.arrives is not None and not 0 < self.arrives <= self.amount:
            raise RequestInvalid(f"of {self.amount} points {self.arrives} cannot arrive")


@dataclass(frozen=True, slots=True, kw_only=True)
class Convert(OfMember):
    """Turn points into the currency of a partner, who gets `gives` units for them.

    `asked` is how many points were to be turned, where whole blocks made fewer of them.
    """

    kind = OperationKind.CONVERT
    derived = frozenset({"gives"})
    amount: int
    partner: str
    gives: int
    asked: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle(OfMember):
    """Do what is due on an account: release holds and let points expire. It is no operation, and has no answer."""

    kind = OperationKind.EXPIRE


@dataclass(frozen=True, slots=True, kw_only=True)
class Balance:
    """The balances of an account at one instant, in points.

    `held` is a part of `posted`. `owed` is what a reversed earn could not take back: what comes in pays it first.
    """

    posted: int = 0
    pending: int = 0
    held: int = 0
    owed: int = 0

    @property
    def available(self) -> int:
        """What can be spent."""
        return self.posted - self.held


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What the ledger remembers under a key: done, or refused for ever. `balance` is that of right after it.

    `gives` is what a partner gives for a conversion, in its units, `arrives` what the receiver of a transfer gets.
    """

    no: int
    key: str
    kind: OperationKind
    member_id: str
    amount: int
    at: datetime
    refusal: Refusal | None = None
    balance: Balance | None = None
    subject: int | None = None
    gives: int | None = None
    arrives: int | None = None
    is_replay: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyReused:
    """The key was used before, for something else: `field` is the first that differs. Nothing was done."""

    key: str
    field: str


Answer = Operation | KeyReused
