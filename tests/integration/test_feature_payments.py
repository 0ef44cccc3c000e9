"""The live set of payments over two months, by three engines: windows of a minute to thirty days."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from faregate.features.declarations import Entity
from faregate.features.event_table import event_table
from faregate.features.facts import Fact, FeatureEvent, ReversalById
from faregate.features.offline import backfill
from faregate.features.online import Layout, OnlineFeatures
from faregate.features.payments import PAYMENTS
from faregate.infra.cache import Cache
from tests.features_oracle import oracle

DAY_MS = 86_400_000
BEGINS_MS = 20_000 * DAY_MS


def two_months(seed: int, *, count: int) -> list[Fact]:
    """Bursts and pauses of three members at four merchants; some late, some twice, some reversed."""
    draw = random.Random(seed)
    facts: list[Fact] = []
    now_ms = BEGINS_MS
    for number in range(count):
        now_ms += draw.choice([0, 900, 20_000, 50_000, 3_000_000, DAY_MS // 3])
        event = FeatureEvent(
            id=f"pay_{number}",
            source="payment",
            at_ms=now_ms - draw.choice([0, 0, 0, 1, 60_000, 3_600_000]),
            observed_ms=now_ms,
            entities={Entity.MEMBER: draw.choice("abc"), Entity.MERCHANT: draw.choice("wxyz")},
            values={
                "amount_minor": draw.randint(1, 100_000),
                "merchant_id": draw.choice("wxyz"),
                "category": str(draw.randint(1, 40)),
            },
        )
        facts.append(event)
        earlier = draw.choice([fact for fact in facts if isinstance(fact, FeatureEvent)])
        if draw.random() < 0.05:
            facts.append(ReversalById(source="payment", id=earlier.id, observed_ms=now_ms))
        elif draw.random() < 0.05:
            facts.append(replace(earlier, observed_ms=now_ms))
    return facts


@pytest.mark.requirement("F13")
@pytest.mark.parametrize("seed", range(3))
async def test_three_engines_say_the_same_of_two_months_of_payments(cache: Cache, seed: int) -> None:
    facts = two_months(seed, count=350)
    # An answer is kept for as long as the stream lasts: event time passes quicker here than Valkey's.
    features = OnlineFeatures(
        cache, PAYMENTS, reversible_s=600, layout=Layout(tail_max=20, cut=10, block_max=30)
    )
    await features.load()
    by_definition = [(asked.event.id, asked.values) for asked in oracle(facts, PAYMENTS)]
    online = [
        (fact.id, None if one.values is None else dict(one.values))
        for fact, one in zip(facts, await features.apply(facts), strict=True)
        if isinstance(fact, FeatureEvent)
    ]
    assert online == by_definition
    first = {name: values for name, values in reversed(by_definition) if values is not None}
    offline = backfill(event_table(facts, PAYMENTS), PAYMENTS).to_pylist()
    assert {row["id"]: {name: row[name] for name in PAYMENTS.feature_named} for row in offline} == first
