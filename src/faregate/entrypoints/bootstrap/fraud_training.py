"""The payments of the fraud benchmark as events of the live features: what a first model is trained on.

A customer of the benchmark is a card and the member who holds it; a terminal of it is a terminal and the merchant that
has it. It knows nothing of categories, countries, channels, devices and addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Final

import numpy as np
import pyarrow as pa

from faregate.bench.feature_events import benchmark_events
from faregate.features.benchmark import BENCHMARK
from faregate.features.event_table import schema_of
from faregate.features.feature_set import FeatureSet
from faregate.features.offline import backfill
from faregate.features.payments import PAYMENT, PAYMENTS
from faregate.fraud.domain.protocol import DELAY_DAYS, TEST_DAYS, TRAIN_DAYS, single_split
from faregate.fraud.handlers.training import Aims, Rows, Trained, train
from faregate.sandbox.traffic.benchmark import BEGINS, Payments, benchmark_payments

TRAIN_BEGINS: Final = 115
"""2018-07-25, the day on which the training of the benchmark begins."""
REACH_DAYS: Final = 38
"""So far back windows and the delay of labels reach."""
_CUSTOMER, _TERMINAL = ("card", "member"), ("terminal", "merchant")


def train_on_benchmark(
    *, customers: int, aims: Aims, say: Callable[[str], None], declared: FeatureSet = PAYMENTS
) -> Trained:
    """Train a model on the simulated payments, with the live features or those of the benchmark itself.

    Raises NothingToLearn.
    """
    say("simulating payments")
    everything, _ = benchmark_payments(customers=customers)
    until = TRAIN_BEGINS + TRAIN_DAYS + DELAY_DAYS + TEST_DAYS
    payments = of_days(everything, TRAIN_BEGINS - REACH_DAYS, until)
    say(f"computing features of {len(payments):,} payments")
    events = benchmark_events(payments) if declared is BENCHMARK else live_events(payments)
    values = backfill(events, declared)
    row = np.array(values["id"].cast(pa.int64()))
    rows = Rows(
        values=values,
        day=payments.day[row],
        card=payments.customer[row].astype(np.int64),
        is_fraud=payments.is_fraud[row],
    )
    split = single_split(day=rows.day, card=rows.card, is_fraud=rows.is_fraud, begins=TRAIN_BEGINS)
    say(f"training on {split.train.sum():,} payments")
    described = {
        "data": "simulated: fraud benchmark",
        "customers": customers,
        "train_begins": (BEGINS + timedelta(days=TRAIN_BEGINS)).date().isoformat(),
        "train_days": TRAIN_DAYS,
        "delay_days": DELAY_DAYS,
        "test_days": TEST_DAYS,
    }
    return train(rows, split, declared, aims=aims, described=described)


def of_days(payments: Payments, first: int, until: int) -> Payments:
    """Return the payments of some days."""
    wanted = (payments.day >= first) & (payments.day < until)
    return Payments(
        at_s=payments.at_s[wanted],
        customer=payments.customer[wanted],
        terminal=payments.terminal[wanted],
        amount_minor=payments.amount_minor[wanted],
        scenario=payments.scenario[wanted],
    )


def live_events(payments: Payments) -> pa.Table:
    """Return payments as events of the live feature set, by their row; what the benchmark does not know is null."""
    at_ms = (payments.at_s + int(BEGINS.timestamp())) * 1_000
    row = np.arange(len(payments))
    customer, terminal = (pa.array(of).cast(pa.string()) for of in (payments.customer, payments.terminal))
    columns = {
        "seq": pa.array(row),
        "is_reversal": pa.array(np.zeros(len(row), dtype=bool)),
        "source": pa.array([PAYMENT.name] * len(row)),
        "id": pa.array(row).cast(pa.string()),
        "tie": pa.array(row),
        "at_ms": pa.array(at_ms),
        "observed_ms": pa.array(at_ms),
        **dict.fromkeys(_CUSTOMER, customer),
        **dict.fromkeys(_TERMINAL, terminal),
        "amount_minor": pa.array(payments.amount_minor),
        "merchant_id": terminal,
        "card_token": customer,
    }
    schema = schema_of(PAYMENTS)
    return pa.table(
        [columns.get(field.name, pa.nulls(len(row), field.type)) for field in schema], schema=schema
    )
