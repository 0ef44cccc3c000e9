"""The one write path of the ledger: requests that arrive together are decided in memory and written together.

Each batch is one transaction: its accounts are locked in the order of their numbers, so that no two batches wait for
each other, keys are looked at under the locks, and everything is written in set-based statements that go out with the
COMMIT. An idle writer takes a lone request at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import structlog

from faregate.infra.coalescer import Coalescer
from faregate.infra.database import Connection, Database
from faregate.kernel.clock import Clock
from faregate.kernel.errors import UnavailableError
from faregate.points.contracts.ledger import (
    Adjust,
    Answer,
    Confirm,
    Earn,
    KeyReused,
    OfMember,
    OfSubject,
    Operation,
    OperationKind,
    Request,
    Reverse,
    Settle,
    Transfer,
)
from faregate.points.domain.account import ALL, Account
from faregate.points.domain.case import Decided, Desk, Rules, Subject
from faregate.points.domain.lots import ROLLING
from faregate.points.domain.operations import day_of_lots, decide, settle_due
from faregate.points.store import batch as store
from faregate.points.store.batch import Known, Locked
from faregate.points.store.rows import cutter_of

_log = structlog.get_logger(__name__)

TRIES: Final = 5
AHEAD: Final = timedelta(days=1)
"""Lots that end before tomorrow are read in any case, so that the database may be on the next day already."""
MEMBERS_KNOWN_MAX: Final = 200_000

Announce = Callable[[Connection, Sequence[Decided]], Any]


class LedgerBusy(UnavailableError):
    """The same keys were used by others again and again while this batch was written. Nothing of it was done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WriterOptions:
    """How the writer works. Several batches at once overlap deciding with writing."""

    batch_max: int = 500
    writers_max: int = 2


class LedgerWriter:
    """Carries out requests. `clock` None: all times are the database's, which all processes share."""

    def __init__(
        self,
        *,
        database: Database,
        day_of: Callable[[datetime], date],
        announce: Announce | None = None,
        rules: Rules | None = None,
        clock: Clock | None = None,
        options: WriterOptions = WriterOptions(),
    ) -> None:
        self._database = database
        self._day_of = day_of
        self._announce = announce
        self._rules = rules or Rules()
        self._clock = clock
        self._numbers: dict[str, int] = {}
        self._coalescer = Coalescer[Request, Answer | None](
            write=self.write, batch_max=options.batch_max, writers_max=options.writers_max
        )

    async def submit(self, request: Request) -> Answer | None:
        """Carry out a request, or return what came of it before. None for `Settle`, which is no operation."""
        return await self._coalescer.submit(request)

    def delay_s(self) -> float:
        """Return for how long a request that is handed over now would be under way."""
        return self._coalescer.delay_s()

    async def close(self) -> None:
        """Wait until all that was handed over is written."""
        await self._coalescer.close()

    async def write(self, requests: Sequence[Request]) -> list[Answer | None]:
        """Carry out a batch in one transaction; the answers are in the order of the requests.

        A key that others used at the same moment, on another account, makes the batch begin again.
        Raises LedgerBusy when that happens again and again.
        """
        for _ in range(TRIES):
            try:
                return await self._write(requests)
            except store.KeyTaken as error:
                _log.info("points.batch_again", error=str(error))
        raise LedgerBusy("the same keys are being used by others")

    async def _write(self, requests: Sequence[Request]) -> list[Answer | None]:
        now = None if self._clock is None else self._clock.now()
        async with store.batch(self._database) as conn:
            found = await self._subjects(conn, requests)
            await self._know_accounts(conn, requests)
            needs = Needs(requests, found=found, numbers=self._numbers)
            locked = await store.lock(
                conn,
                wanted=needs.wanted,
                keys=[request.key for request in requests],
                subjects=list(found),
                earned=needs.earned,
                now=now,
                load_until=self._day_of(now or datetime.now(UTC)) + AHEAD,
            )
            batch = _Batch(
                requests=requests, found=found, locked=locked, rules=self._rules, day_of=self._day_of
            )
            await batch.load(conn)
            answers = batch.decide()
            if batch.decided:
                await batch.number(conn)
                await store.save(conn, batch.decided, accounts=batch.touched())
                if self._announce is not None:
                    await self._announce(conn, batch.decided)
        return [answer() for answer in answers]

    async def _subjects(self, conn: Connection, requests: Sequence[Request]) -> dict[int, Mapping[str, Any]]:
        """Read what requests refer to; of a posted hold also the hold, of a transfer what the receiver got."""
        numbers = {request.subject for request in requests if isinstance(request, OfSubject)}
        if not numbers:
            return {}
        found = await store.subjects(conn, sorted(numbers))
        holds = {row["subject_no"] for row in found.values() if row["kind"] == OperationKind.POST} - numbers
        transfers = [row["no"] for row in found.values() if row["kind"] == OperationKind.TRANSFER]
        if transfers:
            found |= await store.receipts(conn, transfers)
        return found | (await store.subjects(conn, sorted(holds)) if holds else {})

    async def _know_accounts(self, conn: Connection, requests: Sequence[Request]) -> None:
        """Learn the numbers of all accounts that a batch is about. They never change."""
        members = {request.member_id for request in requests if isinstance(request, OfMember)}
        members |= {request.to_member_id for request in requests if isinstance(request, Transfer)}
        unknown = members - self._numbers.keys()
        if unknown:
            if len(self._numbers) > MEMBERS_KNOWN_MAX:
                self._numbers.clear()
                unknown = members
            self._numbers |= await store.account_numbers(conn, unknown)


