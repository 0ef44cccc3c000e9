"""The online engine on a real Valkey says of every event what the definition says, bit for bit."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings

from faregate.features.declarations import Entity, Value, count, total
from faregate.features.facts import Fact, FeatureEvent, Reversal, ReversalById, Status
from faregate.features.feature_set import FeatureSet
from faregate.features.online import Layout, Observed, OnlineFeatures
from faregate.infra.cache import Cache, CacheUnavailable, FunctionFailed
from tests.feature_streams import KINDS, PAID, small, streams
from tests.features_oracle import oracle
from tests.servers import own_servers
from tests.valkey import asked

Told = list[tuple[str, dict[str, Value] | None]]


async def opened(socket: Path) -> Cache:
    cache = await Cache.open(f"unix://{socket}", request_timeout_ms=5_000)
    await cache.clear()
    return cache


def told(facts: Sequence[Fact], observed: Sequence[Observed]) -> Told:
    return [
        (fact.id, None if one.values is None else dict(one.values))
        for fact, one in zip(facts, observed, strict=True)
        if isinstance(fact, FeatureEvent) and fact.source == KINDS.asked_by.name
    ]


def expected(facts: Sequence[Fact]) -> Told:
    return [(asked.event.id, asked.values) for asked in oracle(facts, KINDS)]


TINY = Layout(tail_max=3, cut=2, block_max=4, few=3)


@pytest.mark.requirement("F13")
@pytest.mark.parametrize("layout", [Layout(), TINY], ids=["usual", "tiny"])
@given(facts=streams())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_answer_is_that_of_the_definition(
    valkey_socket: Path, layout: Layout, facts: list[Fact]
) -> None:
    async def observed() -> Sequence[Observed]:
        cache = await opened(valkey_socket)
        try:
            features = OnlineFeatures(cache, KINDS, layout=layout, reversible_s=900)
            await features.load()
            return await features.apply(facts)
        finally:
            await cache.close()

    assert told(facts, asyncio.run(observed())) == expected(facts)


def busy_stream(*, seed: int, count: int) -> list[Fact]:
    """One busy card: some events late, some reversed later, over many blocks of a tiny layout."""
    draw = random.Random(seed)
    facts: list[Fact] = []
    at_s = 0.0
    for number in range(count):
        at_s += draw.choice([0, 0.5, 1, 3, 10])
        late_s = draw.choice([0, 0, 0, 1, 20, 299])
        event = small(at_s=at_s - late_s, late_s=late_s, event_id=str(number), amount=draw.randint(-5, 99))
        facts.append(replace(event, values={"amount": event.values["amount"], "shop": draw.choice("abcde")}))
        if draw.random() < 0.1:
            old = draw.choice([fact for fact in facts if isinstance(fact, FeatureEvent)])
            facts.append(Reversal(event=old, observed_ms=event.observed_ms))
    return facts


@pytest.mark.parametrize("seed", range(4))
async def test_a_busy_entity_is_exact_over_many_blocks(cache: Cache, seed: int) -> None:
    facts = busy_stream(seed=seed, count=300)
    features = OnlineFeatures(cache, KINDS, layout=TINY)
    await features.load()
    assert told(facts, await features.apply(facts)) == expected(facts)


@pytest.mark.requirement("F13")
async def test_a_valkey_that_is_killed_goes_on_where_it_was_and_what_comes_again_has_no_effect(
    tmp_path: Path,
) -> None:
    facts = busy_stream(seed=9, count=120)
    with own_servers(tmp_path / "home", migrated=False) as servers:
        cache = await Cache.open(
            f"unix://{servers.valkey_socket}", request_timeout_ms=5_000, retry_after_s=0.01
        )
        features = OnlineFeatures(cache, KINDS, layout=TINY)
        await features.load()
        observed = list(await features.apply(facts[:60]))
        servers.valkey.kill9()
        with pytest.raises(CacheUnavailable):
            await features.apply(facts[60:61])
        servers.valkey.start()
        again = await until_it_answers(features, facts[40:60])
        for first, second in zip(observed[40:], again, strict=True):
            assert second.status is not Status.APPLIED
            assert second.values == first.values or second.status is Status.REVERSED
        observed += await features.apply(facts[60:])
        assert told(facts, observed) == expected(facts)
        await cache.close()


async def until_it_answers(features: OnlineFeatures, facts: Sequence[Fact]) -> Sequence[Observed]:
    while True:
        try:
            return await features.apply(facts)
        except CacheUnavailable:
            await asyncio.sleep(0.01)


async def test_an_emptied_valkey_gets_the_functions_again_and_is_filled_from_the_events(
    cache: Cache, valkey_socket: Path
) -> None:
    facts = busy_stream(seed=1, count=50)
    features = OnlineFeatures(cache, KINDS)
    before = await features.apply(facts)
    await cache.clear()
    await asked(valkey_socket, "FUNCTION", "FLUSH")
    assert [one.values for one in await features.apply(facts)] == [one.values for one in before]


async def test_an_event_that_comes_again_gets_the_first_answer_and_a_different_one_is_refused(
    cache: Cache,
) -> None:
    features = OnlineFeatures(cache, KINDS)
    event = small(at_s=10, event_id="1", amount=5)
    first = await features.observe(event)
    await features.observe(small(at_s=9, late_s=2, event_id="2", amount=7))
    again = await features.observe(replace(event, observed_ms=event.observed_ms + 1_500))
    other = await features.observe(replace(event, values={"amount": 6, "shop": "a"}))
    assert (first.status, again.status, other.status) == (Status.APPLIED, Status.DUPLICATE, Status.CONFLICT)
    assert first.values == again.values
    assert other.values is None


async def test_an_event_is_known_again_after_its_answer_is_forgotten(cache: Cache) -> None:
    features = OnlineFeatures(cache, KINDS, remembered_s=0)
    event = small(at_s=10, event_id="1")
    await features.observe(event)
    again = await features.observe(event)
    assert again.status is Status.DUPLICATE
    assert again.values is not None
    assert again.values["n_60"] == 1


async def test_an_event_without_any_entity_has_its_own_values_only(cache: Cache) -> None:
    features = OnlineFeatures(cache, KINDS)
    observed = await features.observe(replace(small(at_s=1, event_id="1", amount=4), entities={}))
    assert observed.status is Status.APPLIED
    assert observed.values is not None
    assert (observed.values["amount_own"], observed.values["n_60"], observed.values["max_60"]) == (4, 0, None)


async def test_an_event_that_was_kept_is_reversed_by_its_id_alone(cache: Cache) -> None:
    features = OnlineFeatures(cache, KINDS, reversible_s=60)
    events = [small(at_s=at, event_id=str(at), amount=at) for at in (1, 2, 3)]
    by_id = [
        ReversalById(source="paid", id=name, observed_ms=events[2].observed_ms) for name in ("2", "2", "9")
    ]
    facts: list[Fact] = [*events[:2], *by_id, events[2], replace(events[2], id="9"), events[1]]
    observed = await features.apply(facts)
    assert [one.status for one in observed[2:5]] == [Status.APPLIED, Status.DUPLICATE, Status.REVERSED]
    assert told(facts, observed) == expected(facts)


async def test_a_reversal_works_before_and_after_its_event_and_once(cache: Cache) -> None:
    features = OnlineFeatures(cache, KINDS)
    one, two = small(at_s=10, event_id="1"), small(at_s=11, event_id="2")
    await features.observe(one)
    reversals = [Reversal(event=event, observed_ms=one.observed_ms) for event in (one, one, two)]
    statuses = [await features.reverse(reversal) for reversal in reversals]
    assert statuses == [Status.APPLIED, Status.DUPLICATE, Status.REVERSED]
    assert [(await features.observe(event)).status for event in (one, two)] == [Status.REVERSED] * 2
    seen = (await features.observe(small(at_s=12, event_id="3"))).values
    assert seen is not None
    assert seen["n_60"] == 1


async def test_no_name_of_an_entity_reaches_into_another(cache: Cache) -> None:
    names = ["c", "c/", "c/1", "c#1", ":c", "1:c", "c:d", "::1", "d:c", "c\x00", "*", "ü"]
    facts: list[Fact] = [
        small(at_s=turn, event_id=str(turn * 100 + number), card=name)
        for turn in range(12)
        for number, name in enumerate(names)
    ]
    features = OnlineFeatures(cache, KINDS, layout=TINY)
    await features.load()
    assert told(facts, await features.apply(facts)) == expected(facts)


@pytest.mark.parametrize(
    ("late_s", "status", "seen"),
    [(299, Status.APPLIED, 2), (300, Status.APPLIED, 2), (301, Status.LATE, 1), (-61, Status.AHEAD, 1)],
)
async def test_an_event_is_late_by_what_its_source_declares(
    cache: Cache, late_s: float, status: Status, seen: int
) -> None:
    features = OnlineFeatures(cache, KINDS)
    observed = await features.observe(small(at_s=100, late_s=late_s, event_id="1"))
    assert observed.status is status
    assert (observed.values is None) == (status is not Status.APPLIED)
    after = (await features.observe(small(at_s=101, event_id="2"))).values
    assert after is not None
    assert after["n_60"] == seen


@pytest.mark.requirement("F4")
async def test_one_event_updates_and_reads_all_its_entities_in_one_round_trip(
    cache: Cache, valkey_socket: Path
) -> None:
    features = OnlineFeatures(cache, KINDS)
    await features.load()
    await asked(valkey_socket, "CONFIG", "RESETSTAT")
    await features.observe(small(at_s=1, event_id="1"))
    statistics = await asked(valkey_socket, "INFO", "commandstats")
    assert b"cmdstat_fcall:calls=1," in statistics


SPENT = FeatureSet(
    name="spent",
    asked_by=PAID,
    others=(),
    features=(
        total("spent", "amount", by=Entity.CARD, of=PAID, over=60),
        count("times", by=Entity.CARD, of=PAID, over=60),
    ),
)


async def test_a_total_that_could_not_be_exact_is_refused_before_anything_is_written(cache: Cache) -> None:
    features = OnlineFeatures(cache, SPENT, remembered_s=0)
    await features.apply([small(at_s=0, event_id=str(number), amount=10**12) for number in range(9_007)])
    with pytest.raises(FunctionFailed, match="too large to be exact"):
        await features.observe(small(at_s=0, event_id="9007", amount=10**12))
    fitting = await features.observe(small(at_s=0, event_id="9008", amount=1))
    assert fitting.values == {"spent": 9_007 * 10**12 + 1, "times": 9_008}


async def test_everything_that_is_kept_has_a_time_to_live(cache: Cache, valkey_socket: Path) -> None:
    features = OnlineFeatures(cache, KINDS, layout=TINY)
    await features.load()
    await features.apply(busy_stream(seed=2, count=60))
    keys = await asked(valkey_socket, "KEYS", "*")
    assert len(keys) > 60
    assert all([int(await asked(valkey_socket, "TTL", key)) > 0 for key in keys])


async def test_what_no_window_reaches_any_more_is_forgotten(cache: Cache, valkey_socket: Path) -> None:
    features = OnlineFeatures(cache, SPENT, remembered_s=0)
    held = []
    for day in (0, 1):
        begins = day * 86_400
        await features.apply([small(at_s=begins + n * 2, event_id=str(n)) for n in range(3_000)])
        keys = [key for key in await asked(valkey_socket, "KEYS", "*") if b"d:" not in key]
        held.append(sum([int(await asked(valkey_socket, "STRLEN", key)) for key in keys]))
    kept_s = 60 + 1 + 300 + 3_600
    most = kept_s / 2 + Layout().tail_max + Layout().block_max
    assert held[1] <= most * 15 + 100
    assert held[0] <= held[1] * 1.2
