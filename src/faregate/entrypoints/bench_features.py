"""Runs `bench.features`: reads beside Feast on one Valkey, windows and bytes, then freshness on a system of its own."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from faregate.bench.children import guarded
from faregate.bench.features import reading
from faregate.bench.features.feast_peer import Feast, answering, require_feast
from faregate.bench.features.freshness import freshness
from faregate.bench.features.reading import Read
from faregate.bench.features.windows import Windows, bytes_of_many, window_costs
from faregate.bench.features.workload import views
from faregate.bench.loadgen import percentile_ms
from faregate.bench.report import BenchResult, target
from faregate.entrypoints.local_client import new_token, site_of_system
from faregate.features.keeping import live_features
from faregate.features.payments import PAYMENTS
from faregate.infra.cache import Cache
from faregate.infra.embedded import embedded_servers
from faregate.infra.local_system import Plan, local_system
from faregate.infra.supervisor import free_port

Say = Callable[[str], None]
TIMEOUT_MS: Final = 60_000
FILL: Final = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class FeaturesBench:
    """What is measured. `feast` is the peer's interpreter; `reads` is how often each side is asked alone."""

    feast: Path
    people: int = 2_000
    reads: int = 2_000
    hot_events: int = 1_000_000
    customers: int = 1_000
    samples: int = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reads:
    ours: Read
    peer: Read
    ours_directly: Read
    peer_directly: Read


async def bench_features(wanted: FeaturesBench, *, home: Path, say: Say) -> BenchResult:
    """Measure everything; the peer has to be installed. Raises FeastMissing."""
    require_feast(wanted.feast)
    await asyncio.to_thread(home.mkdir, parents=True, exist_ok=True)
    with embedded_servers(home / "reads", wanted={"valkey"}, end_with_us=True) as servers:
        reads = await _reads(wanted, socket=servers.valkey_socket, folder=home / "feast", say=say)
    with embedded_servers(home / "windows", wanted={"valkey"}, end_with_us=True) as servers:
        cache = await Cache.open(f"unix://{servers.valkey_socket}", request_timeout_ms=TIMEOUT_MS)
        try:
            say(f"a card with {wanted.hot_events:,} events")
            windows = await window_costs(cache, events=wanted.hot_events, reads=wanted.reads)
            await cache.clear()
            say(f"the payments of {wanted.customers:,} customers")
            inside, bytes_each = await bytes_of_many(cache, customers=wanted.customers)
        finally:
            await cache.close()
    say("from the commit of an event to its features")
    fresh = await _freshness(home / "fresh", samples=wanted.samples)
    return _result(reads, windows, fresh, kept={"events": inside, "bytes_each": round(bytes_each, 1)})


async def _reads(wanted: FeaturesBench, *, socket: Path, folder: Path, say: Say) -> _Reads:
    cache = await Cache.open(f"unix://{socket}", request_timeout_ms=TIMEOUT_MS)
    features = live_features(cache)
    await features.load()
    feast = Feast(python=wanted.feast, folder=folder, socket=socket)
    try:
        say(f"{FILL:,} payments of {wanted.people:,} people")
        rows = await reading.fill_ours(features, people=wanted.people, count=FILL)
        count = 4 * wanted.reads
        alone, direct = (
            reading.later(people=wanted.people, after=FILL + begin, count=length, seed=seed)
            for seed, (begin, length) in enumerate(((0, count), (count, wanted.reads)), start=1)
        )
        await feast.fill(
            views=views(), rows=rows.by_view(), payments=reading.entity_rows(direct[: wanted.people])
        )
        say("the peer, over HTTP")
        async with feast.serving() as url:
            asked = reading.entity_rows(alone)
            await reading.feast_over_http(url, asked[:400], alone=200)
            peer = await reading.feast_over_http(url, asked, alone=wanted.reads)
        say("ours, over HTTP")
        async with _endpoint(socket, log=folder / "ours.log") as url:
            await reading.ours_over_http(url, alone[:400], alone=200)
            ours = await reading.ours_over_http(url, alone[400:], alone=wanted.reads - 400)
        say("both, directly")
        peer_directly = reading.of_seconds(await feast.read_directly(wanted.reads))
        ours_directly = await reading.ours_directly(features, direct)
    finally:
        await cache.close()
    return _Reads(ours=ours, peer=peer, ours_directly=ours_directly, peer_directly=peer_directly)


@asynccontextmanager
async def _endpoint(socket: Path, *, log: Path) -> AsyncIterator[str]:
    """Run our server, one process, while the block runs."""
    port = free_port(host="127.0.0.1")
    command = [sys.executable, "-m", "faregate.bench.features.endpoint", str(socket), str(port)]
    url = f"http://127.0.0.1:{port}"
    async with guarded(command, log=log):
        await answering(f"{url}/healthz", log=log)
        yield url


async def _freshness(home: Path, *, samples: int) -> Sequence[float]:
    plan = Plan(home=home, temporary=True, workers=0, roles=("sequencer", "features"), sandbox=False)
    async with local_system(plan) as system, aiohttp.ClientSession() as session:
        site = site_of_system(system)
        token = await new_token(site, client_id="bench", scopes=["fraud:events"])
        cache = await Cache.open(site.valkey_url)
        try:
            features = live_features(cache)
            [url] = system.api_urls
            await freshness(session, features, url=url, token=token, samples=5)
            return await freshness(session, features, url=url, token=token, samples=samples, first=5)
        finally:
            await cache.close()


def _result(
    reads: _Reads, windows: Windows, fresh: Sequence[float], *, kept: Mapping[str, Any]
) -> BenchResult:
    ours, peer = reads.ours, reads.peer
    slope = windows.month.p99_ms / windows.minute.p99_ms
    ordered = sorted(fresh)
    fresh_ms = {f"p{at}": round(percentile_ms(ordered, at), 1) for at in (50, 99, 100)}
    return BenchResult(
        name="features",
        ours=ours.p99_ms,
        peer=peer.p99_ms,
        peer_name="Feast's feature server",
        unit="ms at p99, one payment over HTTP",
        lower_is_better=True,
        checks={
            "every read was answered, by both": not ours.failed and not peer.failed,
            "what was reported came into the features": len(fresh) > 0,
        },
        details={
            "features": sum(map(len, views().values())),
            "entities": len(views()),
            "version": PAYMENTS.version,
            "http": {"ours": ours.as_json(), "feast": peer.as_json()},
            "directly": {
                "ours": reads.ours_directly.as_json(),
                "feast": reads.peer_directly.as_json(),
            },
            "target_p99_a_third": target(3 * ours.p99_ms <= peer.p99_ms),
            "rate_ratio": round(ours.per_s / peer.per_s, 2),
            "target_rate_3x": target(ours.per_s >= 3 * peer.per_s),
            "windows": {
                "events": windows.events,
                "minute": windows.minute.as_json(),
                "thirty_days": windows.month.as_json(),
                "p99_ratio": round(slope, 2),
            },
            "target_thirty_days_1.2x": target(slope <= 1.2),
            "bytes_an_event": {"hot": round(windows.bytes_each, 1), "of_many": kept},
            "target_16_bytes": target(windows.bytes_each <= 16),
            "commit_to_feature_ms": fresh_ms,
            "target_fresh_within_1s": target(max(fresh) < 1),
        },
    )
