"""The journal and the shared bucket as `bench gateway` measures them: the real ones, used to their end."""

from __future__ import annotations

import pytest

from faregate.bench.apart import BATCH, PROVIDER, measure_apart
from faregate.gateway import api
from faregate.infra.cache import Cache
from faregate.infra.token_bucket import TokenBuckets
from tests.conftest import OpenDatabase


async def test_every_intent_of_the_measurement_is_declared_claimed_and_recorded(
    open_database: OpenDatabase, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faregate.bench.apart.BATCHES", 2)
    monkeypatch.setattr("faregate.bench.apart.TOKENS", 50)
    database = await open_database("credit")
    apart = await measure_apart(database=database, buckets=TokenBuckets(cache=cache, name="bench"))
    async with database.connection() as conn:
        [row] = await api.summary(conn)
    assert (row["provider"], row["state"], row["intents"], row["sends"]) == (
        PROVIDER,
        "done",
        3 * BATCH,
        3 * BATCH,
    )
    assert row["unsettled"] == 0
    assert apart.journal_us > 0 < apart.token_us
