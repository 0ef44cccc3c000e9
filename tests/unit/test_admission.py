"""Which work is refused at which delay, as a table; and what the event loop's lag tells."""

from __future__ import annotations

import asyncio
import time

import pytest

from faregate.infra.admission import SAMPLE_S, SAMPLES, Admission, LoopLag, Overloaded, Signal, Work
from faregate.infra.telemetry.metrics import Metrics

pytestmark = pytest.mark.requirement("C30")


def admission(delays: dict[str, float], metrics: Metrics | None = None) -> Admission:
    """One that bears a second, with a signal for everything and one for submissions alone."""
    signals = [
        Signal(name="all", delay_s=lambda: delays.get("all", 0.0), works=tuple(Work)),
        Signal(name="submissions", delay_s=lambda: delays.get("submissions", 0.0), works=(Work.SUBMIT,)),
    ]
    return Admission(delay_s_max=1.0, signals=signals, metrics=metrics or Metrics())


def admitted(gate: Admission) -> set[Work]:
    found = set()
    for work in Work:
        try:
            gate.admit(work)
        except Overloaded:
            continue
        found.add(work)
    return found


EVERYTHING = set(Work)
READS = {Work.READ, Work.DATABASE_READ, Work.KEY_LOOK_UP}


@pytest.mark.parametrize(
    ("delays", "kept"),
    [
        ({}, EVERYTHING),
        ({"all": 0.5}, EVERYTHING),
        ({"all": 0.51}, EVERYTHING - {Work.LIST}),
        ({"all": 1.0}, EVERYTHING - {Work.LIST}),
        ({"all": 1.01}, READS),
        ({"all": 2.0}, READS),
        ({"all": 2.01}, set()),
        ({"submissions": 1.01}, EVERYTHING - {Work.SUBMIT}),
        ({"submissions": 60.0}, EVERYTHING - {Work.SUBMIT}),
    ],
)
def test_the_longer_the_delay_the_more_important_the_work_that_is_refused(
    delays: dict[str, float], kept: set[Work]
) -> None:
    assert admitted(admission(delays)) == kept


@pytest.mark.parametrize(("delay_s", "retry_after_s"), [(1.1, 1.1), (4.2, 4.2)])
def test_a_refusal_says_when_to_try_again(delay_s: float, retry_after_s: float) -> None:
    with pytest.raises(Overloaded) as refusal:
        admission({"submissions": delay_s}).admit(Work.SUBMIT)
    assert refusal.value.facts == {"retry_after_s": retry_after_s}


async def test_refusals_and_delays_are_metrics() -> None:
    metrics = Metrics()
    assert admitted(admission({"all": 1.5}, metrics)) == READS
    text = (await metrics.render()).decode()
    assert 'faregate_admission_refused_total{work="submit"} 1.0' in text
    assert 'faregate_admission_refused_total{work="read"} 0.0' in text
    assert 'faregate_admission_delay_seconds{signal="all"} 1.5' in text


async def test_one_long_pause_is_no_standing_lag_and_many_are() -> None:
    lag = LoopLag()
    async with lag.measured():
        await asyncio.sleep(SAMPLE_S * SAMPLES)
        time.sleep(0.1)  # noqa: ASYNC251 - blocks the loop, as a burst does
        await asyncio.sleep(SAMPLE_S)
        once = lag.standing_s()
        for _ in range(2 * SAMPLES):
            time.sleep(0.1)  # noqa: ASYNC251 - blocks the loop, as an overload does
            await asyncio.sleep(0)
        standing = lag.standing_s()
    assert once < 0.05 < standing