class Needs:
    """What must be read to decide requests: which accounts, how much of each may be cut, on which days is earned."""

    def __init__(
        self,
        requests: Sequence[Request],
        *,
        found: Mapping[int, Mapping[str, Any]],
        numbers: Mapping[str, int],
    ) -> None:
        self.wanted: dict[int, int] = {row["account_no"]: 0 for row in found.values()}
        received = {row["subject_no"]: row for row in found.values() if row["kind"] == OperationKind.RECEIVE}
        self.earned: set[tuple[int, date]] = set()
        for request in requests:
            if isinstance(request, OfMember):
                no, details = numbers.get(request.member_id), request.details()
                amount = abs(getattr(request, "amount", 0))
            else:
                row = found.get(request.subject) if isinstance(request, OfSubject) else None
                no, details = (row["account_no"], row["details"] or {}) if row else (None, {})
                amount = abs(row["amount"]) if row else 0
            if no is not None:
                self._add(no, amount)
                day = day_of_lots(details)
                if isinstance(request, Earn | Adjust | Confirm) and day != ROLLING:
                    self.earned.add((no, day))
            if isinstance(request, Reverse) and request.subject in received:
                receipt = received[request.subject]
                self._add(receipt["account_no"], receipt["amount"])
            if isinstance(request, Transfer) and request.to_member_id in numbers:
                self._add(numbers[request.to_member_id], ALL)  # on which days, is not known yet

    def _add(self, no: int, amount: int) -> None:
        self.wanted[no] = min(ALL, self.wanted.get(no, 0) + amount)


