"""Token buckets that processes share through a real Valkey, and what each does without it.

A process is one `TokenBuckets` here. The slowest rate stands for "no refill while this test runs".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faregate.infra.cache import Cache
from faregate.infra.rate import InvalidRate, Rate
from faregate.infra.token_bucket import LEASE_S, PROCESSES_UNKNOWN, RETRY_S, TokenBuckets
from tests.sandbox import until
from tests.servers import own_servers

STILL = 0.001


class Hand:
    """A clock that a test moves by hand, in seconds."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class CountingCache(Cache):
    """A cache that counts its scripts."""

    scripts = 0

    async def run_script(self, *args: Any, **kwargs: Any) -> Any:
        self.scripts += 1
        return await super().run_script(*args, **kwargs)


async def granted(buckets: TokenBuckets, rate: Rate, *, times: int, key: str = "k") -> int:
    taken = await asyncio.gather(*(buckets.take(key, rate=rate) for _ in range(times)))
    return sum(one.is_granted for one in taken)


async def test_many_tokens_cost_one_request(valkey_socket: Path, cache: Cache) -> None:
    counting = await CountingCache.open(f"unix://{valkey_socket}")
    assert isinstance(counting, CountingCache)
    buckets, rate = TokenBuckets(cache=counting, name="t"), Rate(per_s=0.5, burst=50)
    assert await buckets.take_many("k", rate=rate, wanted=30) == (30, 0.0)
    assert counting.scripts == 1
    granted, wait_s = await buckets.take_many("k", rate=rate, wanted=30)
    assert (granted, counting.scripts) == (20, 2)
    assert wait_s > 0
    granted, wait_s = await buckets.take_many("k", rate=rate, wanted=1)
    assert granted == 0
    assert 0 < wait_s <= 2
    await counting.close()


async def test_many_tokens_come_from_the_own_share_without_valkey(tmp_path: Path) -> None:
    nowhere = await Cache.open(f"unix://{tmp_path}/none.sock")
    buckets, rate = TokenBuckets(cache=nowhere, name="t"), Rate(per_s=STILL, burst=40)
    granted, wait_s = await buckets.take_many("k", rate=rate, wanted=30)
    assert granted == 40 // PROCESSES_UNKNOWN
    assert wait_s > 0
    await nowhere.close()


async def test_a_full_bucket_gives_its_burst_and_then_says_how_long_to_wait(cache: Cache) -> None:
    buckets = TokenBuckets(cache=cache, name="t")
    rate = Rate(per_s=0.5, burst=3)
    taken = [await buckets.take("k", rate=rate) for _ in range(4)]
    assert [(one.is_granted, one.left) for one in taken] == [(True, 2), (True, 1), (True, 0), (False, 0)]
    assert all(one.is_shared for one in taken)
    assert 0 < taken[-1].wait_s <= 2.0
    assert {one.wait_s for one in taken[:-1]} == {0.0}


async def test_after_the_time_that_it_named_there_is_a_token(cache: Cache) -> None:
    buckets = TokenBuckets(cache=cache, name="t")
    rate = Rate(per_s=20, burst=1)
    assert await granted(buckets, rate, times=2) == 1
    refused = await buckets.take("k", rate=rate)
    await asyncio.sleep(refused.wait_s + 0.002)  # what is tested is this very promise
    assert (await buckets.take("k", rate=rate)).is_granted


async def test_keys_and_names_have_buckets_of_their_own(cache: Cache) -> None:
    rate = Rate(per_s=STILL, burst=2)
    for name in ("one", "other"):
        for key in ("a", "b"):
            assert await granted(TokenBuckets(cache=cache, name=name), rate, times=5, key=key) == 2


@given(burst=st.integers(1, 120), turns=st.lists(st.integers(0, 3), max_size=60))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_however_processes_take_turns_a_bucket_gives_exactly_its_burst(
    cache: Cache, burst: int, turns: Sequence[int]
) -> None:
    await cache.clear()
    processes = [TokenBuckets(cache=cache, name="t") for _ in range(4)]
    rate = Rate(per_s=STILL, burst=burst)
    total = 0
    for turn in turns:
        total += await granted(processes[turn], rate, times=turn + 1)
    for process in processes:
        total += await granted(process, rate, times=burst)
    assert total == burst


