"""The live set, every entity and source of it, over two months and by three engines: a minute to thirty days."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from faregate.features.declarations import Entity, Value
from faregate.features.event_table import event_table
from faregate.features.facts import Fact, FeatureEvent, ReversalById
from faregate.features.offline import backfill
from faregate.features.online import Layout, OnlineFeatures
from faregate.features.payments import PAYMENTS, payment_fact
from faregate.infra.cache import Cache
from tests.feature_streams import DAYS_APART, streams
from tests.features_oracle import oracle

DAY_S = 86_400
BEGINS = datetime(2024, 10, 4, tzinfo=UTC)
SMALL = Layout(tail_max=20, cut=10, block_max=30, few=1)
Told = list[tuple[str, dict[str, Value] | None]]


def two_months(seed: int, *, count: int) -> list[Fact]:
    """Bursts and pauses of three members at four merchants; some late, some twice, some reversed; and what they do."""
    draw = random.Random(seed)
    facts: list[Fact] = []
    now = BEGINS
    for number in range(count):
        now += timedelta(seconds=draw.choice([0, 0.9, 20, 50, 3_000, DAY_S // 3]))
        late = timedelta(seconds=draw.choice([0, 0, 0, 0.001, 60, 3_600]))
        event = a_payment(draw, number, now - late, now) if draw.random() < 0.6 else an_act(draw, number, now)
        facts.append(event)
        earlier = draw.choice([fact for fact in facts if isinstance(fact, FeatureEvent)])
        if draw.random() < 0.05 and earlier.source == "payment":
            facts.append(ReversalById(source="payment", id=earlier.id, observed_ms=event.observed_ms))
        elif draw.random() < 0.05:
            facts.append(replace(earlier, observed_ms=event.observed_ms))
    return facts


def a_payment(draw: random.Random, number: int, at: datetime, observed_at: datetime) -> FeatureEvent:
    return payment_fact(
        payment_id=f"pay_{number}",
        at=at,
        observed_at=observed_at,
        amount_minor=draw.randint(1, 100_000),
        merchant=draw.choice("wxyz"),
        merchant_category=draw.randint(1, 40),
        card_token=draw.choice("stuv"),
        member_id=draw.choice(["a", "b", "c", None]),
        terminal_id=draw.choice(["t1", "t2", None]),
        device_id=draw.choice(["d1", "d2", "d3", None]),
        ip_token=draw.choice(["i1", "i2", None]),
        country=draw.choice(["DE", "FR", None]),
        channel=None,
    )


def an_act(draw: random.Random, number: int, at: datetime) -> FeatureEvent:
    """Something else that a member does, of any source of the set."""
    source = draw.choice(PAYMENTS.others)
    at_ms = round(at.timestamp() * 1_000)
    names = {
        Entity.MEMBER: "abc",
        Entity.IP: ["i1", "i2"],
        Entity.MEMBER_DEVICE: ["a d1", "b d2"],
        Entity.CARD: "stuv",
    }
    return FeatureEvent(
        id=f"act_{number}",
        source=source.name,
        at_ms=at_ms - draw.choice([0, 0, 1, 5_000, DAY_S * 1_000]),
        observed_ms=at_ms,
        entities={entity: draw.choice(names[entity]) for entity in source.entities},
        values=dict.fromkeys(source.numbers, draw.randint(0, 900))
        | {name: draw.choice("abc") for name in source.texts},
    )


def told(facts: Sequence[Fact], observed: Sequence[object]) -> Told:
    return [
        (fact.id, None if one.values is None else dict(one.values))  # type: ignore[attr-defined]
        for fact, one in zip(facts, observed, strict=True)
        if isinstance(fact, FeatureEvent) and fact.source == PAYMENTS.asked_by.name
    ]


def by_definition(facts: Sequence[Fact]) -> Told:
    return [(asked.event.id, asked.values) for asked in oracle(facts, PAYMENTS)]


def offline(facts: Sequence[Fact]) -> dict[str, dict[str, Value]]:
    rows = backfill(event_table(facts, PAYMENTS), PAYMENTS).to_pylist()
    return {row["id"]: {name: row[name] for name in PAYMENTS.feature_named} for row in rows}


def first_of(answers: Told) -> dict[str, dict[str, Value]]:
    return {name: values for name, values in reversed(answers) if values is not None}


@pytest.mark.requirement("F13")
@pytest.mark.parametrize("seed", range(3))
async def test_three_engines_say_the_same_of_two_months_of_payments(cache: Cache, seed: int) -> None:
    facts = two_months(seed, count=350)
    # An answer is kept for as long as the stream lasts: event time passes quicker here than Valkey's.
    features = OnlineFeatures(cache, PAYMENTS, reversible_s=600, layout=SMALL)
    await features.load()
    assert told(facts, await features.apply(facts)) == by_definition(facts)
    assert offline(facts) == first_of(by_definition(facts))


@pytest.mark.requirement("F13")
@pytest.mark.requirement("F3")
@given(facts=streams(declared=PAYMENTS, apart_ms=DAYS_APART, facts_max=40))
@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_three_engines_say_the_same_of_any_stream(valkey_socket: Path, facts: list[Fact]) -> None:
    async def observed() -> Sequence[object]:
        cache = await Cache.open(f"unix://{valkey_socket}", request_timeout_ms=5_000)
        try:
            await cache.clear()
            features = OnlineFeatures(cache, PAYMENTS, reversible_s=900, layout=SMALL)
            await features.load()
            return await features.apply(facts)
        finally:
            await cache.close()

    defined = by_definition(facts)
    assert told(facts, asyncio.run(observed())) == defined
    assert offline(facts) == first_of(defined)
