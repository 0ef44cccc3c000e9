"""`bench bus` on a small scale: what it checks holds, and its figures are there for both numbers of consumers."""

from __future__ import annotations

from pathlib import Path

from faregate.bench.bus import BusPlan
from faregate.entrypoints.bench_bus import bench_bus


async def test_both_numbers_of_consumers_are_measured_and_every_event_is_handled_once(tmp_path: Path) -> None:
    plan = BusPlan(events=4_000, per_s=200, seconds=1, warm_up_s=0.5, transactions=10, consumers=(1, 2))
    result = await bench_bus(plan, home=tmp_path / "home", kafka=False, say=lambda _: None)
    held = {
        name: held for name, held in result.checks.items() if "costs" not in name
    }  # that is measured alone
    assert all(held.values()), held
    assert result.details["events"] == 4_000
    for consumers in (1, 2):
        assert result.details[f"embedded log, {consumers} consumer(s): events per s"] > 0
