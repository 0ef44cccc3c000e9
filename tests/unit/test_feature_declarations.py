"""A feature is one declaration, and what no engine could compute is refused by name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from faregate.features.benchmark import BENCHMARK
from faregate.features.declarations import (
    Entity,
    Feature,
    FeatureInvalid,
    Source,
    count,
    days,
    distinct,
    hours,
    least,
    own,
    ratio,
    total,
)
from faregate.features.facts import FeatureEvent, FeatureEventInvalid, Status, source_of, tie_of, timeliness
from faregate.features.feature_set import FeatureSet
from faregate.features.payments import PAYMENTS

CARD = Entity.CARD
PAID = Source(name="paid", entities=(CARD, Entity.DEVICE), numbers=("amount",), texts=("shop",))
CLICK = Source(name="click", entities=(Entity.IP, CARD))
ONE = count("one", by=CARD, of=PAID, over=hours(1))
TWO = replace(ONE, name="other")


def declared(*features: Feature) -> FeatureSet:
    return FeatureSet(name="some", asked_by=PAID, others=(CLICK,), features=features)


REFUSED = {
    "there is no source": replace(TWO, of="nowhere"),
    "click names no device": count("x", by=Entity.DEVICE, of=CLICK, over=60),
    "paid, which asks, names no ip": count("x", by=Entity.IP, of=CLICK, over=60),
    "between 60 s": replace(TWO, window_s=59),
    "and 2592000 s": replace(TWO, window_s=days(30) + 1),
    "its grain is a second": replace(TWO, grain_s=0),
    "whole grains": replace(TWO, grain_s=7),
    "wants a coarser grain": least("x", "amount", by=CARD, of=PAID, over=hours(1), grain_s=1),
    "no number 'shop'": total("x", "shop", by=CARD, of=PAID, over=hours(1)),
    "paid has no number 'shop'": own("x", "shop"),
    "no field 'colour'": distinct("x", "colour", by=CARD, of=PAID, over=3_600, grain_s=60, cap=9),
    "states a cap": distinct("x", "shop", by=CARD, of=PAID, over=3_600, grain_s=60, cap=0),
    "only distinct has a cap": replace(TWO, cap=3),
    "its delay is between": replace(TWO, delay_s=-1, counts_itself=False),
    "does not count the event itself": replace(TWO, delay_s=60),
    "its default is an integer": replace(TWO, default=0.5),
    "its name is lower case": replace(ONE, name="Über"),
    "there is no feature 'two'": ratio("x", "one", "two"),
    "half is a fraction itself": ratio("x", "half", "one"),
}


@pytest.mark.requirement("F3")
@pytest.mark.parametrize("problem", REFUSED)
def test_a_declaration_that_cannot_be_meant_is_refused_with_the_reason(problem: str) -> None:
    with pytest.raises(FeatureInvalid, match=problem):
        declared(ONE, ratio("half", "one", "one"), REFUSED[problem])


def test_a_name_is_declared_once() -> None:
    with pytest.raises(FeatureInvalid, match="feature one: declared twice"):
        declared(ONE, ONE)
    with pytest.raises(FeatureInvalid, match="source paid: declared twice"):
        FeatureSet(name="some", asked_by=PAID, others=(PAID,), features=(ONE,))


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        (Source(name="s", entities=()), "names no entity"),
        (Source(name="s", entities=(CARD, CARD)), "named twice"),
        (Source(name="s", entities=(CARD,), numbers=("ip",)), "is no name"),
        (Source(name="s", entities=(CARD,), lateness_s=-1), "not negative"),
    ],
)
def test_a_source_that_cannot_be_meant_is_refused(source: Source, problem: str) -> None:
    with pytest.raises(FeatureInvalid, match=problem):
        FeatureSet(name="some", asked_by=source, others=(), features=())


def test_the_version_changes_with_whatever_could_change_a_value_and_with_nothing_else() -> None:
    base = declared(ONE)
    assert base.version == declared(replace(ONE)).version
    changed = [declared(replace(ONE, window_s=60)), declared(replace(ONE, default=1)), declared()]
    changed.append(
        FeatureSet(name="some", asked_by=replace(PAID, lateness_s=1), others=(CLICK,), features=(ONE,))
    )
    assert len({base.version, *(other.version for other in changed)}) == 5


def test_the_sets_that_come_along_are_valid_and_hold_what_the_benchmark_names() -> None:
    assert len(BENCHMARK.version) == len(PAYMENTS.version) == 16
    wanted = {f"card_{kind}_{span}" for kind in ("count", "mean") for span in ("1d", "7d", "30d")}
    wanted |= {f"terminal_{kind}_{span}" for kind in ("count", "risk") for span in ("1d", "7d", "30d")}
    assert wanted | {"amount_minor", "is_weekend", "is_night"} <= set(BENCHMARK.feature_named)


def event(**changes: object) -> FeatureEvent:
    given: dict[str, object] = {"id": "1", "source": "paid", "at_ms": 5_000, "observed_ms": 5_000}
    given |= {"entities": {CARD: "c"}, "values": {"amount": 1, "shop": "s"}}
    return FeatureEvent(**(given | changes))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "changes",
    [
        {"source": "nowhere"},
        {"id": ""},
        {"at_ms": -1},
        {"at_ms": 2**32 * 1_000},
        {"values": {"amount": 10**12 + 1, "shop": "s"}},
        {"values": {"amount": 1.0, "shop": "s"}},
        {"values": {"amount": True, "shop": "s"}},
        {"values": {"shop": "s"}},
        {"values": {"amount": 1, "shop": None}},
        {"values": {"amount": 1, "colour": "red"}},
        {"values": {"amount": 1, "shop": 7}},
        {"values": {"amount": 1, "shop": "\ud800"}},
        {"id": "x" * 257},
        {"entities": {CARD: ""}},
        {"entities": {CARD: "x" * 10_000}},
        {"entities": {CARD: "\ud800"}},
        {"entities": {Entity.IP: "::1"}},
    ],
)
def test_an_event_that_no_engine_could_hold_exactly_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(FeatureEventInvalid):
        source_of(event(**changes), declared(ONE))


@pytest.mark.parametrize(
    ("behind_ms", "status"),
    [
        (3_599_000, Status.APPLIED),
        (3_600_000, Status.APPLIED),
        (3_601_000, Status.LATE),
        (-60_000, Status.APPLIED),
        (-60_001, Status.AHEAD),
    ],
)
def test_lateness_is_declared_and_exact(behind_ms: int, status: Status) -> None:
    assert timeliness(event(at_ms=10**7, observed_ms=10**7 + behind_ms), PAID) is status


def test_events_of_one_millisecond_stand_in_the_order_of_their_ids() -> None:
    ids = ["2", "10", "4194303"]
    assert sorted(ids, key=tie_of) == ids
    assert [tie_of(name) == int(name) for name in ids] == [True, True, True]
    assert all(0 <= tie_of(name) < 2**22 for name in ("4194304", "pay_01J3", "٣", "-1"))


def test_the_place_of_an_event_is_its_second_its_millisecond_and_its_id() -> None:
    places = [
        event(at_ms=at, id=name) for at, name in ((5_000, "2"), (5_001, "1"), (5_999, "1"), (6_000, "0"))
    ]
    assert sorted(places, key=lambda one: (one.second, one.within_second)) == places
