"""What credit tells clients' webhooks: of each event only what is thin, to the client that owns the application."""

from __future__ import annotations

from contextlib import AsyncExitStack
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import orjson
import pytest

from faregate.credit.handlers.announce import ANNOUNCED, announce_events
from faregate.entrypoints.bootstrap.webhooks import webhooks_api
from faregate.events.base import PublishedEvent
from faregate.events.credit import DecisionFinalized, ReviewClosed, ReviewOpened
from faregate.kernel.event import Event
from faregate.webhooks.contracts import EndpointDraft
from tests.credit_world import ACME, GLOBEX, CreditWorld, shared_world

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
REVIEW = {"review_id": "rev_1", "decision_version": 1}
CASES: list[tuple[type[PublishedEvent], dict[str, Any], dict[str, Any]]] = [
    (
        DecisionFinalized,
        {"outcome": "denied", "risk_score": 0.7, "reason_codes": ("R01",), "ruleset_version": "r-1"},
        {"outcome": "denied", "decision_version": 1},
    ),
    (ReviewOpened, {**REVIEW, "cause": "check_missing", "priority": "high", "due_at": NOON}, REVIEW),
    (ReviewClosed, {**REVIEW, "reviewer": "desk-7"}, REVIEW),
]


@pytest.mark.requirement("C10")
@pytest.mark.parametrize(("published", "facts", "told"), CASES)
async def test_of_an_event_a_client_is_told_ids_and_outcome_only(
    shared_world: CreditWorld, published: type[PublishedEvent], facts: dict[str, Any], told: dict[str, Any]
) -> None:
    application_id = await shared_world.submitted()
    new = published(application_id=application_id, **facts).to_event(id=uuid4(), time=NOON)
    event = Event(seq=1, **{name: getattr(new, name) for name in new.__slots__})
    async with AsyncExitStack() as stack:
        webhooks = await webhooks_api(stack, shared_world.site)
        credit = await shared_world.site.database(stack, "credit", connections_max=1)
        async with webhooks.database.transaction() as conn:
            for client in (ACME, GLOBEX):
                draft = EndpointDraft(url="https://hooks.example.com/", event_types=[published.type])
                await webhooks.create(conn, draft, client_id=client)
        async with credit.transaction() as conn:
            await announce_events(conn, [event])
    [row] = await shared_world.sql(
        "select d.body, e.client_id from webhooks.delivery d join webhooks.endpoint e on e.id = d.endpoint_id "
        "where d.subject_id = %(id)s", id=application_id
    )  # fmt: skip
    assert row["client_id"] == ACME
    assert orjson.loads(row["body"])["data"] == {"application_id": application_id, **told}


async def test_every_event_that_clients_may_subscribe_to_is_a_published_one() -> None:
    assert set(ANNOUNCED) == {published.type for published, _, _ in CASES}
