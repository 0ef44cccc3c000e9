"""Valkey as a cache: bytes with a time to live, and a breaker when it is gone."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from faregate.infra.cache import Cache, CacheUnavailable, InvalidCacheUrl, configuration_of
from tests.servers import own_servers


async def test_a_value_is_there_until_it_is_deleted(cache: Cache) -> None:
    assert await cache.get("a") is None
    await cache.put("a", b"\x00:\xff", revision=1, ttl_s=60)
    assert await cache.get("a") == b"\x00:\xff"
    await cache.delete("a", "never-there")
    assert await cache.get("a") is None


async def test_a_value_is_gone_after_its_time(cache: Cache) -> None:
    await cache.put("a", b"1", revision=1, ttl_s=0.001)
    await asyncio.sleep(0.002)
    assert await cache.get("a") is None


async def test_a_late_write_does_not_hide_a_newer_value(cache: Cache) -> None:
    for revision, value in ((9, b"first"), (10, b"newest"), (9, b"late"), (2, b"very late")):
        await cache.put("a", value, revision=revision, ttl_s=60)
    assert await cache.get("a") == b"newest"
    await cache.put("a", b"again", revision=10, ttl_s=60)
    assert await cache.get("a") == b"again"


async def test_a_valkey_that_was_never_there_is_unavailable_and_keeps_nobody_from_starting(
    tmp_path: Path,
) -> None:
    cache = await Cache.open(f"unix://{tmp_path}/none.sock")
    with pytest.raises(CacheUnavailable):
        await cache.get("a")
    await cache.close()


async def test_many_calls_at_once_to_a_valkey_that_never_was_wait_no_longer_than_one(tmp_path: Path) -> None:
    cache = await Cache.open(f"unix://{tmp_path}/none.sock", request_timeout_ms=200, retry_after_s=60)
    async with asyncio.timeout(200 * 0.2 / 2):  # one after the other they would take 40 s
        answers = await asyncio.gather(*(cache.get("a") for _ in range(200)), return_exceptions=True)
    assert {type(answer) for answer in answers} == {CacheUnavailable}
    await cache.close()


async def test_after_one_failure_calls_fail_at_once_until_a_probe_succeeds(tmp_path: Path) -> None:
    with own_servers(tmp_path / "home", migrated=False) as servers:
        cache = await Cache.open(f"unix://{servers.valkey_socket}", retry_after_s=0.1)
        await cache.put("a", b"1", revision=1, ttl_s=60)
        servers.valkey.kill9()
        with pytest.raises(CacheUnavailable, match="does not answer"):
            await cache.get("a")
        with pytest.raises(CacheUnavailable, match="a moment ago"):
            await cache.get("a")
        servers.valkey.start()
        assert await eventually_get(cache, "a") == b"1"
        await cache.close()


async def eventually_get(cache: Cache, key: str) -> bytes | None:
    while True:
        try:
            return await cache.get(key)
        except CacheUnavailable:
            await asyncio.sleep(0.02)


async def test_nothing_is_written_to_standard_output_by_a_dead_valkey(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    cache = await Cache.open(f"unix://{tmp_path}/none.sock")
    with pytest.raises(CacheUnavailable):
        await cache.ping()
    await cache.close()
    assert capfd.readouterr() == ("", "")


def test_a_url_may_name_a_host_a_database_and_a_password() -> None:
    configuration = configuration_of("rediss://me:p%40ss@cache.example:7000/3")
    [address] = configuration.addresses
    assert (address.host, address.port) == ("cache.example", 7000)
    assert (configuration.use_tls, configuration.database_id) == (True, 3)
    assert configuration.credentials is not None
    assert (configuration.credentials.username, configuration.credentials.password) == ("me", "p@ss")


@pytest.mark.parametrize(
    "url", ["", "cache:6379", "http://cache", "redis://", "redis://cache/first", "unix://x/y"]
)
def test_another_url_is_refused_without_repeating_its_secrets(url: str) -> None:
    with pytest.raises(InvalidCacheUrl):
        configuration_of(url)
