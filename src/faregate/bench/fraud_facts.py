"""The benchmark's payments as rules see them, with their labels: a file that backtests of rules read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from faregate.bench.feature_events import benchmark_events
from faregate.features.benchmark import BENCHMARK
from faregate.features.offline import backfill
from faregate.sandbox.traffic.benchmark import BEGINS, DAY_S, Payments, benchmark_payments

CURRENCY = "USD"
_HOUR_S = 3_600


def write_benchmark_facts(file: Path, *, customers: int) -> int:
    """Write the payments of so many customers to a Parquet file; return how many there are."""
    payments, _ = benchmark_payments(customers=customers)
    table = benchmark_facts(payments)
    pq.write_table(table, file)
    return int(table.num_rows)


def benchmark_facts(payments: Payments) -> pa.Table:
    """Return a row a payment: what rules see of it, and whether it was a fraud."""
    features = backfill(benchmark_events(payments), BENCHMARK)
    row = features.column("id").cast(pa.int64()).to_numpy()
    own = {
        "payment_id": features.column("id"),
        "is_fraud": pa.array(payments.is_fraud[row]),
        "amount_minor": pa.array(payments.amount_minor[row]),
        "currency": pa.array(np.full(len(row), CURRENCY)),
        "terminal_id": pa.array(payments.terminal[row]).cast(pa.string()),
        "card_token": pa.array(payments.customer[row]).cast(pa.string()),
        "hour": pa.array(_hours(payments)[row]),
    }
    names = [name for name in features.column_names if name not in ("seq", "id", "amount_minor")]
    return pa.table({**own, **{f"features.{name}": features.column(name) for name in names}})


def _hours(payments: Payments) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    return (payments.at_s + int(BEGINS.timestamp())) % DAY_S // _HOUR_S
