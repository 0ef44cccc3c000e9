"""Breakers in Valkey, seen by any number of processes: opened once, probed by as many as may, closed for all."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faregate.infra.cache import Cache
from faregate.infra.shared_breakers import SharedBreakers, SharedView

KEY = "bureau/send"


@pytest.fixture
def breakers(cache: Cache) -> SharedBreakers:
    return SharedBreakers(cache=cache, name="test")


async def half_open(
    breakers: SharedBreakers, *leases: str, probes: int = 3, lease_s: float = 60.0
) -> SharedView:
    """Open the breaker for no time worth mentioning and ask for probes."""
    await breakers.open(KEY, seen_generation=0, for_s=0.001)
    await asyncio.sleep(0.002)
    return await breakers.probe(KEY, leases=leases, probes=probes, lease_s=lease_s)


async def report(breakers: SharedBreakers, lease: str, *, is_good: bool, generation: int = 2) -> SharedView:
    return await breakers.report(
        KEY, generation=generation, lease=lease, is_good=is_good, probes=3, successes=2, open_s=60.0
    )


async def test_one_of_several_processes_opens_it_and_all_see_it(breakers: SharedBreakers) -> None:
    views = await asyncio.gather(*(breakers.open(KEY, seen_generation=0, for_s=60.0) for _ in range(20)))
    assert [view.is_changed for view in views].count(True) == 1
    [seen] = (await breakers.census(keys=[KEY])).views
    assert (seen.state, seen.generation) == ("open", 1)
    assert 59 < seen.open_for_s <= 60


async def test_what_a_process_saw_before_the_last_change_opens_nothing(breakers: SharedBreakers) -> None:
    await half_open(breakers, "a", "b", "c")
    await report(breakers, "a", is_good=True)
    closed = await report(breakers, "b", is_good=True)
    assert (closed.state, closed.generation) == ("closed", 3)
    late = await breakers.open(KEY, seen_generation=0, for_s=60.0)
    assert late.state == "closed"
    assert (await breakers.open(KEY, seen_generation=3, for_s=60.0)).state == "open"


async def test_a_valkey_that_forgot_everything_learns_of_an_opening(breakers: SharedBreakers) -> None:
    view = await breakers.open(KEY, seen_generation=41, for_s=60.0)
    assert (view.state, view.generation) == ("open", 42)


async def test_there_are_no_probes_while_it_is_open(breakers: SharedBreakers) -> None:
    await breakers.open(KEY, seen_generation=0, for_s=60.0)
    view = await breakers.probe(KEY, leases=["a"], probes=3, lease_s=60.0)
    assert (view.state, view.granted) == ("open", 0)


@pytest.mark.requirement("C15")
async def test_a_thousand_callers_of_two_processes_get_exactly_the_probes_there_are(
    breakers: SharedBreakers, valkey_socket: Path
) -> None:
    other_cache = await Cache.open(f"unix://{valkey_socket}", request_timeout_ms=5_000)
    other = SharedBreakers(cache=other_cache, name="test")
    await half_open(breakers)
    views = await asyncio.gather(
        *(
            (breakers if number % 2 else other).probe(KEY, leases=[f"l{number}"], probes=3, lease_s=60.0)
            for number in range(1_000)
        )
    )
    await other_cache.close()
    assert sum(view.granted for view in views) == 3


async def test_a_round_ends_with_its_answers(breakers: SharedBreakers) -> None:
    await half_open(breakers, "a", "b", "c")
    assert (await report(breakers, "a", is_good=False)).state == "half_open"
    assert (await breakers.probe(KEY, leases=["d"], probes=3, lease_s=60.0)).granted == 0
    opened = await report(breakers, "b", is_good=False)
    assert (opened.state, opened.is_changed) == ("open", True)
    assert (await report(breakers, "c", is_good=True)).state == "open", "its round is over"


async def test_the_place_of_a_killed_prober_is_given_out_again(breakers: SharedBreakers) -> None:
    await half_open(breakers, "a", "b", "c", lease_s=0.001)
    await asyncio.sleep(0.002)
    view = await breakers.probe(KEY, leases=["d", "e", "f", "g"], probes=3, lease_s=60.0)
    assert view.granted == 3
    assert (await report(breakers, "a", is_good=False)).state == "half_open", (
        "a late answer counts for nothing"
    )


async def test_a_probe_that_was_not_sent_frees_its_place(breakers: SharedBreakers) -> None:
    await half_open(breakers, "a", "b", "c")
    await breakers.release(KEY, leases=["a", "b"])
    assert (await breakers.probe(KEY, leases=["d", "e", "f"], probes=3, lease_s=60.0)).granted == 2


async def test_the_living_are_counted_and_show_what_they_wish(breakers: SharedBreakers) -> None:
    await breakers.beat("one", lives_s=60.0, shows='{"n":1}', keys=[])
    census = await breakers.beat("two", lives_s=60.0, shows='{"n":2}', keys=[KEY])
    [view] = census.views
    assert (census.processes, view.state, view.generation, view.open_for_s) == (2, "closed", 0, 0.0)
    assert await breakers.shown() == {"one": b'{"n":1}', "two": b'{"n":2}'}
    await breakers.beat("two", lives_s=0.001, shows="{}", keys=[])
    await asyncio.sleep(0.002)
    assert (await breakers.census(keys=[])).processes == 1