async def test_processes_together_get_the_rate_and_not_more(cache: Cache) -> None:
    processes = [TokenBuckets(cache=cache, name="t") for _ in range(3)]
    rate, total, begun = Rate(per_s=400, burst=40), 0, time.monotonic()
    while time.monotonic() < begun + 0.5:
        total += sum(await asyncio.gather(*(granted(p, rate, times=10) for p in processes)))
    most = 40 + 400 * (time.monotonic() - begun)
    assert 40 < total <= most + 1


async def test_busy_processes_ask_valkey_once_for_many_tokens(valkey_socket: Path) -> None:
    counting = await CountingCache.open(f"unix://{valkey_socket}")
    await counting.clear()
    buckets = TokenBuckets(cache=counting, name="t")
    assert await granted(buckets, Rate(per_s=1e6, burst=100_000), times=1) == 1
    for _ in range(5_000):
        assert (await buckets.take("k", rate=Rate(per_s=1e6, burst=100_000))).is_granted
    assert isinstance(counting, CountingCache)
    assert counting.scripts < 5_000 / 50
    await counting.close()


async def test_who_asks_an_empty_bucket_again_and_again_costs_valkey_nothing(valkey_socket: Path) -> None:
    counting = await CountingCache.open(f"unix://{valkey_socket}")
    await counting.clear()
    buckets = TokenBuckets(cache=counting, name="t")
    assert await granted(buckets, Rate(per_s=STILL, burst=1), times=500) == 1
    assert isinstance(counting, CountingCache)
    assert counting.scripts <= 3
    await counting.close()


async def test_what_a_process_leased_and_did_not_spend_goes_back(cache: Cache) -> None:
    clock = Hand()
    rate = Rate(per_s=STILL, burst=400)
    busy = TokenBuckets(cache=cache, name="t", monotonic=clock)
    assert await granted(busy, rate, times=60) == 60
    clock.now_s += LEASE_S
    assert await granted(busy, rate, times=1) == 1
    assert await granted(TokenBuckets(cache=cache, name="t"), rate, times=400) == 339


async def test_a_new_rate_holds_from_the_next_lease_on(cache: Cache) -> None:
    buckets = TokenBuckets(cache=cache, name="t")
    assert await granted(buckets, Rate(per_s=STILL, burst=1), times=3) == 1
    assert (await buckets.take("k", rate=Rate(per_s=STILL, burst=1))).wait_s > 900
    quick = Rate(per_s=1e6, burst=1000)
    await until(lambda: buckets.take("k", rate=quick), lambda taken: taken.is_granted)


@pytest.mark.requirement("C24")
async def test_without_valkey_processes_go_on_within_their_shares_and_share_again_after(
    tmp_path: Path,
) -> None:
    with own_servers(tmp_path / "home", migrated=False) as servers:
        cache = await Cache.open(f"unix://{servers.valkey_socket}", retry_after_s=0.01)
        clock = Hand()
        rate = Rate(per_s=STILL, burst=100)
        processes = [TokenBuckets(cache=cache, name="t", monotonic=clock) for _ in range(2)]
        for process in [*processes, processes[0]]:
            clock.now_s += LEASE_S
            assert (await process.take("k", rate=rate)).is_granted
        servers.valkey.kill9()
        clock.now_s += LEASE_S
        shares = [await granted(process, rate, times=200) for process in processes]
        assert [40 < share <= 50 for share in shares] == [True, True]
        assert not (await processes[0].take("k", rate=rate)).is_shared
        servers.valkey.start()
        await until(lambda: _again(processes[0], clock), lambda is_shared: is_shared)
        await cache.close()


async def _again(process: TokenBuckets, clock: Hand) -> bool:
    clock.now_s += RETRY_S
    return (await process.take("k", rate=Rate(per_s=STILL, burst=100))).is_shared


async def test_a_process_that_never_reached_valkey_takes_a_cautious_share(tmp_path: Path) -> None:
    cache = await Cache.open(f"unix://{tmp_path}/none.sock")
    buckets = TokenBuckets(cache=cache, name="t")
    taken = [await buckets.take("k", rate=Rate(per_s=STILL, burst=100)) for _ in range(60)]
    assert sum(one.is_granted for one in taken) == 100 / PROCESSES_UNKNOWN
    assert taken[-1].wait_s > 0
    await cache.close()


@pytest.mark.parametrize(
    ("per_s", "burst"), [(0, 1), (-1, 1), (float("inf"), 1), (float("nan"), 1), (1, 0), (1, 2e9)]
)
def test_a_rate_that_is_none_is_refused(per_s: float, burst: int) -> None:
    with pytest.raises(InvalidRate):
        Rate(per_s=per_s, burst=burst)
