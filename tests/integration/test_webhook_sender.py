"""Deliveries over real HTTP: signatures, retries in the test's time, pauses, 410, redirects, hanging receivers."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from faregate.events.webhooks import EndpointDisabled
from faregate.infra.security.keys import KeySet
from faregate.infra.security.signatures import SignatureRejected, verify_webhook
from faregate.webhooks.contracts import EndpointChanges
from faregate.webhooks.domain.schedule import DELAYS_S, DISABLED_AFTER
from faregate.webhooks.store.endpoints import SIGNING_MAX, disable_endpoint
from tests.sandbox import until
from tests.webhook_world import (  # noqa: F401
    KEYS,
    Endpoint,
    Hooks,
    decided,
    open_endpoint,
    open_receiver,
    vault,
    webhooks_and_sender,
)

pytestmark = pytest.mark.requirement("C10")


async def test_a_decision_arrives_signed_so_that_the_reference_library_accepts_it(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    told = decided("app_1", at=datetime(2026, 1, 2, 12, tzinfo=UTC))
    await hooks.announce(told)
    assert await hooks.deliver() == 1
    [arrival] = receiver.arrivals
    assert arrival.id == told.message_id
    assert Webhook(subscribed.secret).verify(arrival.body, dict(arrival.headers)) == {
        "type": "credit.decision.finalized",
        "timestamp": "2026-01-02T12:00:00+00:00",
        "data": {"application_id": "app_1", "outcome": "approved"},
    }
    found = await hooks.only_delivery(subscribed)
    assert (found.state, found.attempts, found.last_status) == ("delivered", 1, 200)


async def test_during_a_rotation_old_and_new_secret_both_verify_and_afterwards_only_the_new_one(
    hooks: Hooks, receiver: Endpoint
) -> None:
    old = await hooks.subscribe(receiver)
    async with hooks.api.database.transaction() as conn:
        new = await hooks.api.rotate_secret(conn, old.endpoint.id, client_id="acme")
    await hooks.announce(decided())
    await hooks.deliver()
    for secret in (old.secret, new.secret):
        Webhook(secret).verify(receiver.arrivals[0].body, dict(receiver.arrivals[0].headers))
    hooks.clock.pass_by(24 * 3600 + 1)
    await hooks.announce(decided())
    await hooks.deliver()
    last, now = receiver.arrivals[1], hooks.clock.now()
    verify_webhook(headers=last.headers, body=last.body, secrets=[new.secret], now=now)
    with pytest.raises(SignatureRejected):
        verify_webhook(headers=last.headers, body=last.body, secrets=[old.secret], now=now)


async def test_a_secret_that_is_rotated_often_signs_with_the_newest_few_only(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    for _ in range(5):
        async with hooks.api.database.transaction() as conn:
            newest = await hooks.api.rotate_secret(conn, subscribed.endpoint.id, client_id="acme")
        hooks.clock.pass_by(1)
    await hooks.announce(decided())
    await hooks.deliver()
    [arrival] = receiver.arrivals
    assert len(arrival.headers["webhook-signature"].split(" ")) == SIGNING_MAX
    verify_webhook(headers=arrival.headers, body=arrival.body, secrets=[newest.secret], now=hooks.clock.now())


async def test_an_answer_with_an_impossible_date_is_an_answer(hooks: Hooks, receiver: Endpoint) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.headers = {"Retry-After": "Mon, 01 Jan 2026 00:00:00 +99999999999999"}
    await hooks.announce(decided())
    await hooks.deliver()
    assert (await hooks.only_delivery(subscribed)).state == "delivered"


async def test_an_endpoint_that_moved_is_not_disabled_for_what_its_old_address_answered(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    async with hooks.api.database.transaction() as conn:
        given: dict[str, Any] = {"url": "http://127.0.0.1:1/old", "reason": "gone", "now": hooks.clock.now()}
        assert await disable_endpoint(conn, subscribed.endpoint.id, **given) is None
    found = await hooks.api.endpoint(subscribed.endpoint.id, client_id="acme")
    assert found.disabled_reason is None


async def test_another_clients_secret_does_not_verify(hooks: Hooks, receiver: Endpoint) -> None:
    await hooks.subscribe(receiver)
    other = await hooks.subscribe(receiver, client="globex")
    await hooks.announce(decided())
    await hooks.deliver()
    [arrival] = receiver.arrivals
    with pytest.raises(WebhookVerificationError):
        Webhook(other.secret).verify(arrival.body, dict(arrival.headers))


async def test_only_endpoints_of_the_owner_that_want_the_type_are_told(
    hooks: Hooks, receiver: Endpoint
) -> None:
    wants = await hooks.subscribe(receiver)
    for client, types in (("globex", ["credit.decision.finalized"]), ("acme", ["credit.review.opened"])):
        await hooks.subscribe(receiver, client=client, types=types)
    assert await hooks.announce(decided()) == 1
    assert await hooks.only_delivery(wants)


async def test_what_is_announced_twice_is_delivered_once(hooks: Hooks, receiver: Endpoint) -> None:
    await hooks.subscribe(receiver)
    told = decided()
    assert [await hooks.announce(told), await hooks.announce(told)] == [1, 0]
    await hooks.deliver()
    assert await hooks.deliver() == 0


async def test_retries_follow_the_schedule_with_one_id_and_a_fresh_timestamp(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.status = 500
    await hooks.announce(decided(at=hooks.clock.now()))
    sent_at = []
    for delay_s in DELAYS_S:
        hooks.clock.pass_by(delay_s - 1)
        assert delay_s == 0 or await hooks.deliver() == 0, "too early"
        hooks.clock.pass_by(1)
        assert await hooks.deliver() == 1
        sent_at.append(int(hooks.clock.now().timestamp()))
    assert len({arrival.id for arrival in receiver.arrivals}) == 1
    assert [int(a.headers["webhook-timestamp"]) for a in receiver.arrivals] == sent_at
    last = receiver.arrivals[-1]
    verify_webhook(headers=last.headers, body=last.body, secrets=[subscribed.secret], now=hooks.clock.now())
    assert (await hooks.only_delivery(subscribed)).state == "dead"


async def test_a_given_up_message_is_sent_again_on_request_with_its_id(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    told = decided()
    await hooks.announce(told)
    receiver.status = 500
    for delay_s in DELAYS_S:
        hooks.clock.pass_by(delay_s)
        await hooks.deliver()
    receiver.status = 204
    assert await hooks.api.resend_dead(subscribed.endpoint.id, client_id="acme") == 1
    assert await hooks.deliver() == 1
    assert receiver.arrivals[-1].id == told.message_id
    assert (await hooks.only_delivery(subscribed)).state == "delivered"


async def test_a_redirect_is_a_failure_and_never_followed(hooks: Hooks, receiver: Endpoint) -> None:
    async with open_endpoint() as elsewhere:
        subscribed = await hooks.subscribe(receiver)
        receiver.status, receiver.headers = 307, {"Location": elsewhere.url}
        await hooks.announce(decided())
        await hooks.deliver()
        assert elsewhere.arrivals == []
    found = await hooks.only_delivery(subscribed)
    assert (found.state, found.last_status) == ("pending", 307)


async def test_an_endpoint_that_is_gone_is_disabled_and_told_nothing_more(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.status = 410
    await hooks.announce(decided())
    await hooks.deliver()
    found = await hooks.api.endpoint(subscribed.endpoint.id, client_id="acme")
    assert found.disabled_reason == "gone"
    assert await hooks.announce(decided()) == 0
    assert await _disabled_events(hooks) == [(subscribed.endpoint.id, "acme", "gone")]


async def test_an_endpoint_at_which_nothing_arrives_for_days_is_disabled_with_an_event(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.status = 500
    await hooks.announce(decided())
    await hooks.deliver()
    hooks.clock.pass_by(DISABLED_AFTER.total_seconds())
    waiting = decided()
    await hooks.announce(waiting)
    await hooks.deliver()
    assert await _disabled_events(hooks) == [(subscribed.endpoint.id, "acme", "failing")]
    assert {d.state for d in await hooks.deliveries(subscribed)} == {"dead"}
    assert await hooks.deliver() == 0


async def test_a_success_ends_a_failure(hooks: Hooks, receiver: Endpoint) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.status = 500
    await hooks.announce(decided())
    await hooks.deliver()
    assert (await hooks.api.endpoint(subscribed.endpoint.id, client_id=None)).failing_since
    receiver.status = 200
    hooks.clock.pass_by(DELAYS_S[1])
    await hooks.deliver()
    assert (await hooks.api.endpoint(subscribed.endpoint.id, client_id=None)).failing_since is None


@pytest.mark.parametrize("form", ["seconds", "date"])
async def test_a_busy_endpoint_is_left_alone_as_long_as_it_asks_and_others_are_not(
    hooks: Hooks, receiver: Endpoint, form: str
) -> None:
    async with open_endpoint() as well:
        await hooks.subscribe(receiver)
        await hooks.subscribe(well)
        until = hooks.clock.now() + timedelta(seconds=600)
        asked = "600" if form == "seconds" else until.strftime("%a, %d %b %Y %H:%M:%S GMT")
        receiver.status, receiver.headers = 429, {"Retry-After": asked}
        await hooks.announce(decided())
        await hooks.deliver()
        await hooks.announce(decided())
        hooks.clock.pass_by(598)
        await hooks.deliver()
        assert (len(receiver.arrivals), len(well.arrivals)) == (1, 2)
        hooks.clock.pass_by(3)
        await hooks.deliver()
        assert len(receiver.arrivals) >= 2


async def test_a_hanging_endpoint_holds_its_own_places_only(hooks: Hooks, receiver: Endpoint) -> None:
    sender = await hooks.new_sender(in_flight_each=2, in_flight_max=4)
    async with open_endpoint() as well:
        await hooks.subscribe(receiver)
        receiver.gate.clear()
        await hooks.announce(*(decided() for _ in range(10)))
        assert await sender.claim() == 2
        await receiver.wait(2)
        await hooks.subscribe(well, client="globex")
        for _ in range(5):
            await hooks.announce(decided(client="globex"), decided(client="globex"))
            assert await sender.claim() == 2
            await well.wait(2)
            await _recorded(hooks, client="globex")
        assert (len(well.arrivals), len(receiver.arrivals)) == (10, 2)
        receiver.gate.set()
        await sender.settled()


async def test_a_failing_endpoint_gets_one_request_at_a_time(hooks: Hooks, receiver: Endpoint) -> None:
    await hooks.subscribe(receiver)
    receiver.status = 500
    await hooks.announce(*(decided() for _ in range(5)))
    assert await hooks.deliver() == 5
    hooks.clock.pass_by(DELAYS_S[1])
    assert await hooks.deliver() == 1


async def test_two_senders_share_the_places_of_an_endpoint(hooks: Hooks, receiver: Endpoint) -> None:
    first, second = [await hooks.new_sender(in_flight_each=3) for _ in range(2)]
    await hooks.subscribe(receiver)
    receiver.gate.clear()
    await hooks.announce(*(decided() for _ in range(10)))
    assert sum([await first.claim(), await second.claim()]) == 3
    await receiver.wait(3)
    receiver.gate.set()
    await asyncio.gather(first.settled(), second.settled())
    assert len({arrival.id for arrival in receiver.arrivals}) == 3


async def test_a_request_that_is_not_answered_in_time_fails(hooks: Hooks, receiver: Endpoint) -> None:
    sender = await hooks.new_sender(timeout_s=0.2)
    subscribed = await hooks.subscribe(receiver)
    receiver.gate.clear()
    await hooks.announce(decided())
    await sender.claim()
    await sender.settled()
    assert (await hooks.only_delivery(subscribed)).last_error == "timed_out"


async def test_a_long_answer_is_cut_off_and_the_message_counts_as_delivered(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.body = b"x" * 5_000_000
    await hooks.announce(decided())
    await hooks.deliver()
    assert (await hooks.only_delivery(subscribed)).state == "delivered"


async def test_a_receiver_that_does_not_listen_is_tried_again(hooks: Hooks) -> None:
    async with open_endpoint() as gone:
        subscribed = await hooks.subscribe(gone)
    await hooks.announce(decided())
    await hooks.deliver()
    found = await hooks.only_delivery(subscribed)
    assert (found.state, found.last_error) == ("pending", "connection_failed")


async def test_a_disabled_endpoint_gives_up_what_waits_and_can_send_it_later(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    await hooks.announce(decided())
    await hooks.api.change(subscribed.endpoint.id, EndpointChanges(enabled=False), client_id="acme")
    assert await hooks.deliver() == 0
    assert (await hooks.only_delivery(subscribed)).last_error == "endpoint_disabled"
    await hooks.api.change(subscribed.endpoint.id, EndpointChanges(enabled=True), client_id="acme")
    await hooks.api.resend_dead(subscribed.endpoint.id, client_id="acme")
    assert await hooks.deliver() == 1


async def test_an_endpoint_deleted_during_a_delivery_leaves_nothing(hooks: Hooks, receiver: Endpoint) -> None:
    subscribed = await hooks.subscribe(receiver)
    receiver.gate.clear()
    await hooks.announce(decided())
    await hooks.sender.claim()
    await receiver.wait(1)
    await hooks.api.delete(subscribed.endpoint.id, client_id="acme")
    receiver.gate.set()
    await hooks.sender.settled()
    assert await hooks.api.endpoints(client_id=None) == []


async def test_what_was_settled_a_month_ago_is_forgotten_and_what_waits_is_not(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    await hooks.announce(decided())
    await hooks.deliver()
    hooks.clock.pass_by(31 * 86_400)
    await hooks.announce(waiting := decided(at=hooks.clock.now()))
    await hooks.api.prune()
    assert [d.message_id for d in await hooks.deliveries(subscribed)] == [waiting.message_id]


async def test_secrets_stand_sealed_and_survive_a_rotation_of_the_keys(
    hooks: Hooks, receiver: Endpoint
) -> None:
    subscribed = await hooks.subscribe(receiver)
    async with hooks.api.database.connection() as conn:
        [row] = await (await conn.execute("select id, sealed from webhooks.secret")).fetchall()
    assert subscribed.secret.encode() not in bytes(row["sealed"])
    both = KeySet(current="k2", keys={**KEYS.keys, "k2": b"n" * 32})
    rotating = replace(hooks.api, vault=vault(both))
    assert await rotating.rotate_keys(on_progress=lambda _: None) == 1
    assert await rotating.rotate_keys(on_progress=lambda _: None) == 0
    only_new = vault(KeySet(current="k2", keys={"k2": b"n" * 32}))
    async with hooks.api.database.connection() as conn:
        [row] = await (await conn.execute("select id, sealed from webhooks.secret")).fetchall()
    assert only_new.open(bytes(row["sealed"]), secret_id=row["id"]) == subscribed.secret


async def _disabled_events(hooks: Hooks) -> list[tuple[str, str, str]]:
    query = "select payload from eventlog.outbox where type = %s"
    async with await psycopg.AsyncConnection.connect(hooks.api.database.url) as conn:
        rows = await (await conn.execute(query, (EndpointDisabled.type,))).fetchall()
    return [(p["endpoint_id"], p["client_id"], p["reason"]) for (p,) in rows]


async def _recorded(hooks: Hooks, *, client: str) -> None:
    """Wait until everything that was sent to a client is recorded."""

    async def pending() -> int:
        async with hooks.api.database.connection() as conn:
            query = (
                "select count(*) as n from webhooks.delivery d join webhooks.endpoint e on e.id = d.endpoint_id "
                "where e.client_id = %s and d.state = 'pending'"
            )
            [row] = await (await conn.execute(query, (client,))).fetchall()
            return int(row["n"])

    await until(pending, lambda n: n == 0)
