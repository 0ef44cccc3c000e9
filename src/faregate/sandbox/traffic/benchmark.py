"""The simulator of the fraud benchmark: the same 1,754,155 payments with the same 14,681 frauds on every machine.

Written from the published specification of the simulated data set of the Fraud-Detection-Handbook (Le Borgne et al.,
ULB and Worldline, 2021): the order in which random numbers are drawn is a part of it, so this draws them in that order
from the generators that NumPy and Python have kept unchanged. Its check values are tests.

Whatever extends it (addresses, devices, clicks) does not belong here, so that figures stay comparable.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import numpy as np
from numpy.typing import NDArray

BEGINS: Final = datetime(2018, 4, 1, tzinfo=UTC)
DAY_S: Final = 86_400
DAYS: Final = 183
CUSTOMERS: Final = 5_000
TERMINALS: Final = 10_000
RADIUS: Final = 5.0

NOON_S: Final = DAY_S / 2
SPREAD_S: Final = 20_000
LARGE_MINOR: Final = 22_000
"""Above this a payment is a fraud of the first kind."""
TERMINALS_A_DAY, TERMINAL_DAYS = 2, 28
CUSTOMERS_A_DAY, CUSTOMER_DAYS = 3, 14
LEAKED_SHARE: Final = 3
LEAKED_FACTOR: Final = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Customers:
    """Where customers live and how they pay, a row each. Amounts in whole units of the currency."""

    x: NDArray[np.float64]
    y: NDArray[np.float64]
    mean_amount: NDArray[np.float64]
    payments_a_day: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Payments:
    """Payments in the order of their time, a row each; the row is the payment's id.

    `at_s` is in seconds since `BEGINS`, `amount_minor` in hundredths. `scenario` is 0 for an honest payment, else which
    of the three kinds of fraud it is: the latest where it is of several.
    """

    at_s: NDArray[np.int64]
    customer: NDArray[np.int32]
    terminal: NDArray[np.int32]
    amount_minor: NDArray[np.int64]
    scenario: NDArray[np.int8]

    def __len__(self) -> int:
        """How many payments there are."""
        return len(self.at_s)

    @property
    def day(self) -> NDArray[np.int64]:
        """The day of each payment, counted from 0."""
        return self.at_s // DAY_S

    @property
    def is_fraud(self) -> NDArray[np.bool_]:
        """Which payments are frauds."""
        return self.scenario > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Added:
    """How many payments each scenario made a fraud that was none before, in their order."""

    scenario_1: int
    scenario_2: int
    scenario_3: int


def benchmark_payments(*, customers: int = CUSTOMERS) -> tuple[Payments, Added]:
    """Return the payments of the benchmark, and what each scenario added.

    Fewer `customers` make a smaller set for tests: the payments of the first ones are the same, the frauds are not.
    """
    people, reach = customer_profiles(customers), terminals_in_reach(customers)
    return with_frauds(honest_payments(people, reach), customers=customers)


def customer_profiles(count: int = CUSTOMERS) -> Customers:
    """Return the first customers: four numbers are drawn for each."""
    draw = np.random.RandomState(0)
    low, high = (0, 0, 5, 0), (100, 100, 100, 4)
    rows = np.array([[draw.uniform(*ends) for ends in zip(low, high, strict=True)] for _ in range(count)])
    return Customers(x=rows[:, 0], y=rows[:, 1], mean_amount=rows[:, 2], payments_a_day=rows[:, 3])


def terminals_in_reach(customers: int = CUSTOMERS) -> Sequence[Sequence[int]]:
    """Return the terminals that each customer may use: those that are nearer than the radius."""
    draw = np.random.RandomState(1)
    places = np.array([[draw.uniform(0, 100), draw.uniform(0, 100)] for _ in range(TERMINALS)])
    people = customer_profiles(customers)
    found = []
    for x, y in zip(people.x, people.y, strict=True):
        distance = np.sqrt(((places - (x, y)) ** 2).sum(axis=1))
        found.append(np.flatnonzero(distance < RADIUS).tolist())
    return found


def honest_payments(people: Customers, reach: Sequence[Sequence[int]]) -> Payments:
    """Return what customers pay before anybody cheats."""
    at_s: list[int] = []
    customer: list[int] = []
    terminal: list[int] = []
    amount: list[float] = []
    for number, terminals in enumerate(reach):
        for second, place, paid in _of_customer(
            number, terminals, people.mean_amount[number], people.payments_a_day[number]
        ):
            at_s.append(second)
            customer.append(number)
            terminal.append(place)
            amount.append(paid)
    order = np.argsort(np.array(at_s), kind="stable")
    return Payments(
        at_s=np.array(at_s, dtype=np.int64)[order],
        customer=np.array(customer, dtype=np.int32)[order],
        terminal=np.array(terminal, dtype=np.int32)[order],
        amount_minor=np.rint(np.array(amount)[order] * 100).astype(np.int64),
        scenario=np.zeros(len(order), dtype=np.int8),
    )


def _of_customer(
    number: int, terminals: Sequence[int], mean: float, payments_a_day: float
) -> list[tuple[int, int, float]]:
    """Return one customer's payments: second, terminal, amount."""
    draw = np.random.RandomState(number)
    # What `normal` and `uniform` draw, without their checks of arguments: there are millions of them.
    gauss, unit = draw.standard_normal, draw.random_sample
    choose = random.Random(number).choice  # noqa: S311 - the specification names this generator
    seconds: list[int] = []
    places: list[int] = []
    amounts: list[float] = []
    for day in range(DAYS):
        for _ in range(draw.poisson(payments_a_day)):
            second = int(NOON_S + SPREAD_S * gauss())
            if not 0 < second < DAY_S:
                continue
            amount = mean + mean / 2 * gauss()
            if amount < 0:
                amount = mean * 2 * unit()
            if terminals:
                seconds.append(second + day * DAY_S)
                places.append(choose(terminals))
                amounts.append(amount)
    return list(zip(seconds, places, np.round(amounts, 2).tolist(), strict=True))


