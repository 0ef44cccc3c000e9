"""The payments of the fraud benchmark as events of the live features: what a first model is trained on.

A customer of the benchmark is a card and the member who holds it; a terminal of it is a terminal and the merchant that
has it. It knows nothing of categories, countries, channels, devices and addresses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import numpy as np
import pyarrow as pa

from faregate.features.event_table import schema_of
from faregate.features.facts import tie_of
from faregate.features.offline import backfill
from faregate.features.payments import PAYMENT, PAYMENTS
from faregate.fraud.domain.protocol import DELAY_DAYS, TEST_DAYS, TRAIN_DAYS, single_split
from faregate.fraud.handlers.training import Aims, Rows, Trained, train
from faregate.sandbox.traffic.benchmark import BEGINS, Payments, benchmark_payments

TRAIN_BEGINS: Final = 115
"""2018-07-25, the day on which the training of the benchmark begins."""
WINDOW_DAYS: Final = 31
_CUSTOMER, _TERMINAL = ("card", "member"), ("terminal", "merchant")


def train_on_benchmark(*, customers: int, aims: Aims, say: Callable[[str], None]) -> Trained:
    """Train a model for live payments on the simulated ones. Raises NothingToLearn."""
    say("simulating payments")
    payments, _ = benchmark_payments(customers=customers)
    until = TRAIN_BEGINS + TRAIN_DAYS + DELAY_DAYS + TEST_DAYS
    wanted = np.flatnonzero((payments.day >= TRAIN_BEGINS - WINDOW_DAYS) & (payments.day < until))
    say(f"computing features of {len(wanted):,} payments")
    values = backfill(live_events(payments, wanted), PAYMENTS)
    rows = Rows(
        values=values,
        day=payments.day[wanted],
        card=payments.customer[wanted].astype(np.int64),
        is_fraud=payments.is_fraud[wanted],
    )
    split = single_split(day=rows.day, card=rows.card, is_fraud=rows.is_fraud, begins=TRAIN_BEGINS)
    say(f"training on {split.train.sum():,} payments")
    described = {
        "data": "simulated: fraud benchmark",
        "customers": customers,
        "train_begins": str((BEGINS + np.timedelta64(TRAIN_BEGINS, "D").astype(object)).date()),
        "train_days": TRAIN_DAYS,
        "delay_days": DELAY_DAYS,
        "test_days": TEST_DAYS,
    }
    return train(rows, split, PAYMENTS, aims=aims, described=described)


def live_events(payments: Payments, wanted: np.ndarray) -> pa.Table:
    """Return payments as events of the live feature set, in their order; what the benchmark does not know is null."""
    at_ms = (payments.at_s[wanted] + int(BEGINS.timestamp())) * 1_000
    ids = [f"sim_{number}" for number in wanted.tolist()]
    customer = pa.array([f"sim_{number}" for number in payments.customer[wanted].tolist()])
    terminal = pa.array([f"sim_{number}" for number in payments.terminal[wanted].tolist()])
    columns = {
        "seq": pa.array(np.arange(len(wanted))),
        "is_reversal": pa.array(np.zeros(len(wanted), dtype=bool)),
        "source": pa.array([PAYMENT.name] * len(wanted)),
        "id": pa.array(ids),
        "tie": pa.array([tie_of(one) for one in ids]),
        "at_ms": pa.array(at_ms),
        "observed_ms": pa.array(at_ms),
        **dict.fromkeys(_CUSTOMER, customer),
        **dict.fromkeys(_TERMINAL, terminal),
        "amount_minor": pa.array(payments.amount_minor[wanted]),
        "merchant_id": terminal,
        "card_token": customer,
    }
    schema = schema_of(PAYMENTS)
    return pa.table(
        [columns.get(field.name, pa.nulls(len(wanted), field.type)) for field in schema], schema=schema
    )
