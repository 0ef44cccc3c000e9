"""The benchmark's payments as events of the feature set `BENCHMARK`, with the frauds, each learned days later."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import starmap

import numpy as np
import pyarrow as pa

from faregate.features.benchmark import BENCHMARK, CARD, FRAUD, LABEL_DELAY_S, PAYMENT, TERMINAL
from faregate.features.event_table import schema_of
from faregate.features.facts import FeatureEvent
from faregate.sandbox.traffic.benchmark import BEGINS, Payments

DAY_MS = 86_400_000
DELAY_DAYS = LABEL_DELAY_S * 1_000 // DAY_MS


def benchmark_events(payments: Payments) -> pa.Table:
    """Return the payments and what was learned of frauds in the order in which they were known, for both engines.

    A fraud is learned one to seven days after it, each in its turn: the longest is the label delay itself.
    """
    at_ms = (payments.at_s + int(BEGINS.timestamp())) * 1_000
    frauds = np.flatnonzero(payments.is_fraud)
    row = np.concatenate([np.arange(len(payments)), frauds])
    is_fraud = np.arange(len(row)) >= len(payments)
    learned_ms = at_ms[frauds] + (np.arange(len(frauds)) % DELAY_DAYS + 1) * DAY_MS
    observed_ms = np.concatenate([at_ms, learned_ms])
    order = np.argsort(observed_ms, kind="stable")
    row, is_fraud = row[order], is_fraud[order]
    columns = {
        "seq": pa.array(np.arange(len(row))),
        "is_reversal": pa.array(np.zeros(len(row), dtype=bool)),
        "source": pa.array(np.where(is_fraud, FRAUD.name, PAYMENT.name)),
        "id": pa.array(row).cast(pa.string()),
        "tie": pa.array(row),
        "at_ms": pa.array(at_ms[row]),
        "observed_ms": pa.array(observed_ms[order]),
        "card": pa.array(payments.customer[row], mask=is_fraud).cast(pa.string()),
        "terminal": pa.array(payments.terminal[row]).cast(pa.string()),
        "amount_minor": pa.array(payments.amount_minor[row], mask=is_fraud),
    }
    schema = schema_of(BENCHMARK)
    return pa.table([columns[name] for name in schema.names], schema=schema)


def batches_of_events(table: pa.Table, *, size: int) -> Iterator[Sequence[FeatureEvent]]:
    """Yield the events of such a table in their order, so many at a time."""
    names = ["source", "id", "at_ms", "observed_ms", "card", "terminal", "amount_minor"]
    for batch in table.select(names).to_batches(max_chunksize=size):
        columns = [column.to_pylist() for column in batch.columns]
        yield list(starmap(_event, zip(*columns, strict=True)))


def _event(
    source: str,
    event_id: str,
    at_ms: int,
    observed_ms: int,
    card: str | None,
    terminal: str,
    amount_minor: int | None,
) -> FeatureEvent:
    is_payment = card is not None and amount_minor is not None
    return FeatureEvent(
        id=event_id,
        source=source,
        at_ms=at_ms,
        observed_ms=observed_ms,
        entities={CARD: card, TERMINAL: terminal} if is_payment and card else {TERMINAL: terminal},
        values={"amount_minor": amount_minor} if amount_minor is not None else {},
    )