class _Batch:
    """The requests of one batch between being locked and being written."""

    def __init__(
        self,
        *,
        requests: Sequence[Request],
        found: Mapping[int, Mapping[str, Any]],
        locked: Locked,
        rules: Rules,
        day_of: Callable[[datetime], date],
    ) -> None:
        self._requests = requests
        self._found = found
        self._locked = locked
        self._now = locked.now
        self._fresh = [request for request in requests if request.key not in locked.known]
        self._by_no = {account.no: account for account in locked.accounts.values()}
        self._reservations = {row["operation_no"]: row for row in locked.reservations}
        self._desk = Desk(
            accounts=locked.accounts,
            subjects={},
            due={},
            now=locked.now,
            today=day_of(locked.now),
            rules=rules,
        )
        self.decided: list[Decided] = []

    async def load(self, conn: Connection) -> None:
        """Read what the subjects moved, as far as the requests that are new need it."""
        due = [row for row in self._locked.reservations if self._is_due(row)]
        referred = {request.subject for request in self._fresh if isinstance(request, OfSubject)}
        subjects = [row for no, row in self._found.items() if no in referred]
        cut_by = {cutter_of(row) for row in subjects} | {row["operation_no"] for row in due}
        if cut_by:
            await self._load_subjects(conn, subjects, due=due, cut_by=cut_by)

    async def _load_subjects(
        self,
        conn: Connection,
        subjects: Sequence[Mapping[str, Any]],
        *,
        due: Sequence[Mapping[str, Any]],
        cut_by: set[int],
    ) -> None:
        receipts = {
            row["subject_no"]: row for row in self._found.values() if row["kind"] == OperationKind.RECEIVE
        }
        earned_by = [row["no"] for row in subjects] + [row["no"] for row in receipts.values()]
        cuts, lots, reversed_ = await store.load_moves(
            conn, accounts=self._by_no, cut_by=sorted(cut_by), earned_by=earned_by
        )
        made: dict[int, Subject] = {}
        for row in subjects:
            no = row["no"]
            made[no] = store.subject_of(
                row,
                reservation=self._reservations.get(no),
                reversed_amount=reversed_.get(no, 0),
                cuts=cuts.get(cutter_of(row), ()),
                lots=lots.get(no, ()),
                receipt=store.receipt_of(receipts.get(no), lots=lots),
            )
        for row in due:
            no = row["operation_no"]
            hold = made.get(no) or store.hold_of(row, cuts=cuts.get(no, ()))
            self._desk.due.setdefault(hold.account_no, []).append(hold)
        self._desk.subjects = made

    def decide(self) -> list[Callable[[], Answer | None]]:
        """Decide the requests in their order; the answers are complete once the operations have their numbers."""
        answers: list[Callable[[], Answer | None]] = []
        first: dict[str, Decided] = {}
        for request in self._requests:
            known = self._locked.known.get(request.key)
            if known is not None:
                answers.append(_remembered(request, known))
            elif request.key in first:
                answers.append(_repeated(request, first[request.key]))
            elif isinstance(request, Settle):
                account = self._desk.accounts.get(request.member_id)
                self.decided += settle_due(self._desk, account) if account else []
                answers.append(_nothing)
            else:
                decided = decide(self._desk, request)
                this = next(one for one in decided if one.key == request.key)
                first[request.key] = this
                self.decided += decided
                answers.append(_done(this))
        return answers

    async def number(self, conn: Connection) -> None:
        """Give the operations their numbers, in their order."""
        missing = len(self.decided) - len(self._locked.numbers)
        numbers = sorted(
            self._locked.numbers + (await store.draw_numbers(conn, missing) if missing > 0 else [])
        )
        for one, no in zip(self.decided, numbers, strict=False):
            one.no = no

    def touched(self) -> list[Account]:
        """Return the accounts that changed."""
        done = {one.account.no for one in self.decided if one.account is not None and one.refusal is None}
        return [self._by_no[no] for no in sorted(done)]

    def _is_due(self, row: Mapping[str, Any]) -> bool:
        ends = row["expires_at"]
        return row["resolved_by"] is None and ends is not None and ends <= self._now


def _nothing() -> None:
    return None


def _done(this: Decided, *, is_replay: bool = False) -> Callable[[], Operation]:
    def answer() -> Operation:
        return Operation(
            no=this.no,
            key=this.key,
            kind=this.kind,
            member_id=this.member_id,
            amount=this.amount,
            at=this.at,
            refusal=this.refusal,
            balance=this.balance,
            subject=this.subject_no,
            gives=this.details.get("gives"),
            arrives=this.details.get("arrives"),
            is_replay=is_replay,
        )

    return answer


def _remembered(request: Request, known: Known) -> Callable[[], Answer]:
    field = _difference(request, known.operation, known.details)
    answer = known.operation if field is None else KeyReused(key=request.key, field=field)
    return lambda: answer


def _repeated(request: Request, first: Decided) -> Callable[[], Answer]:
    """Answer a request whose key came before in the same batch."""
    field = _difference(request, first, first.details)
    if field is not None:
        reused = KeyReused(key=request.key, field=field)
        return lambda: reused
    return _done(first, is_replay=True)


def _difference(request: Request, known: Operation | Decided, details: Mapping[str, Any]) -> str | None:
    """Return the first field in which a request differs from what stands under its key.

    Of an amount it is what was asked for that counts, not what the programme's terms of then made of it.
    """
    asked: dict[str, Any] = {"kind": request.kind}
    stands: dict[str, Any] = {"kind": known.kind}
    if isinstance(request, OfMember):
        asked |= {"member_id": request.member_id, "amount": getattr(request, "amount", 0)}
        stands |= {"member_id": known.member_id, "amount": known.amount}
    if isinstance(request, OfSubject):
        asked["subject"] = request.subject
        stands["subject"] = known.subject_no if isinstance(known, Decided) else known.subject
    asked |= request.details()
    stands |= details
    for one in (asked, stands):
        if "asked" in one:
            one["amount"] = one.pop("asked")
    names = (name for name in {**asked, **stands} if name not in request.derived)
    return next((name for name in names if asked.get(name) != stands.get(name)), None)