def with_frauds(honest: Payments, *, customers: int = CUSTOMERS) -> tuple[Payments, Added]:
    """Return the payments with the three kinds of fraud, a later one in place of an earlier, and what each added."""
    amount, scenario, day = honest.amount_minor.copy(), honest.scenario.copy(), honest.day
    last = int(day.max())
    scenario[amount > LARGE_MINOR] = 1
    first = int((scenario > 0).sum())
    for begins in range(last):
        compromised = _drawn(TERMINALS, TERMINALS_A_DAY, seed=begins)
        during = (day >= begins) & (day < begins + TERMINAL_DAYS)
        scenario[during & np.isin(honest.terminal, compromised)] = 2
    second = int((scenario > 0).sum())
    for begins in range(last):
        leaked = _drawn(customers, CUSTOMERS_A_DAY, seed=begins)
        during = (day >= begins) & (day < begins + CUSTOMER_DAYS)
        rows = np.flatnonzero(during & np.isin(honest.customer, leaked)).tolist()
        choose = random.Random(begins)  # noqa: S311 - the specification names this generator
        struck = choose.sample(rows, k=len(rows) // LEAKED_SHARE)
        amount[struck] *= LEAKED_FACTOR
        scenario[struck] = 3
    payments = Payments(
        at_s=honest.at_s,
        customer=honest.customer,
        terminal=honest.terminal,
        amount_minor=amount,
        scenario=scenario,
    )
    third = int((scenario > 0).sum())
    return payments, Added(scenario_1=first, scenario_2=second - first, scenario_3=third - second)


def _drawn(among: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """Draw some of so many without putting any back, as the tables of the specification are sampled."""
    draw = np.random.RandomState(seed)
    return draw.choice(among, size=count, replace=False)
