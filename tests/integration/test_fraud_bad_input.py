"""Whatever comes in for scoring has a defined answer: refused by name and nothing kept, or decided."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from tests.fraud_world import FraudWorld, fraud_of_module, new_payment  # noqa: F401

pytestmark = pytest.mark.asyncio(loop_scope="module")


def ahead(**delta: float) -> str:
    return (datetime.now(UTC) + timedelta(**delta)).isoformat()


REFUSED: list[tuple[Mapping[str, Any], tuple[int, str]]] = [
    ({"amount_minor": -1}, (422, "validation-failed")),
    ({"amount_minor": 10**12 + 1}, (422, "validation-failed")),
    ({"amount_minor": 10**40}, (422, "validation-failed")),
    ({"amount_minor": 1.5}, (422, "validation-failed")),
    ({"amount_minor": "4250"}, (422, "validation-failed")),
    ({"amount_minor": True}, (422, "validation-failed")),
    ({"amount_minor": None}, (422, "validation-failed")),
    ({"currency": "XXX"}, (422, "validation-failed")),
    ({"currency": "usd"}, (422, "validation-failed")),
    ({"merchant": ""}, (422, "validation-failed")),
    ({"merchant": "m" * 10_000}, (422, "validation-failed")),
    ({"merchant": "a\u0000b"}, (422, "validation-failed")),
    ({"merchant_category": -1}, (422, "validation-failed")),
    ({"merchant_category": 10_000}, (422, "validation-failed")),
    ({"channel": "telepathy"}, (422, "validation-failed")),
    ({"country": "usa"}, (422, "validation-failed")),
    ({"card_token": "4111111111111111"}, (422, "validation-failed")),
    ({"payment_id": "a b"}, (422, "validation-failed")),
    ({"payment_id": "p" * 65}, (422, "validation-failed")),
    ({"device": "dev_1"}, (422, "validation-failed")),
    ({"ip": "999.1.1.1"}, (400, "address-invalid")),
    ({"ip": "1" * 46}, (422, "validation-failed")),
    ({"occurred_at": ahead(days=1)[:10] + "T23:59:59Z"}, (400, "occurred-in-future")),
    ({"occurred_at": "9999-12-31T23:59:59-14:00"}, (400, "occurred-in-future")),
    ({"occurred_at": "0001-01-01T00:00:00+14:00"}, (400, "occurred-before-time")),
    ({"occurred_at": "1969-12-31T23:59:59Z"}, (400, "occurred-before-time")),
    ({"occurred_at": "2026-11-26T12:00:00"}, (422, "validation-failed")),
    ({"occurred_at": 1_700_000_000}, (422, "validation-failed")),
]


@pytest.mark.parametrize(("changes", "problem"), REFUSED, ids=[str(number) for number in range(len(REFUSED))])
async def test_what_makes_no_sense_is_refused_and_not_kept(
    fraud: FraudWorld, changes: Mapping[str, Any], problem: tuple[int, str]
) -> None:
    # The standard library writes what orjson refuses to: whole numbers of any size.
    import json

    payment = new_payment(**changes)
    assert (await fraud.ask(json.dumps(payment).encode())).problem == problem
    assert await fraud.rows(payment) == []


@pytest.mark.parametrize("missing", sorted(new_payment()))
async def test_a_field_that_is_missing_is_named(fraud: FraudWorld, missing: str) -> None:
    payment = {name: value for name, value in new_payment().items() if name != missing}
    reply = await fraud.ask(payment)
    assert reply.problem == (422, "validation-failed")
    assert [error["field"] for error in reply.json["errors"]] == [missing]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (b"", (400, "broken-json")),
        (b"{", (400, "broken-json")),
        (b"[]", (422, "validation-failed")),
        (b"null", (422, "validation-failed")),
        (orjson.dumps(new_payment()).replace(b"4250", b"NaN"), (400, "broken-json")),
        (orjson.dumps(new_payment()).replace(b"4250", b"1e400"), (400, "broken-json")),
        (orjson.dumps(new_payment()).replace(b"4250", b'4250,"amount_minor":1'), (400, "broken-json")),
        (b" " * 70_000, (413, "body-too-large")),
    ],
)
async def test_a_body_that_is_no_json_is_refused(
    fraud: FraudWorld, body: bytes, problem: tuple[int, str]
) -> None:
    assert (await fraud.ask(body)).problem == problem


DECIDED: list[Mapping[str, Any]] = [
    {"ip": "2001:db8::1"},
    {"ip": "::ffff:203.0.113.7"},
    {"ip": "fe80::1%eth0"},
    {"ip": None},
    {"device_id": None},
    {"member_id": None},
    {"terminal_id": "ter_1"},
    {"amount_minor": 0},
    {"currency": "JPY"},
    {"amount_minor": 4250.0},
    {"merchant": "m" * 64},
    {"merchant": "Żółw & Söhne 🐢"},
    {"occurred_at": "2026-11-26T12:00:00.123456+05:30"},
    {"occurred_at": "1970-01-01T00:00:00Z"},
]
LOOKED_AT: list[Mapping[str, Any]] = [{"amount_minor": 10**12}, {"currency": "VUV"}]


@pytest.mark.parametrize("changes", DECIDED, ids=lambda one: str(one)[:50])
async def test_what_is_unusual_is_decided(fraud: FraudWorld, changes: Mapping[str, Any]) -> None:
    answer = await fraud.decided(**changes)
    assert answer["action"] == "approve"


@pytest.mark.parametrize("changes", LOOKED_AT, ids=lambda one: str(one)[:50])
async def test_what_nobody_can_be_sure_of_is_looked_at(fraud: FraudWorld, changes: Mapping[str, Any]) -> None:
    assert (await fraud.decided(**changes))["action"] == "review"


async def test_a_clock_that_is_a_little_ahead_does_no_harm(fraud: FraudWorld) -> None:
    assert "features_missing" not in (await fraud.decided(occurred_at=ahead(seconds=30)))["degraded"]


async def test_a_payment_that_is_told_an_hour_late_is_decided_without_its_features_and_says_so(
    fraud: FraudWorld,
) -> None:
    answer = await fraud.decided(occurred_at=ahead(hours=-2))
    assert "features_missing" in answer["degraded"]


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("/decisions/nothing", (404, "decision-not-found")),
        ("/decisions/dec_01J3R2J7F1TQ0K6W6N8A4X9V7R", (404, "decision-not-found")),
        ("/payments/pay_nothing/decision", (404, "decision-not-found")),
        ("/decisions?limit=0", (422, "validation-failed")),
        ("/decisions?action=perhaps", (422, "validation-failed")),
        ("/decisions?before=x", (422, "validation-failed")),
        ("/decisions?colour=red", (422, "validation-failed")),
    ],
)
async def test_reads_of_what_is_not_there_are_refused(
    fraud: FraudWorld, path: str, problem: tuple[int, str]
) -> None:
    assert (await fraud.get(path)).problem == problem


async def test_a_key_without_the_scope_neither_scores_nor_reads(fraud: FraudWorld) -> None:
    await fraud.world.add_key("reader", client="payments", scopes=["fraud:read"])
    await fraud.world.add_key("scorer", client="payments", scopes=["fraud:score"])
    assert (await fraud.ask(new_payment(), client="reader")).problem == (403, "scope-missing")
    assert (await fraud.ask(new_payment(), client=None)).problem == (401, "unauthenticated")
    assert (await fraud.get("/decisions", client="scorer")).problem == (403, "scope-missing")


async def test_analysts_page_through_what_is_to_be_looked_at(fraud: FraudWorld) -> None:
    card = {"card_token": "crd_paged"}
    told = [(await fraud.decided(**card))["decision_id"] for _ in range(3)]
    seen: list[str] = []
    path = "/decisions?card_token=crd_paged&action=approve&limit=2"
    while True:
        page = (await fraud.get(path + (f"&before={seen[-1]}" if seen else ""))).json
        seen += [row["decision_id"] for row in page["decisions"]]
        if page["next"] is None:
            break
    assert seen == told[::-1]
    assert (await fraud.get("/decisions?card_token=crd_paged&action=review")).json["decisions"] == []
    assert (await fraud.get("/decisions?until=2020-01-01T00:00:00Z")).json == {"decisions": [], "next": None}
