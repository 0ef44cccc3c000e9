"""`faregate bench features`: the same payments for both sides, and figures that come from work that was done."""

from __future__ import annotations

from pathlib import Path

import pytest

from faregate.bench.features import endpoint, reading
from faregate.bench.features.feast_peer import FeastMissing, python_of, require_feast
from faregate.bench.features.windows import bytes_of_many, hot_events, over, window_costs
from faregate.bench.features.workload import views
from faregate.features.declarations import OF_ITSELF
from faregate.features.keeping import live_features
from faregate.features.online import OnlineFeatures
from faregate.features.payments import PAYMENTS
from faregate.infra.cache import Cache
from faregate.infra.http.app import create_app
from faregate.infra.http.server import serving


def test_both_sides_have_every_feature_over_a_window() -> None:
    windowed = {f.name for f in PAYMENTS.features if f.aggregate not in OF_ITSELF}
    assert {name for features in views().values() for name in features} == windowed
    assert len(views()) == len(PAYMENTS.asked_by.entities)


async def test_ours_is_measured_over_http_and_directly_and_every_read_is_answered(cache: Cache) -> None:
    features = live_features(cache)
    rows = await reading.fill_ours(features, people=20, count=200)
    assert {name: len(of) > 0 for name, of in rows.by_view().items()} == dict.fromkeys(views(), True)
    asked = reading.later(people=20, after=200, count=60, seed=1)
    app = create_app(title="features", version="1", routers=[endpoint.routes(features)])
    async with serving(app) as url:
        over_http = await reading.ours_over_http(url, asked, alone=20)
    directly = await reading.ours_directly(features, reading.later(people=20, after=300, count=20, seed=2))
    assert over_http.failed == 0
    assert 0 < over_http.p50_ms <= over_http.p99_ms
    assert directly.per_s > 0
    assert set(reading.entity_rows(asked)[0]) == set(views())


async def test_windows_are_measured_at_a_card_that_has_all_its_events_in_thirty_days(cache: Cache) -> None:
    measured = await window_costs(cache, events=2_000, reads=10)
    assert measured.events == 2_000
    month = OnlineFeatures(cache, over("month", 30 * 86_400), remembered_s=0)
    again = await month.observe(next(hot_events(2_000, first=2_009)))
    assert again.values is not None
    assert again.values["n"] == 2_010


async def test_bytes_are_of_events_that_a_window_can_reach(cache: Cache) -> None:
    few, _ = await bytes_of_many(cache, customers=4)
    await cache.clear()
    more, _ = await bytes_of_many(cache, customers=8)
    assert 0 < few < more


def test_a_peer_that_is_not_installed_is_named_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(FeastMissing, match="make bench NAME=features"):
        require_feast(python_of(tmp_path))
