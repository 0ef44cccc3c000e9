"""Payments over real HTTP: what is decided by whom, what follows, and what is announced."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import AsyncExitStack

import psycopg
import pytest

from faregate.entrypoints.bootstrap.payments import payments as payment_loops
from faregate.entrypoints.bootstrap.process import Process
from tests.credit_world import GLOBEX
from tests.eventlog import eventually
from tests.payments_world import PATIENT_MS, PaymentsWorld, payments_of_module, shared_payments  # noqa: F401

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F16")]


async def test_a_payment_that_the_scorer_approves_is_authorised_and_announced(
    shared: PaymentsWorld,
) -> None:
    card = await shared.card()
    reply = await shared.attempt(card_token=card, amount_minor=4_250)
    assert (reply.status, reply.json["status"], reply.json["flagged"]) == (201, "authorised", False)
    assert reply.json["degraded"] == []
    assert reply.json["policy"] == {"version": 1, "cell": None}
    assert reply.json["scored"]["action"] == "approve"
    [(type_, data)] = await shared.events(reply.json["payment_id"])
    assert (type_, data["card_token"], data["amount_minor"]) == ("authorised", card, 4_250)
    assert data["ip_token"].startswith("ip_")
    read = await shared.get(f"/authorizations/{reply.json['payment_id']}")
    assert read.json == reply.json


async def test_the_scorer_is_told_the_token_and_how_long_is_waited(shared: PaymentsWorld) -> None:
    await shared.attempt()
    [asked], [head] = shared.scorer.asked, shared.scorer.heads
    assert asked["card_token"].startswith("crd_")
    assert asked["ip"] == "203.0.113.7"
    assert b"X-Deadline-Ms: %d\r\n" % PATIENT_MS in head


@pytest.mark.requirement("F9")
async def test_without_the_scorer_the_default_policy_decides(shared: PaymentsWorld) -> None:
    shared.scorer.status = 503
    small, middle, large = [await shared.attempt(amount_minor=n) for n in (4_999, 5_000, 100_001)]
    assert [one.json["status"] for one in (small, middle, large)] == ["authorised", "authorised", "declined"]
    assert [one.json["flagged"] for one in (small, middle, large)] == [False, True, False]
    assert large.json["message"] == "Please contact customer support to complete your transaction"
    assert [one.json["degraded"] for one in (small, middle, large)] == [["score"]] * 3
    assert [type_ for type_, _ in await shared.events(middle.json["payment_id"])] == [
        "authorised",
        "flagged",
    ]
    assert [type_ for type_, _ in await shared.events(large.json["payment_id"])] == ["declined"]
    rows = await shared.world.sql("select cell, why from payments.degraded order by at, payment_id")
    assert Counter(row["cell"] for row in rows) == {
        f"everything.{band}.unavailable": 1 for band in ("low", "middle", "high")
    }
    assert {row["why"] for row in rows} == {"http_503"}


async def test_the_same_key_is_answered_once_and_another_content_refused(shared: PaymentsWorld) -> None:
    card = await shared.card()
    first = await shared.attempt(key="k", card_token=card)
    again = await shared.attempt(key="k", card_token=card)
    assert (again.body, again.headers["Idempotent-Replayed"]) == (first.body, "true")
    other = await shared.attempt(key="k", card_token=card, amount_minor=1)
    assert other.problem == (422, "idempotency-key-reused")
    assert len(shared.scorer.asked) == 1


async def test_a_storm_of_payments_never_spends_more_than_a_day_allows(shared: PaymentsWorld) -> None:
    limits = [{"currency": "USD", "transaction_minor_max": 100, "day_minor_max": 1_000}]
    card = await shared.card(limits=limits)
    replies = await asyncio.gather(*(shared.attempt(card_token=card, amount_minor=100) for _ in range(30)))
    assert Counter(one.json["status"] for one in replies) == {"authorised": 10, "declined": 20}
    declined = [one.json["reasons"] for one in replies if one.json["status"] == "declined"]
    assert {reason["code"] for reasons in declined for reason in reasons} == {"DAY_LIMIT"}


async def test_a_payment_is_captured_in_part_and_refunded_up_to_that(shared: PaymentsWorld) -> None:
    payment = await shared.authorised(amount_minor=5_000)
    captured = await shared.act(payment, "capture", amount_minor=3_000)
    assert (captured.status, captured.json["status"], captured.json["captured_minor"]) == (
        200,
        "captured",
        3_000,
    )
    assert (await shared.act(payment, "refunds", amount_minor=2_000)).status == 201
    too_much = await shared.act(payment, "refunds", amount_minor=1_001)
    assert too_much.problem == (409, "refund-too-large")
    assert (await shared.act(payment, "refunds", amount_minor=1_000)).json["payment"][
        "refunded_minor"
    ] == 3_000
    types = [type_ for type_, _ in await shared.events(payment)]
    assert types == ["authorised", "captured", "refunded", "refunded"]


async def test_a_reversed_payment_gives_the_days_limit_back(shared: PaymentsWorld) -> None:
    limits = [{"currency": "USD", "transaction_minor_max": 1_000, "day_minor_max": 1_000}]
    card = await shared.card(limits=limits)
    payment = await shared.authorised(card_token=card, amount_minor=1_000)
    assert (await shared.attempt(card_token=card, amount_minor=1)).json["status"] == "declined"
    assert (await shared.act(payment, "reversal")).json["status"] == "reversed"
    assert (await shared.act(payment, "capture")).problem == (409, "payment-not-authorised")
    await shared.authorised(card_token=card, amount_minor=1_000)


async def test_another_clients_payment_is_not_found(shared: PaymentsWorld) -> None:
    payment = await shared.authorised()
    await shared.world.add_key(GLOBEX, client=GLOBEX, scopes=["payments:read", "payments:write"])
    assert (await shared.get(f"/authorizations/{payment}", client=GLOBEX)).problem == (
        404,
        "payment-not-found",
    )
    reply = await shared.post(f"/authorizations/{payment}/capture", {}, client=GLOBEX)
    assert reply.problem == (404, "payment-not-found")


async def test_what_nobody_captured_in_time_is_reversed_by_itself_and_the_limit_is_free(
    shared: PaymentsWorld,
) -> None:
    limits = [{"currency": "USD", "transaction_minor_max": 100, "day_minor_max": 100}]
    card = await shared.card(limits=limits)
    left = await shared.authorised(card_token=card, amount_minor=60)
    taken = await shared.authorised(card_token=card, amount_minor=40)
    await shared.act(taken, "capture")
    await shared.world.sql("update payments.payment set expires_at = now() - interval '1 second'")
    late = await shared.act(await shared.authorised(), "capture")
    assert late.status == 200
    async with AsyncExitStack() as stack:
        opened = await payment_loops(Process(stack, shared.world.site))
        stop = asyncio.Event()
        sweeping = asyncio.create_task(opened.loops["payments.expiry"](stop))
        await eventually(lambda: stands(shared, left, "reversed"), what="the reversal")
        stop.set()
        await sweeping
    assert await stands(shared, taken, "captured")
    assert [type_ for type_, _ in await shared.events(left)] == ["authorised", "reversed"]
    await shared.authorised(card_token=card, amount_minor=60)


async def test_an_authorisation_whose_time_is_over_is_captured_no_more(shared: PaymentsWorld) -> None:
    payment = await shared.authorised()
    await shared.world.sql(
        "update payments.payment set expires_at = now() - interval '1 second' where id = %(id)s", id=payment
    )
    assert (await shared.act(payment, "capture")).problem == (409, "authorisation-expired")


async def stands(shared: PaymentsWorld, payment: str, status: str) -> bool:
    return bool((await shared.get(f"/authorizations/{payment}")).json["status"] == status)


async def test_of_many_captures_at_once_one_is_done_and_refunds_never_give_more_back(
    shared: PaymentsWorld,
) -> None:
    payment = await shared.authorised(amount_minor=1_000)
    captures = await asyncio.gather(*(shared.act(payment, "capture") for _ in range(10)))
    assert Counter(one.status for one in captures) == {200: 1, 409: 9}
    refunds = await asyncio.gather(*(shared.act(payment, "refunds", amount_minor=300) for _ in range(10)))
    assert Counter(one.status for one in refunds) == {201: 3, 409: 7}
    types = Counter(type_ for type_, _ in await shared.events(payment))
    assert types == {"authorised": 1, "captured": 1, "refunded": 3}


async def test_of_many_of_the_same_key_at_once_one_is_decided_and_all_are_told_the_same(
    shared: PaymentsWorld,
) -> None:
    card = await shared.card()
    replies = await asyncio.gather(*(shared.attempt(key="storm", card_token=card) for _ in range(20)))
    told = {one.json["payment_id"] for one in replies if one.status == 201}
    assert len(told) == 1
    assert {one.status for one in replies} <= {201, 409}
    [payment] = told
    assert [asked["payment_id"] for asked in shared.scorer.asked] == [payment]
    assert [type_ for type_, _ in await shared.events(payment)] == ["authorised"]


@pytest.mark.requirement("F9")
async def test_what_was_decided_without_the_scorer_is_kept_for_ever_as_it_was(shared: PaymentsWorld) -> None:
    shared.scorer.status = 500
    payment = await shared.authorised(amount_minor=1)
    [row] = await shared.world.sql("select * from payments.degraded where payment_id = %(id)s", id=payment)
    assert (row["states"], row["missing"], row["why"]) == (["unavailable"], ["score"], "http_500")
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added to"):
        await shared.world.sql("update payments.degraded set outcome = 'declined'")


@pytest.mark.requirement("F10")
async def test_an_answer_names_what_it_was_based_on(shared: PaymentsWorld) -> None:
    reason = {"code": "VELOCITY", "source": "rule", "text": "Many payments in a minute"}
    shared.scorer.changes = {"action": "review", "reasons": [reason], "degraded": ["audit_spooled"]}
    said = (await shared.attempt()).json
    assert said["reasons"] == [reason]
    assert (said["flagged"], said["degraded"]) == (True, ["audit_spooled"])
    assert said["scored"]["ruleset"] == {"name": "payments", "version": 1}
    assert said["scored"]["model"]["sha256"] == "0" * 64
    shared.scorer.changes = {"action": "decline", "reasons": [reason]}
    declined = (await shared.attempt()).json
    assert declined["message"] == "Please contact customer support to complete your transaction"
    [(type_, data)] = await shared.events(declined["payment_id"])
    assert (type_, data["reasons"]) == ("declined", ["VELOCITY"])
