"""Measures ledgers side by side: each takes its turn at every workload, and is checked after it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

from faregate.bench.ledger.checker import violations
from faregate.bench.ledger.drive import Call, Driven, Driver
from faregate.bench.ledger.port import DONE, Holding, LedgerUnderTest
from faregate.bench.ledger.workload import Skew, Transfer, accounts_of, transfers
from faregate.bench.verdict import percentile

ENDOWMENT = 10**9
LONE_HOLDS = 200
HALF, TOO_MUCH = 0.5, 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerPlan:
    """How much. Each workload runs for `seconds` as fast as it goes, then at half of that rate, then at too much."""

    accounts: int = 2_000
    clients: int = 128
    seconds: float = 6.0
    rounds: int = 1
    seed: int = 1
    skews: Sequence[Skew] = tuple(Skew)


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What one ledger did under one workload. `dropped_share` is of an offered rate of 1.5 times what it takes."""

    ledger: str
    skew: Skew
    per_s: float
    half_ms_p50: float
    half_ms_p99: float
    half_dropped: int
    dropped_share: float
    failed: int
    violations: Sequence[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """All figures, the median of a lone hold by ledger in milliseconds, and how many deadlocks there were."""

    figures: Sequence[Figures]
    lone_hold_ms: Mapping[str, float]
    deadlocks: int

    def per_s(self, ledger: str, skew: Skew) -> float:
        """Return the transfers a second of a ledger under a workload, the median of the rounds."""
        found = [one.per_s for one in self.figures if (one.ledger, one.skew) == (ledger, skew)]
        return median(found) if found else 0.0


async def measure(
    ledgers: Mapping[str, LedgerUnderTest],
    plan: LedgerPlan,
    *,
    deadlocks: Callable[[], Awaitable[int]],
    say: Callable[[str], None],
) -> Measured:
    """Measure ledgers, the order of their turns changing from round to round."""
    before = await deadlocks()
    accounts = accounts_of(plan.accounts)
    for name, ledger in ledgers.items():
        say(f"{name}: opening {plan.accounts:,} accounts")
        await ledger.open(accounts)
        await endow(ledger, accounts)
    lone = await _lone_holds(ledgers, accounts)
    figures: list[Figures] = []
    calls: dict[str, list[Call]] = {name: [] for name in ledgers}
    for number in range(plan.rounds):
        for skew in plan.skews:
            turns = list(ledgers.items())
            for name, ledger in turns[:: -1 if number % 2 else 1]:
                say(f"{name}: {skew.value}, round {number + 1} of {plan.rounds}")
                found = await _figures(name, ledger, plan, skew, number=number, earlier=calls[name])
                figures.append(found)
    return Measured(figures=figures, lone_hold_ms=lone, deadlocks=await deadlocks() - before)


async def endow(ledger: LedgerUnderTest, accounts: Sequence[str]) -> None:
    """Give accounts more points than any workload takes. Raises RuntimeError when the ledger refuses."""
    for account in accounts:
        answer = await ledger.earn(f"endow-{account}", account, ENDOWMENT)
        if answer != DONE:
            raise RuntimeError(f"{account} could not be endowed: {answer}")


async def _lone_holds(ledgers: Mapping[str, LedgerUnderTest], accounts: Sequence[str]) -> dict[str, float]:
    """Time holds that come alone, the ledgers in turn, so that a busy moment hits all of them; then release them."""
    taken: dict[str, list[float]] = {name: [] for name in ledgers}
    for number in range(LONE_HOLDS):
        account = accounts[number % len(accounts)]
        for name, ledger in ledgers.items():
            began = perf_counter()
            await ledger.hold(f"lone-{number}", account, 1)
            taken[name].append(perf_counter() - began)
            await ledger.void(f"lone-void-{number}", f"lone-{number}", account)
    return {name: median(times) * 1000 for name, times in taken.items()}


async def _figures(
    name: str, ledger: LedgerUnderTest, plan: LedgerPlan, skew: Skew, *, number: int, earlier: list[Call]
) -> Figures:
    accounts = accounts_of(plan.accounts)

    def driver(phase: str) -> Driver:
        return Driver(ledger, prefix=f"{skew.name}{number}{phase}-")

    def load(phase: int) -> Iterator[Transfer]:
        return transfers(accounts, skew=skew, seed=plan.seed + 10 * number + phase)

    flat = await driver("f").as_fast_as_it_takes(load(1), clients=plan.clients, seconds=plan.seconds)
    half = await driver("h").at_rate(load(2), per_s=flat.transfers_per_s * HALF, seconds=plan.seconds)
    over = await driver("o").at_rate(load(3), per_s=flat.transfers_per_s * TOO_MUCH, seconds=plan.seconds / 2)
    for driven in (flat, half, over):
        earlier += driven.calls
    touched = {call.account for call in earlier}
    balances = {account: await ledger.balance(account) for account in sorted(touched)}
    return Figures(
        ledger=name,
        skew=skew,
        per_s=flat.transfers_per_s,
        half_ms_p50=_ms(half, 50),
        half_ms_p99=_ms(half, 99),
        half_dropped=half.dropped,
        dropped_share=over.dropped / max(1, over.dropped + over.transfers + over.failed),
        failed=flat.failed + half.failed + over.failed,
        violations=_violations(earlier, balances)[:5],
    )


def _violations(calls: Sequence[Call], balances: Mapping[str, Holding]) -> list[str]:
    return violations(calls, earned=dict.fromkeys(balances, ENDOWMENT), balances=balances)


def _ms(driven: Driven, percent: int) -> float:
    return percentile(sorted(driven.latencies_s), percent) * 1000
