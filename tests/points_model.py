"""What the ledger must do, done as plainly as possible: lists of lots, and one operation after the other.

The tests compare every answer of the ledger with this. It shares no code with `faregate.points.domain`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from faregate.points.contracts.ledger import (
    AccountStatus,
    Adjust,
    Burn,
    Confirm,
    Convert,
    Earn,
    EarnPending,
    Hold,
    OfMember,
    Post,
    Refusal,
    Request,
    Reverse,
    SetFloor,
    SetStatus,
    Transfer,
)

ALONE_MAX = 50
ROLLING = None


@dataclass(eq=False)
class Lot:
    day: date | None
    age: int
    amount: int


@dataclass
class Past:
    """An operation that was done."""

    request: Request
    member: str
    amount: int
    left: int = 0
    parts: list[tuple[Lot, int]] = field(default_factory=list)
    lots: list[Lot] = field(default_factory=list)
    ends: datetime | None = None
    resolved: str = ""
    arrived: int = 0


@dataclass
class ModelAccount:
    status: AccountStatus = AccountStatus.OPEN
    floor: int = 0
    lots: list[Lot] = field(default_factory=list)
    pending: int = 0
    held: int = 0
    owed: int = 0
    rolling_until: date | None = None

    @property
    def there(self) -> int:
        return sum(lot.amount for lot in self.lots)

    def balance(self) -> tuple[int, int, int, int]:
        return self.there + self.held, self.pending, self.held, self.owed


class No(Exception):
    def __init__(self, refusal: Refusal) -> None:
        self.refusal = refusal


class Model:
    """The ledger. `now` and `today` are the test's to move."""

    def __init__(self, members: list[str], *, now: datetime, today: date) -> None:
        self.accounts = {member: ModelAccount() for member in members}
        self.past: dict[int, Past] = {}
        self.now, self.today = now, today
        self.age = 0

    def ask(self, request: Request) -> Refusal | tuple[int, int, int, int]:
        """Do what is asked; the operation becomes number 0, until `keep` names it."""
        past = self.past.get(getattr(request, "subject", -1))
        member = past.member if past else getattr(request, "member_id", "")
        other = self._other(request, past)
        for name in {member, other} & self.accounts.keys():
            self.settle(name)
        try:
            self.latest = self._do(request, past, member)
        except No as no:
            return no.refusal
        balance = self._after(self.accounts[member])
        if other:
            self._after(self.accounts[other])
            self.settle(other)
        self.settle(member)
        return balance

    @staticmethod
    def _other(request: Request, past: Past | None) -> str:
        """Who else has a part in it: the receiver of a transfer, when it is made and when it is undone."""
        undone = past.request if past is not None and isinstance(request, Reverse) else None
        for one in (request, undone):
            if isinstance(one, Transfer):
                return one.to_member_id
        return ""

    def keep(self, number: int) -> None:
        self.past[number] = self.latest

    def settle(self, member: str) -> None:
        """Release holds whose time is over; let points expire whose day is."""
        account = self.accounts[member]
        for past in self.past.values():
            over = past.ends is not None and past.ends <= self.now
            if past.member == member and over and not past.resolved:
                past.resolved = "time_out"
                account.held -= past.amount
                self._return(account, past.parts)
        for lot in account.lots:
            if self._day(account, lot) < self.today:
                lot.amount = 0
        self._after(account)

    def _after(self, account: ModelAccount) -> tuple[int, int, int, int]:
        if not any(lot.amount and self._day(account, lot) < self.today for lot in account.lots):
            paid = min(account.owed, account.there)
            self._take(account, paid)
            account.owed -= paid
        return account.balance()

    def _day(self, account: ModelAccount, lot: Lot) -> date:
        if lot.day is not ROLLING:
            return lot.day
        return account.rolling_until or date.max

    def _order(self, account: ModelAccount) -> list[Lot]:
        return sorted(account.lots, key=lambda lot: (self._day(account, lot), lot.day is ROLLING, lot.age))

    def _take(self, account: ModelAccount, amount: int) -> list[tuple[Lot, int]]:
        parts = []
        for lot in self._order(account):
            size = min(amount, lot.amount)
            if size:
                lot.amount -= size
                amount -= size
                parts.append((lot, size))
        return parts

    @staticmethod
    def _return(account: ModelAccount, parts: list[tuple[Lot, int]]) -> None:
        for lot, size in parts:
            lot.amount += size

    @staticmethod
    def _split(
        parts: list[tuple[Lot, int]], after: int
    ) -> tuple[list[tuple[Lot, int]], list[tuple[Lot, int]]]:
        first, rest = [], []
        for lot, size in parts:
            front = min(size, after)
            after -= front
            first += [(lot, front)] if front else []
            rest += [(lot, size - front)] if size > front else []
        return first, rest

    def _add(self, account: ModelAccount, day: date | None, amount: int) -> Lot:
        self.age += 1
        account.lots.append(Lot(day, self.age, amount))
        return account.lots[-1]

    def _do(self, request: Request, past: Past | None, member: str) -> Past:
        name = type(request).__name__.lower()
        if not isinstance(request, OfMember) and past is None:
            raise No(Refusal.SUBJECT_NOT_FOUND)
        account = self.accounts.get(member)
        kinds = {
            "post": (Hold,), "void": (Hold,), "extend": (Hold,), "confirm": (EarnPending,), "cancel": (EarnPending,),
            "reverse": (Earn, Confirm, Burn, Post, Adjust, Convert, Transfer),
        }  # fmt: skip
        if past is not None and type(past.request) not in kinds[name]:
            raise No(Refusal.SUBJECT_OF_ANOTHER_KIND)
        if account is None:
            raise No(Refusal.MEMBER_UNKNOWN)
        if isinstance(request, Transfer):
            if request.to_member_id not in self.accounts:
                raise No(Refusal.RECEIVER_UNKNOWN)
            if request.to_member_id == member:
                raise No(Refusal.ACCOUNTS_EQUAL)
        if account.status is AccountStatus.CLOSED and name not in (
            "post",
            "void",
            "extend",
            "cancel",
            "setstatus",
        ):
            raise No(Refusal.ACCOUNT_CLOSED)
        if (
            isinstance(request, Transfer)
            and self.accounts[request.to_member_id].status is AccountStatus.CLOSED
        ):
            if account.status is AccountStatus.FROZEN:
                raise No(Refusal.ACCOUNT_FROZEN)
            raise No(Refusal.RECEIVER_CLOSED)
        if account.status is AccountStatus.FROZEN and name in ("burn", "hold", "transfer", "convert"):
            raise No(Refusal.ACCOUNT_FROZEN)
        done: Past = getattr(self, f"_{name}")(request, past, member, account)
        return done

    def _earn(self, request: Any, past: Any, member: str, account: ModelAccount) -> Past:
        self._dates(request)
        self._active(account, request.active_until)
        lot = self._add(
            account, ROLLING if request.is_rolling else request.expires_on or date.max, request.amount
        )
        return Past(request, member, request.amount, left=request.amount, lots=[lot])

    def _earnpending(self, request: Any, past: Any, member: str, account: ModelAccount) -> Past:
        self._dates(request)
        account.pending += request.amount
        return Past(request, member, request.amount)

    def _dates(self, request: Any) -> None:
        if request.occurred_at is not None and request.occurred_at > self.now + timedelta(minutes=1):
            raise No(Refusal.IN_THE_FUTURE)
        if request.occurred_at is not None and request.occurred_at < self.now - timedelta(days=400):
            raise No(Refusal.TOO_LONG_AGO)
        until = request.active_until if request.is_rolling else request.expires_on
        if until is not None and until < self.today:
            raise No(Refusal.ALREADY_EXPIRED)

    @staticmethod
    def _active(account: ModelAccount, until: date | None) -> None:
        if until is not None:
            account.rolling_until = max(until, account.rolling_until or until)

    def _confirm(self, request: Any, past: Past, member: str, account: ModelAccount) -> Past:
        amount = request.amount or past.amount
        self._unresolved(past)
        if amount > past.amount:
            raise No(Refusal.MORE_THAN_RESERVED)
        earn: Any = past.request
        if earn.expires_on is not None and earn.expires_on < self.today:
            raise No(Refusal.ALREADY_EXPIRED)
        past.resolved = "confirm"
        account.pending -= past.amount
        self._active(account, earn.active_until)
        lot = self._add(account, ROLLING if earn.is_rolling else earn.expires_on or date.max, amount)
        return Past(request, member, amount, left=amount, lots=[lot])

    def _cancel(self, request: Any, past: Past, member: str, account: ModelAccount) -> Past:
        self._unresolved(past)
        past.resolved = "cancel"
        account.pending -= past.amount
        return Past(request, member, past.amount)

    @staticmethod
    def _unresolved(past: Past) -> None:
        refusals = {
            "post": Refusal.ALREADY_POSTED, "confirm": Refusal.ALREADY_POSTED, "void": Refusal.ALREADY_VOIDED,
            "cancel": Refusal.ALREADY_VOIDED, "time_out": Refusal.HOLD_EXPIRED,
        }  # fmt: skip
        if past.resolved:
            raise No(refusals[past.resolved])

    def _spend(self, request: Any, member: str, account: ModelAccount, amount: int) -> Past:
        if account.there - amount < account.floor:
            raise No(Refusal.INSUFFICIENT_POINTS)
        self._active(account, getattr(request, "active_until", None))
        return Past(request, member, amount, left=amount, parts=self._take(account, amount))

    def _burn(self, request: Any, past: Any, member: str, account: ModelAccount) -> Past:
        return self._spend(request, member, account, request.amount)

    _convert = _burn

    def _adjust(self, request: Any, past: Any, member: str, account: ModelAccount) -> Past:
        if request.expires_on is not None and request.expires_on < self.today:
            raise No(Refusal.ALREADY_EXPIRED)
        if abs(request.amount) > ALONE_MAX and request.approved_by in ("", request.by):
            raise No(Refusal.SECOND_PERSON_NEEDED)
        if request.amount < 0:
            return self._spend(request, member, account, -request.amount)
        lot = self._add(account, request.expires_on or date.max, request.amount)
        return Past(request, member, request.amount, left=request.amount, lots=[lot])

    def _hold(self, request: Any, past: Any, member: str, account: ModelAccount) -> Past:
        done = self._spend(request, member, account, request.amount)
        account.held += request.amount
        done.ends = self.now + timedelta(seconds=request.expires_in_s)
        return done

    def _post(self, request: Any, past: Past, member: str, account: ModelAccount) -> Past:
        amount = request.amount or past.amount
        self._unresolved(past)
        if amount > past.amount:
            raise No(Refusal.MORE_THAN_RESERVED)
        self._active(account, request.active_until)
        past.resolved = "post"
        account.held -= past.amount
        spent, released = self._split(past.parts, amount)
        self._return(account, released)
        return Past(request, member, amount, left=amount, parts=spent)

    def _void(self, request: Any, past: Past, member: str, account: ModelAccount) -> Past:
        self._unresolved(past)
        past.resolved = "void"
        account.held -= past.amount
        self._return(account, past.parts)
        return Past(request, member, past.amount)

    def _extend(self, request: Any, past: Past, member: str, account: ModelAccount) -> Past:
        self._unresolved(past)
        until = self.now + timedelta(seconds=request.expires_in_s)
        past.ends = max(until, past.ends or until)
        return Past(request, member, 0)

    def _reverse(self, request: Any, past: Past, member: str, account: ModelAccount) -> Past:
        given = past.request if isinstance(past.request, Transfer) else None
        if given is not None and self.accounts[given.to_member_id].status is AccountStatus.CLOSED:
            raise No(Refusal.RECEIVER_CLOSED)
        if past.left == 0:
            raise No(Refusal.ALREADY_REVERSED)
        amount = request.amount or past.left
        if amount > past.left:
            raise No(Refusal.MORE_THAN_LEFT)
        if given is not None:
            share = self._arrived(past, past.left) - self._arrived(past, past.left - amount)
            self._take_back(self.accounts[given.to_member_id], past.lots[::-1], share)
        elif past.lots:
            self._take_back(account, past.lots, amount)
        if given is not None or not past.lots:
            kept, _ = self._split(past.parts, past.left)
            _, returned = self._split(kept, past.left - amount)
            self._return(account, returned)
        past.left -= amount
        return Past(request, member, amount)

    @staticmethod
    def _arrived(past: Past, amount: int) -> int:
        return past.arrived * amount // past.amount

    def _take_back(self, account: ModelAccount, lots: list[Lot], amount: int) -> None:
        for lot in lots:
            size = min(amount, lot.amount)
            lot.amount -= size
            amount -= size
        amount -= sum(size for _, size in self._take(account, amount))
        account.owed += amount

    def _transfer(self, request: Any, past: Any, member: str, account: ModelAccount) -> Past:
        receiver = self.accounts[request.to_member_id]
        done = self._spend(request, member, account, request.amount)
        done.arrived = request.arrives or request.amount
        days: dict[date | None, int] = {}
        for lot, size in done.parts:
            days[lot.day] = days.get(lot.day, 0) + size
        passed = given = 0
        for day, size in days.items():
            passed += size
            share = done.arrived * passed // request.amount - given
            given += share
            if share:
                done.lots.append(self._add(receiver, day, share))
        if ROLLING in days:
            self._active(receiver, account.rolling_until)
        return done

    def _setstatus(self, request: SetStatus, past: Any, member: str, account: ModelAccount) -> Past:
        if request.status is AccountStatus.CLOSED and account.balance() != (0, 0, 0, 0):
            raise No(Refusal.ACCOUNT_NOT_EMPTY)
        account.status = request.status
        return Past(request, member, 0)

    def _setfloor(self, request: SetFloor, past: Any, member: str, account: ModelAccount) -> Past:
        account.floor = request.floor
        return Past(request, member, 0)
