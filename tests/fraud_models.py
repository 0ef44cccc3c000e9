"""Models of fraud for tests: trained in a moment on made-up rows of the live features."""

from __future__ import annotations

from functools import cache

import numpy as np
import pyarrow as pa

from faregate.features.payments import PAYMENTS
from faregate.fraud.domain.protocol import Split
from faregate.fraud.handlers.training import Aims, Rows, Trained, train

ROWS = 3_000
INPUTS = ("amount_minor", "member_count_1h", "member_mean_30d", "merchant_count_1d")


@cache
def made_up(seed: int = 0) -> Trained:
    """A model to which large amounts and many payments within the hour look like fraud."""
    draw = np.random.default_rng(seed)
    amount = draw.integers(1, 30_000, ROWS)
    count = draw.integers(1, 12, ROWS)
    mean = np.where(draw.random(ROWS) < 0.3, np.nan, draw.random(ROWS) * 20_000)
    is_fraud = amount / 30_000 + count / 12 + draw.normal(0, 0.1, ROWS) > 1.5
    known = {
        "amount_minor": pa.array(amount),
        "member_count_1h": pa.array(count),
        "member_mean_30d": pa.array(mean, mask=np.isnan(mean)),
        "merchant_count_1d": pa.array(draw.integers(1, 500, ROWS)),
    }
    values = {name: known.get(name, pa.array([0] * ROWS)) for name in PAYMENTS.feature_named}
    rows = Rows(
        values=pa.table(values),
        day=np.arange(ROWS) % 14,
        card=np.arange(ROWS, dtype=np.int64),
        is_fraud=is_fraud,
    )
    split = Split(train=rows.day < 7, test=rows.day >= 7)
    return train(rows, split, PAYMENTS, aims=Aims(), described={"data": "made up"})
