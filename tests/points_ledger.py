"""A ledger on a database of its own, and random requests for it, seeded or drawn by Hypothesis."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from itertools import count

from faregate.infra.database import Database
from faregate.points.contracts.ledger import (
    AccountStatus,
    Adjust,
    Burn,
    Cancel,
    Confirm,
    Convert,
    Earn,
    EarnPending,
    Extend,
    Hold,
    Operation,
    Post,
    Request,
    Reverse,
    SetFloor,
    SetStatus,
    Transfer,
    Void,
)
from faregate.points.domain.case import Rules
from faregate.points.handlers.reconcile import reconcile
from faregate.points.handlers.writer import LedgerWriter
from faregate.points.store.batch import open_accounts
from tests.points_model import ALONE_MAX, Model

START = datetime(2026, 3, 1, 12, tzinfo=UTC)
MEMBERS = ["ada", "bob", "eve"]
STATUSES = [*AccountStatus, AccountStatus.OPEN, AccountStatus.OPEN]


@dataclass
class MovedClock:
    """A clock that the test moves."""

    time: datetime = START

    def now(self) -> datetime:
        return self.time


def day_of(instant: datetime) -> date:
    return instant.date()


@dataclass
class Beside:
    """The ledger and its model, asked the same; every answer is compared."""

    database: Database
    members: list[str]
    clock: MovedClock = field(default_factory=MovedClock)
    numbers: list[int] = field(default_factory=list)
    transfers: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.model = Model(self.members, now=START, today=START.date())
        self.writer = LedgerWriter(
            database=self.database,
            day_of=day_of,
            clock=self.clock,
            rules=Rules(adjust_alone_max=ALONE_MAX),
        )

    async def open(self) -> None:
        async with self.database.transaction() as conn:
            await open_accounts(conn, self.members, at=START)

    def move(self, by: timedelta) -> None:
        self.clock.time += by
        self.model.now, self.model.today = self.clock.time, day_of(self.clock.time)

    async def ask(self, requests: list[Request]) -> None:
        """Ask both, as one batch; whatever differs fails."""
        answers = await self.writer.write(requests)
        for request, answer in zip(requests, answers, strict=True):
            assert isinstance(answer, Operation), (request, answer)
            expected = self.model.ask(request)
            if answer.refusal is not None:
                assert answer.refusal is expected, (request, answer, expected)
                continue
            balance = answer.balance
            assert balance is not None
            found = (balance.posted, balance.pending, balance.held, balance.owed)
            assert found == expected, (request, answer, expected)
            self.model.keep(answer.no)
            self.numbers.append(answer.no)
            if isinstance(request, Transfer):
                self.transfers.append(answer.no)

    async def check(self) -> None:
        """All invariants, over all accounts."""
        found = await reconcile(self.database, member_ids=self.members)
        assert found.breaks == {}
        assert found.unbalanced == ()


class RandomRequests:
    """Requests as nobody would ask for them: all kinds, all members, half of them about what was."""

    def __init__(self, seed: int, *, members: list[str], prefix: str) -> None:
        self._random = random.Random(seed)
        self._members = members
        self._keys = (f"{prefix}-{number}" for number in count())

    def next(self, beside: Beside) -> Request:
        r, key = self._random, next(self._keys)
        today = day_of(beside.clock.time)
        member = r.choice([*self._members, r.choice([*self._members, "nobody"])])
        subject = r.choice(beside.numbers[-12:]) if beside.numbers and r.random() < 0.95 else 999_999_999
        amount = r.choice([1, 2, 4, 8, 16, 32])
        part = r.choice([None, 1, 2, 8])
        day = r.choice([None, *(today + timedelta(days=days) for days in (-1, 0, 1, 2, 3, 5))])
        active = r.choice([None, today + timedelta(days=r.choice([0, 2, 4]))])
        rolling = active is not None and r.random() < 0.4
        kinds: list[Callable[[], Request]] = [
            lambda: Earn(key=key, member_id=member, amount=amount, expires_on=None if rolling else day,
                         is_rolling=rolling, active_until=active),
            lambda: Earn(key=key, member_id=member, amount=amount * 2, expires_on=day),
            lambda: EarnPending(key=key, member_id=member, amount=amount, expires_on=day),
            lambda: Confirm(key=key, subject=subject, amount=part),
            lambda: Cancel(key=key, subject=subject),
            lambda: Burn(key=key, member_id=member, amount=amount, active_until=active),
            lambda: Adjust(key=key, member_id=member, amount=r.choice([amount, -amount, 80]), reason="test",
                           approved_by=r.choice(["", "eve", "system"]), expires_on=day),
            lambda: Hold(key=key, member_id=member, amount=amount, expires_in_s=r.choice([60, 86_400])),
            lambda: Hold(key=key, member_id=member, amount=amount, expires_in_s=200_000),
            lambda: Post(key=key, subject=subject, amount=part, active_until=active),
            lambda: Void(key=key, subject=subject),
            lambda: Extend(key=key, subject=subject, expires_in_s=r.choice([30, 90_000])),
            lambda: Reverse(key=key, subject=subject, amount=part),
            lambda: Reverse(key=key, subject=r.choice(beside.transfers or [subject]), amount=part),
            lambda: Transfer(key=key, member_id=member, amount=amount, arrives=r.choice([None, (amount + 1) // 2]),
                             to_member_id=r.choice([*self._members, "nobody"])),
            lambda: Convert(key=key, member_id=member, amount=amount, partner="airline", gives=amount // 2),
            lambda: r.choice([
                SetFloor(key=key, member_id=member, floor=r.choice([0, 0, 5]), reason="test"),
                SetStatus(key=key, member_id=member, reason="test", status=r.choice(STATUSES)),
            ]) if r.random() < 0.3 else Earn(key=key, member_id=member, amount=amount, expires_on=day),
        ]  # fmt: skip
        return r.choice(kinds)()

    def wait(self) -> timedelta:
        """How long nothing happens: mostly a moment, at times days."""
        return self._random.choice([timedelta(seconds=1)] * 6 + [timedelta(seconds=61), timedelta(days=1)])

    def size(self) -> int:
        return self._random.choice([1, 1, 1, 2, 5])


async def run_seed(database: Database, seed: int, *, operations: int, checked_each: bool) -> None:
    """Run random requests beside the model; every answer, and all invariants at the end or after each batch."""
    members = [f"{name}-{seed}" for name in MEMBERS]
    beside = Beside(database, members)
    await beside.open()
    requests = RandomRequests(seed, members=members, prefix=str(seed))
    done = 0
    while done < operations:
        batch = [requests.next(beside) for _ in range(requests.size())]
        await beside.ask(batch)
        if checked_each:
            await beside.check()
        beside.move(requests.wait())
        done += len(batch)
    await beside.check()
