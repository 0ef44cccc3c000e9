"""The offline engine says of every event what the definition says, bit for bit."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings

from faregate.features.declarations import Entity, FeatureInvalid, count
from faregate.features.event_table import event_table
from faregate.features.facts import Fact, Reversal
from faregate.features.feature_set import FeatureSet
from faregate.features.offline import backfill
from tests.feature_streams import KINDS, PAID, small, streams
from tests.features_oracle import Values, oracle


def told_offline(facts: Sequence[Fact], declared: FeatureSet = KINDS) -> dict[str, Values]:
    rows = backfill(event_table(facts, declared), declared, threads=1).to_pylist()
    return {row["id"]: {name: row[name] for name in declared.feature_named} for row in rows}


def told_by_definition(facts: Sequence[Fact], declared: FeatureSet = KINDS) -> dict[str, Values]:
    return {asked.event.id: asked.values for asked in oracle(facts, declared) if asked.values is not None}


@pytest.mark.requirement("F13")
@given(facts=streams())
@settings(max_examples=40, deadline=None)
def test_every_value_is_that_of_the_definition(facts: list[Fact]) -> None:
    expected, found = told_by_definition(facts), told_offline(facts)
    # A dictionary of the answers of an id that was answered, then reversed, holds what was answered.
    assert {name: found[name] for name in expected} == expected
    assert {type(v) for row in found.values() for v in row.values()} <= {int, float, type(None)}


@pytest.mark.requirement("F3")
@pytest.mark.parametrize(
    ("other_at_s", "other_id", "with_itself", "without"),
    [
        (99, "1", 1, None),
        (100, "1", 1, None),  # at t−w exactly: out
        (100.999, "1", 1, None),  # the same grain
        (101, "1", 2, 1),
        (159, "1", 2, 1),
        (160, "1", 2, 1),  # the same instant and a smaller id: before
        (160, "9", 1, None),  # the same instant and a larger id: not seen
    ],
)
def test_a_window_begins_after_its_edge_and_ends_with_the_event(
    other_at_s: float, other_id: str, with_itself: int, without: int | None
) -> None:
    features = (
        count("with_itself", by=Entity.CARD, of=PAID, over=60),
        count("without", by=Entity.CARD, of=PAID, over=60, counts_itself=False, default=None),
    )
    declared = FeatureSet(name="edges", asked_by=PAID, others=(), features=features)
    # Seconds begin where the beginning's do.
    facts: list[Fact] = [small(at_s=other_at_s, event_id=other_id), small(at_s=160, event_id="5")]
    expected = {"with_itself": with_itself, "without": without}
    assert told_by_definition(facts, declared)["5"] == expected
    assert told_offline(facts, declared)["5"] == expected


def test_a_reversal_takes_an_event_out_of_what_comes_after_it_and_of_nothing_before() -> None:
    first = small(at_s=1, event_id="1", amount=5)
    reversal = Reversal(event=first, observed_ms=first.at_ms + 3_000)
    facts: list[Fact] = [first, small(at_s=2, event_id="2"), reversal, small(at_s=4, event_id="4")]
    found = told_offline(facts)
    assert {name: found[name]["sum_60"] for name in found} == {"1": 5, "2": 6, "4": 2}


def test_an_event_that_was_reversed_before_it_arrived_is_never_seen_and_never_answered() -> None:
    event = small(at_s=1, event_id="1")
    facts: list[Fact] = [Reversal(event=event, observed_ms=event.at_ms), event, small(at_s=2, event_id="2")]
    assert {name: row["n_60"] for name, row in told_offline(facts).items()} == {"2": 1}


def test_no_facts_have_no_values() -> None:
    assert told_offline([]) == {}


def test_a_set_that_is_refused_never_reaches_an_engine() -> None:
    with pytest.raises(FeatureInvalid):
        FeatureSet(
            name="x", asked_by=PAID, others=(), features=(count("a b", by=Entity.CARD, of=PAID, over=60),)
        )
