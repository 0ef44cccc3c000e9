"""The benchmark's payments are those that were published: counts, and rows to the cent."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from faregate.sandbox.traffic.benchmark import (
    BEGINS,
    Added,
    Payments,
    benchmark_payments,
    customer_profiles,
    terminals_in_reach,
)

ROWS = {
    1: (datetime(2018, 4, 1, 0, 0, 31, tzinfo=UTC), 596, 3156, 5716),
    2: (datetime(2018, 4, 1, 0, 2, 10, tzinfo=UTC), 4961, 3412, 8151),
    3: (datetime(2018, 4, 1, 0, 7, 56, tzinfo=UTC), 2, 1365, 14600),
    4: (datetime(2018, 4, 1, 0, 9, 29, tzinfo=UTC), 4128, 8737, 6449),
    5: (datetime(2018, 4, 1, 0, 10, 34, tzinfo=UTC), 927, 9906, 5099),
    1_754_155: (datetime(2018, 9, 30, 23, 59, 57, tzinfo=UTC), 3542, 9849, 2359),
}
"""Published rows, counted from 1: time, customer, terminal, amount in cents."""


@pytest.fixture(scope="module")
def published() -> tuple[Payments, Added]:
    return benchmark_payments()


def test_there_are_as_many_payments_and_frauds_as_published(published: tuple[Payments, Added]) -> None:
    payments, added = published
    assert len(payments) == 1_754_155
    assert int(payments.is_fraud.sum()) == 14_681
    assert payments.is_fraud.mean() == 0.008369271814634397
    assert added == Added(scenario_1=978, scenario_2=9_099, scenario_3=4_604)
    assert np.bincount(payments.scenario)[1:].tolist() == [973, 9_077, 4_631]
    assert int((payments.day >= 30).sum()) == 1_466_093


@pytest.mark.parametrize("number", ROWS)
def test_published_rows_are_the_same_to_the_cent(published: tuple[Payments, Added], number: int) -> None:
    payments, row = published[0], number - 1
    at = BEGINS + timedelta(seconds=int(payments.at_s[row]))
    amount = int(payments.amount_minor[row])
    assert (at, int(payments.customer[row]), int(payments.terminal[row]), amount) == ROWS[number]


def test_fewer_customers_pay_the_same(published: tuple[Payments, Added]) -> None:
    few, _ = benchmark_payments(customers=50)
    everybody = published[0]
    theirs = everybody.customer < 50
    assert few.at_s.tolist() == everybody.at_s[theirs].tolist()
    assert few.terminal.tolist() == everybody.terminal[theirs].tolist()


def test_a_customer_uses_only_terminals_that_are_near() -> None:
    people, reach = customer_profiles(20), terminals_in_reach(20)
    assert len(reach) == len(people.x) == 20
    assert all(list(places) == sorted(set(places)) for places in reach)
