"""Which events are urgent: those of decisions travel apart from those that come for every step of every application."""

from __future__ import annotations

import json
from typing import Any

import pytest

from faregate.credit.consumers import consumer_groups
from faregate.events import AGGREGATE_OF, EVENT_TYPES, URGENT_TYPES
from faregate.events.schemas import documents
from faregate.infra.eventlog import ConsumerGroup

ASYNCAPI = json.loads(documents()["asyncapi.json"])
NOBODY: Any = None
GROUPS = consumer_groups(service=NOBODY, snapshots=NOBODY)


@pytest.mark.requirement("C30")
def test_the_events_of_decisions_and_reviews_are_urgent() -> None:
    decisions = {"credit.decision.ready", "credit.decision.finalized"}
    reviews = {kind for kind in EVENT_TYPES if kind.startswith("credit.review.")}
    assert decisions | reviews == URGENT_TYPES


@pytest.mark.requirement("C30")
@pytest.mark.parametrize("group", GROUPS, ids=[group.name for group in GROUPS])
def test_a_consumer_group_is_urgent_as_all_its_events_are(group: ConsumerGroup) -> None:
    assert {kind in URGENT_TYPES for kind in group.types} == {group.is_urgent}


@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_every_event_has_one_channel_at_the_topic_of_its_aggregate_and_lane(kind: str) -> None:
    lane = ".urgent" if kind in URGENT_TYPES else ""
    carrying = {name: found for name, found in ASYNCAPI["channels"].items() if kind in found["messages"]}
    assert {name: found["address"] for name, found in carrying.items()} == {
        f"{AGGREGATE_OF[kind]}{lane}": f"outbox.event.{AGGREGATE_OF[kind]}{lane}"
    }


def test_there_is_no_channel_that_carries_nothing() -> None:
    assert all(channel["messages"] for channel in ASYNCAPI["channels"].values())
    assert len(ASYNCAPI["operations"]) == len(ASYNCAPI["channels"])
