"""Hypothesis drives the ledger on PostgreSQL beside its plain model, and checks all invariants after each operation."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta
from itertools import count
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from faregate.infra.database import Database
from faregate.points.contracts.ledger import (
    Burn,
    Cancel,
    Confirm,
    Earn,
    EarnPending,
    Extend,
    Hold,
    Post,
    Request,
    Reverse,
    Transfer,
    Void,
)
from tests.points_ledger import Beside

_examples = count()
amounts = st.sampled_from([1, 2, 4, 8, 16, 32])
parts = st.none() | st.sampled_from([1, 2, 8])
members = st.sampled_from(["ada", "bob"])
days = st.none() | st.integers(0, 4)
places = st.integers(1, 8)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def database(loop: asyncio.Runner, database_url: str) -> Iterator[Database]:
    opened = loop.run(Database.open(database_url, role="faregate_points"))
    yield opened
    loop.run(opened.close())


class Ledger(RuleBasedStateMachine):
    """A history of two members. `loop` and `database` are the test's."""

    loop: ClassVar[asyncio.Runner]
    database: ClassVar[Database]

    @initialize()
    def begin(self) -> None:
        self.suffix = next(_examples)
        self.beside = Beside(self.database, [f"{name}-{self.suffix}" for name in ("ada", "bob")])
        self.loop.run(self.beside.open())
        self.keys = count()

    def ask(self, kind: type[Request], **fields: Any) -> None:
        key = f"{self.suffix}-{next(self.keys)}"
        self.loop.run(self.beside.ask([kind(key=key, **fields)]))
        self.loop.run(self.beside.check())

    def name(self, member: str) -> str:
        return f"{member}-{self.suffix}"

    def day(self, days: int | None) -> Any:
        return None if days is None else self.beside.model.today + timedelta(days=days)

    def subject(self, place: int) -> int:
        numbers = self.beside.numbers
        return numbers[-min(place, len(numbers))] if numbers else 999_999_999

    @rule(member=members, amount=amounts, day=days, kind=st.sampled_from([Earn, Earn, EarnPending]))
    def earn(self, member: str, amount: int, day: int | None, kind: type[Request]) -> None:
        self.ask(kind, member_id=self.name(member), amount=amount, expires_on=self.day(day))

    @rule(member=members, amount=amounts, active=st.integers(0, 3))
    def earn_while_active(self, member: str, amount: int, active: int) -> None:
        until = self.day(active)
        self.ask(Earn, member_id=self.name(member), amount=amount, is_rolling=True, active_until=until)

    @rule(member=members, amount=amounts)
    def burn(self, member: str, amount: int) -> None:
        self.ask(Burn, member_id=self.name(member), amount=amount)

    @rule(member=members, amount=amounts, lasts=st.sampled_from([60, 86_400, 400_000]))
    def hold(self, member: str, amount: int, lasts: int) -> None:
        self.ask(Hold, member_id=self.name(member), amount=amount, expires_in_s=lasts)

    @rule(place=places, amount=parts, kind=st.sampled_from([Post, Confirm, Reverse]))
    def go_on_in_part(self, place: int, amount: int | None, kind: type[Request]) -> None:
        self.ask(kind, subject=self.subject(place), amount=amount)

    @rule(place=places, kind=st.sampled_from([Void, Cancel]))
    def take_back(self, place: int, kind: type[Request]) -> None:
        self.ask(kind, subject=self.subject(place))

    @rule(place=places, lasts=st.sampled_from([30, 90_000]))
    def extend(self, place: int, lasts: int) -> None:
        self.ask(Extend, subject=self.subject(place), expires_in_s=lasts)

    @rule(amount=amounts, way=st.permutations(["ada", "bob"]), is_halved=st.booleans())
    def transfer(self, amount: int, way: list[str], is_halved: bool) -> None:
        giver, taker = (self.name(name) for name in way)
        arrives = (amount + 1) // 2 if is_halved else None
        self.ask(Transfer, member_id=giver, to_member_id=taker, amount=amount, arrives=arrives)

    @rule(wait=st.sampled_from([timedelta(seconds=1), timedelta(seconds=61), timedelta(days=1)]))
    def wait(self, wait: timedelta) -> None:
        self.beside.move(wait)


@pytest.mark.requirement("L2")
@pytest.mark.requirement("L13")
def test_every_history_ends_as_in_the_model_and_adds_up_after_each_operation(
    loop: asyncio.Runner, database: Database
) -> None:
    Ledger.loop, Ledger.database = loop, database
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        Ledger,
        settings=settings(
            max_examples=40,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
        ),
    )
