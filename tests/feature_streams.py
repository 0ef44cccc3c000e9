"""Streams of facts for tests: a set with every aggregate, and what may go wrong on the way to the engines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from hypothesis import strategies as st

from faregate.features.declarations import (
    Entity,
    Source,
    count,
    distinct,
    greatest,
    is_night,
    is_weekend,
    last,
    least,
    mean,
    own,
    ratio,
    time_since,
    time_since_first,
    total,
)
from faregate.features.facts import Fact, FeatureEvent, Reversal, ReversalById
from faregate.features.feature_set import FeatureSet

CARD, IP = Entity.CARD, Entity.IP
PAID = Source(name="paid", entities=(CARD, IP), numbers=("amount",), texts=("shop",), lateness_s=300)
LOGIN = Source(name="login", entities=(IP,), numbers=("failures",), lateness_s=300)
FRAUD = Source(name="fraud", entities=(CARD,), texts=("town",), lateness_s=600)
KINDS = FeatureSet(
    name="kinds",
    asked_by=PAID,
    others=(LOGIN, FRAUD),
    features=(
        own("amount_own", "amount"),
        is_weekend("weekend"),
        is_night("night"),
        count("n_60", by=CARD, of=PAID, over=60),
        count("n_600", by=CARD, of=PAID, over=600, counts_itself=False),
        count("n_grains", by=CARD, of=PAID, over=300, grain_s=60),
        count("n_delayed", by=CARD, of=PAID, over=600, delay_s=600),
        count("frauds_delayed", by=CARD, of=FRAUD, over=600, delay_s=600),
        ratio("risk", "frauds_delayed", "n_delayed", default=0.0),
        total("sum_60", "amount", by=CARD, of=PAID, over=60),
        total("sum_120_before", "amount", by=IP, of=PAID, over=120, counts_itself=False),
        mean("mean_600", "amount", by=CARD, of=PAID, over=600),
        mean("mean_before", "amount", by=CARD, of=PAID, over=600, counts_itself=False, default=-1.5),
        least("min_640", "amount", by=CARD, of=PAID, over=640, grain_s=10),
        least("min_before", "amount", by=IP, of=PAID, over=600, grain_s=60, counts_itself=False, default=7),
        greatest("max_60", "amount", by=CARD, of=PAID, over=60),
        greatest("max_delayed", "amount", by=CARD, of=PAID, over=600, grain_s=60, delay_s=120),
        distinct("shops_600", "shop", by=CARD, of=PAID, over=600, grain_s=60, cap=3),
        distinct("shops_before", "shop", by=IP, of=PAID, over=60, grain_s=1, cap=2, counts_itself=False),
        distinct("amounts_640", "amount", by=CARD, of=PAID, over=640, grain_s=10, cap=64),
        last("last_600", "amount", by=CARD, of=PAID, over=600),
        last("last_before", "amount", by=CARD, of=PAID, over=600, counts_itself=False),
        time_since("since_paid", by=CARD, of=PAID, over=600),
        time_since("since_login", by=IP, of=LOGIN, over=60, default=-1),
        time_since_first("known_for", by=CARD, of=PAID, over=120),
        time_since_first("first_login", by=IP, of=LOGIN, over=60, default=-1),
        count("frauds", by=CARD, of=FRAUD, over=600, grain_s=10),
        distinct("towns", "town", by=CARD, of=FRAUD, over=600, grain_s=60, cap=8),
        total("failures", "failures", by=IP, of=LOGIN, over=60),
        count("logins", by=IP, of=LOGIN, over=120, counts_itself=False),
    ),
)

BEGINS_MS = 1_700_000_000_000 - 1_700_000_000_000 % 86_400_000 + 6 * 3_600_000 + 3_500_000
DAY_MS = 86_400_000
MINUTES_APART = (0, 0, 1, 400, 1_000, 7_000, 60_000, 61_000, 250_000)
DAYS_APART = (0, 1, 900, 59_999, 60_000, 3_600_000, 7_200_000, DAY_MS, 5 * DAY_MS, 29 * DAY_MS)


@st.composite
def streams(
    draw: st.DrawFn,
    *,
    declared: FeatureSet = KINDS,
    apart_ms: Sequence[int] = MINUTES_APART,
    facts_max: int = 60,
) -> list[Fact]:
    """Facts in the order of arrival: late and too late ones, ties, repetitions, reversals before and after."""
    facts: list[Fact] = []
    observed_ms = BEGINS_MS
    for number in range(draw(st.integers(1, facts_max))):
        observed_ms += draw(st.sampled_from(apart_ms))
        earlier = [fact for fact in facts if isinstance(fact, FeatureEvent)]
        what = draw(st.sampled_from(["new"] * 8 + ["again", "reversal", "reversal", "early reversal"]))
        if what in ("new", "early reversal") or not earlier:
            name = str(draw(st.integers(0, 9)) * 1_000 + number)
            event = draw(new_event(name, observed_ms, declared=declared))
            if what == "early reversal":
                facts.append(Reversal(event=event, observed_ms=observed_ms))
            facts.append(event)
        elif what == "again":
            facts.append(replace(draw(st.sampled_from(earlier)), observed_ms=observed_ms))
        else:
            event = draw(st.sampled_from(earlier))
            facts.append(draw(st.sampled_from(_reversals(event, observed_ms, declared))))
    return facts


def _reversals(event: FeatureEvent, observed_ms: int, declared: FeatureSet) -> list[Fact]:
    whole = Reversal(event=event, observed_ms=observed_ms)
    if declared.source_named[event.source].is_final:
        return [whole]
    return [whole, ReversalById(source=event.source, id=event.id, observed_ms=observed_ms)]


@st.composite
def new_event(draw: st.DrawFn, name: str, observed_ms: int, *, declared: FeatureSet) -> FeatureEvent:
    source = draw(st.sampled_from([*[declared.asked_by] * 4, *declared.others]))
    most_ms = source.lateness_s * 1_000
    behind_ms = draw(
        st.sampled_from(
            [0, 0, 0, 0, 1, 1_000, 5_000, 60_000, 299_999, most_ms, most_ms + 1, -60_000, -60_001]
        )
    )
    drawn = {
        entity: draw(st.sampled_from([f"{entity}1", f"{entity}1", f"{entity}2", None]))
        for entity in source.entities
    }
    values: dict[str, int | str] = {name: draw(st.integers(-3, 9)) for name in source.numbers}
    said = {name: draw(st.sampled_from(["a", "b", "c", "d", "", None])) for name in source.texts}
    values |= {name: text for name, text in said.items() if text is not None}
    return FeatureEvent(
        id=name,
        source=source.name,
        at_ms=observed_ms - behind_ms,
        observed_ms=observed_ms,
        entities={entity: one for entity, one in drawn.items() if one is not None},
        values=values,
    )


def small(
    *, amount: int = 1, at_s: float, event_id: str, card: str = "c1", late_s: float = 0
) -> FeatureEvent:
    """A payment so many seconds after the beginning."""
    at_ms = BEGINS_MS + round(at_s * 1_000)
    return FeatureEvent(
        id=event_id,
        source="paid",
        at_ms=at_ms,
        observed_ms=at_ms + round(late_s * 1_000),
        entities={CARD: card, IP: "ip1"},
        values={"amount": amount, "shop": "a"},
    )
