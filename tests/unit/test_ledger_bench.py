"""The ledger benchmark finds what a broken ledger does wrong, and nothing wrong with one that is right."""

from __future__ import annotations

import asyncio
import re
from collections import Counter
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from faregate.bench.ledger.checker import violations
from faregate.bench.ledger.drive import OUTSTANDING_MAX, Driven, Driver
from faregate.bench.ledger.port import DONE, Holding, LedgerUnderTest
from faregate.bench.ledger.workload import Skew, accounts_of, transfers

HOWTO = Path("docs/howto/measure-your-ledger.md")
ACCOUNTS = accounts_of(3)
HAD = 50


def blocks() -> list[str]:
    """Return the programs of the how-to."""
    return re.findall(r"```python\n(.*?)```", HOWTO.read_text(), re.DOTALL)


def in_memory() -> Any:
    names: dict[str, Any] = {}
    exec(blocks()[0], names)
    return names["InMemory"]


class Forgetful(in_memory()):  # type: ignore[misc]
    """Does what it did again."""

    async def once(self, key: str, act: Any, *given: Any) -> str:
        return str(act(*given))


class Generous(in_memory()):  # type: ignore[misc]
    """Holds what is not there."""

    def reserve(self, key: str, account: str, amount: int) -> str:
        self.holds[key] = amount
        return str(self.change(account, 0, amount))


class Fickle(in_memory()):  # type: ignore[misc]
    """Answers otherwise the second time."""

    async def once(self, key: str, act: Any, *given: Any) -> str:
        known = key in self.answers
        answer = await super().once(key, act, *given)
        return "again" if known else str(answer)


class Leaky(in_memory()):  # type: ignore[misc]
    """Forgets to release what it voids."""

    def end(self, hold: str, account: str, is_spent: bool) -> str:
        return str(super().end(hold, account, is_spent)) if is_spent else DONE


class Twice(in_memory()):  # type: ignore[misc]
    """Lets a hold end as often as anybody likes."""

    def end(self, hold: str, account: str, is_spent: bool) -> str:
        self.holds.setdefault(hold, 1)
        return str(super().end(hold, account, is_spent))


async def driven(ledger: LedgerUnderTest, *, count: int = 300) -> list[str]:
    """Drive a ledger that soon runs dry, and return what is wrong with its answers."""
    await ledger.open(ACCOUNTS)
    for account in ACCOUNTS:
        await ledger.earn(f"endow-{account}", account, HAD)
    driver = Driver(ledger, prefix="t")
    for transfer in islice(transfers(ACCOUNTS, skew=Skew.ZIPF_1, seed=1), count):
        await driver._transfer(transfer, due=0.0)
    ended = next(call for call in driver.driven.calls if call.kind == "post" and call.answer == DONE)
    again = await ledger.void("again", ended.hold, ended.account)
    calls = [
        *driver.driven.calls,
        type(ended)(**{**_fields(ended), "kind": "void", "key": "again", "answer": again}),
    ]
    balances = {account: await ledger.balance(account) for account in ACCOUNTS}
    return violations(calls, earned=dict.fromkeys(ACCOUNTS, HAD), balances=balances)


def _fields(call: Any) -> dict[str, Any]:
    return {name: getattr(call, name) for name in call.__slots__}


async def test_nothing_is_wrong_with_a_ledger_that_is_right() -> None:
    assert await driven(in_memory()()) == []


@pytest.mark.parametrize(
    ("broken", "wrong"),
    [
        (Forgetful, "its calls leave"), (Generous, "were given away"), (Fickle, "got the answers"),
        (Leaky, "its calls leave"), (Twice, "ended twice"),
    ],
)  # fmt: skip
async def test_what_a_broken_ledger_does_wrong_is_said(broken: Any, wrong: str) -> None:
    assert wrong in "\n".join(await driven(broken()))


def test_transfers_are_the_same_for_a_seed_and_spread_as_they_should_be() -> None:
    accounts = accounts_of(100)

    def spread(skew: Skew) -> Counter[str]:
        return Counter(one.account for one in islice(transfers(accounts, skew=skew, seed=3), 4_000))

    assert spread(Skew.ZIPF_1) == spread(Skew.ZIPF_1)
    assert spread(Skew.HOT) == {"acc_0": 4_000}
    assert max(spread(Skew.UNIFORM).values()) < 80
    assert 0.55 < spread(Skew.ZIPF_2)["acc_0"] / 4_000 < 0.68  # 1 / (1 + 1/4 + 1/9 + ...)
    shares = Counter(one.end for one in islice(transfers(accounts, skew=Skew.UNIFORM, seed=3), 4_000))
    assert 0.8 < shares["post"] / 4_000 < 0.9


class Silent(in_memory()):  # type: ignore[misc]
    """Never answers a hold, until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.go = asyncio.Event()
        self.asked = 0

    async def hold(self, key: str, account: str, amount: int) -> str:
        self.asked += 1
        await self.go.wait()
        return "insufficient"


async def test_what_falls_due_while_too_much_is_under_way_is_dropped_and_counted() -> None:
    ledger, offered = Silent(), OUTSTANDING_MAX + 500
    driver = Driver(ledger, prefix="t")
    load = transfers(ACCOUNTS, skew=Skew.UNIFORM, seed=1)
    driving = asyncio.create_task(driver.at_rate(load, per_s=100_000, seconds=offered / 100_000))
    async with asyncio.timeout(20):
        while driver.driven.dropped < 500:  # noqa: ASYNC110 - counted by another task
            await asyncio.sleep(0.01)
    ledger.go.set()
    found: Driven = await driving
    assert (found.dropped, found.transfers, found.failed) == (500, OUTSTANDING_MAX, 0)
    assert isinstance(Holding(1, 0), tuple)


def test_the_how_to_runs_as_it_is_written(capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {}
    for block in blocks():
        exec(block, names)
    [figures] = names["measured"].figures
    assert figures.violations == []
    assert figures.per_s > 0
    assert "round 1 of 1" in capsys.readouterr().out
