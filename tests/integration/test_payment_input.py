"""Bad input has a defined answer, changes nothing and repeats nothing; what is only strange is decided."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.payments_world import ATTEMPT, PaymentsWorld, payments_of_module, shared_payments  # noqa: F401

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F16")]

CARD = "crd_01J3R2J7F1TQ0K6W6N8A4X9V7R"
LATER = (datetime.now(UTC) + timedelta(days=1)).isoformat()
INVALID = (422, "validation-failed")

REFUSED: list[tuple[str, dict[str, Any], tuple[int, str]]] = [
    ("negative amount", {"amount_minor": -1}, INVALID),
    ("amount beyond all", {"amount_minor": 10**12 + 1}, INVALID),
    ("amount beyond 64 bits", {"amount_minor": 10**30}, INVALID),
    ("half a cent", {"amount_minor": 1.5}, INVALID),
    ("amount as text", {"amount_minor": "1"}, INVALID),
    ("unknown currency", {"currency": "XXX"}, INVALID),
    ("currency in small letters", {"currency": "usd"}, INVALID),
    ("merchant of 10,000 characters", {"merchant": "m" * 10_000}, INVALID),
    ("merchant with NUL", {"merchant": "a\0b"}, INVALID),
    ("merchant of nothing", {"merchant": ""}, INVALID),
    ("merchant category of five digits", {"merchant_category": 10_000}, INVALID),
    ("unknown channel", {"channel": "pigeon"}, INVALID),
    ("country in words", {"country": "Cuba"}, INVALID),
    ("address that is none", {"ip": "300.1.1.1"}, (400, "address-invalid")),
    ("address of 100 characters", {"ip": "1" * 100}, INVALID),
    ("tomorrow", {"occurred_at": LATER}, (400, "attempt-in-future")),
    ("the year 9999", {"occurred_at": "9999-12-31T23:59:59Z"}, (400, "attempt-in-future")),
    ("before 1970", {"occurred_at": "1969-12-31T23:59:59Z"}, (400, "attempt-before-time")),
    ("the year 1", {"occurred_at": "0001-01-01T00:00:00+14:00"}, (400, "attempt-before-time")),
    ("no zone", {"occurred_at": "2026-11-27T12:00:00"}, INVALID),
    ("a number as time", {"occurred_at": 1}, INVALID),
    ("unknown field", {"cvc": "123"}, INVALID),
    ("two cards", {"card_number": "4111111111111111"}, INVALID),
    (
        "number that fails its check",
        {"card_token": None, "card_number": "4111111111111112"},
        (400, "card-number-invalid"),
    ),
    ("no card", {"card_token": None}, INVALID),
    ("token of another form", {"card_token": "4111111111111111"}, INVALID),
    ("member of another form", {"card_token": None, "member_id": "x"}, INVALID),
]
BODIES: list[tuple[str, bytes, tuple[int, str]]] = [
    ("nothing", b"", (400, "broken-json")),
    ("a list", b"[]", INVALID),
    ("half an object", b'{"card_token": ', (400, "broken-json")),
    ("a key twice", b'{"amount_minor": 1, "amount_minor": 2}', (400, "broken-json")),
    ("not UTF-8", b'{"merchant": "\xff"}', (400, "broken-json")),
    ("half a surrogate", b'{"merchant": "\\ud800"}', (400, "broken-json")),
    ("too deep", b"[" * 50_000, (400, "broken-json")),
    ("too long", b" " * 70_000, (413, "body-too-large")),
]
STRANGE: list[tuple[str, dict[str, Any]]] = [
    ("nothing to pay", {"amount_minor": 0}),
    ("IPv6", {"ip": "2001:db8::1"}),
    ("no address", {"ip": None}),
    ("a device", {"device_id": "dev_1", "terminal_id": "ter_1"}),
    ("3.0 is 3", {"amount_minor": 3.0}),
    ("half a minute ahead", {"occurred_at": (datetime.now(UTC) + timedelta(seconds=30)).isoformat()}),
    ("a merchant in Greek", {"merchant": "καφενείο"}),
    ("long ago", {"occurred_at": "1970-01-01T00:00:00Z"}),
]


async def test_what_cannot_be_understood_is_refused_by_name_and_changes_nothing(
    shared: PaymentsWorld,
) -> None:
    found = {}
    async with shared.world.unchanged():
        for name, fields, expected in REFUSED:
            body = {**ATTEMPT, "card_token": CARD, **fields}
            body = {key: value for key, value in body.items() if value is not None}
            reply = await shared.post("/authorizations", json.dumps(body).encode())
            if reply.problem != expected:
                found[name] = reply.problem
        for name, raw, expected in BODIES:
            reply = await shared.post("/authorizations", raw)
            if reply.problem != expected:
                found[name] = reply.problem
    assert found == {}
    assert shared.scorer.asked == []


async def test_what_is_only_strange_is_decided(shared: PaymentsWorld) -> None:
    card = await shared.card()
    found = {}
    for name, fields in STRANGE:
        reply = await shared.attempt(card_token=card, **fields)
        if (reply.status, reply.json.get("status")) != (201, "authorised"):
            found[name] = reply.body
    assert found == {}


async def test_a_card_that_is_not_known_is_declined_and_nobody_is_asked(shared: PaymentsWorld) -> None:
    reply = await shared.attempt(card_token=CARD)
    assert [reason["code"] for reason in reply.json["reasons"]] == ["CARD_UNKNOWN"]
    assert (reply.json["card_token"], reply.json["member_id"]) == (None, None)
    assert shared.scorer.asked == []


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"currency": "JPY"}, "CURRENCY_NOT_ALLOWED"),
        ({"amount_minor": 10**12}, "TRANSACTION_LIMIT"),
        ({"country": "IR"}, "SANCTIONED_COUNTRY"),
    ],
)
async def test_each_knock_out_is_named_and_nobody_is_asked(
    shared: PaymentsWorld, fields: dict[str, Any], code: str
) -> None:
    reply = await shared.attempt(**fields)
    assert (reply.json["status"], [r["code"] for r in reply.json["reasons"]]) == ("declined", [code])
    assert shared.scorer.asked == []


@pytest.mark.parametrize(
    ("act", "body", "expected"),
    [
        ("capture", {"amount_minor": -1}, INVALID),
        ("capture", {"amount_minor": 4_251}, (409, "capture-too-large")),
        ("refunds", {"amount_minor": 0}, INVALID),
        ("refunds", {"amount_minor": 1}, (409, "payment-not-captured")),
        ("refunds", {}, INVALID),
    ],
)
async def test_acts_that_cannot_be_are_refused_and_the_payment_stands(
    shared: PaymentsWorld, act: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    payment = await shared.authorised()
    before = (await shared.get(f"/authorizations/{payment}")).body
    assert (await shared.act(payment, act, **body)).problem == expected
    assert (await shared.get(f"/authorizations/{payment}")).body == before


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/cards", {"member_id": "x", "product": "gold"}, INVALID),
        ("/cards", {"member_id": "mbr_" + "0" * 26, "product": "Gold Card"}, INVALID),
        (f"/cards/{CARD}/status", {"act": "burn", "reason": "x"}, INVALID),
        (f"/cards/{CARD}/status", {"act": "block", "reason": "x"}, (404, "card-not-found")),
        (f"/cards/{CARD}/limits", {"limits": []}, (404, "card-not-found")),
        (f"/cards/{CARD}/number", {"card_number": "4111111111111111"}, (404, "card-not-found")),
        ("/cards/nobody/status", {"act": "block", "reason": "x"}, (404, "card-not-found")),
        ("/policy", {"policy": {}, "reason": "x"}, INVALID),
        ("/policy/roll-back", {"version": 99, "reason": "x"}, (404, "policy-version-unknown")),
        ("/policy/roll-back", {"version": 2**40, "reason": "x"}, INVALID),
        ("/authorizations/nobody/reversal", {}, (404, "payment-not-found")),
    ],
)
async def test_bad_input_about_cards_and_policies_is_refused_by_name(
    shared: PaymentsWorld, path: str, body: dict[str, Any], expected: tuple[int, str]
) -> None:
    async with shared.world.unchanged():
        assert (await shared.post(path, body)).problem == expected


async def test_limits_that_contradict_each_other_are_refused(shared: PaymentsWorld) -> None:
    card = await shared.card()
    limit = {"currency": "USD", "transaction_minor_max": 2, "day_minor_max": 1}
    reply = await shared.post(f"/cards/{card}/limits", {"limits": [limit]})
    assert reply.problem == (400, "limits-invalid")
    good = {**limit, "day_minor_max": 2}
    assert (await shared.post(f"/cards/{card}/limits", {"limits": [good, good]})).problem == (
        400,
        "limits-invalid",
    )
    assert (await shared.post(f"/cards/{card}/limits", {"limits": []})).json["limits"] == []


@pytest.mark.parametrize("status", ["unblock", "block twice", "after close"])
async def test_acts_on_a_card_that_its_status_does_not_allow_are_refused(
    shared: PaymentsWorld, status: str
) -> None:
    card = await shared.card()
    before = {"unblock": [], "block twice": ["block"], "after close": ["close"]}[status]
    act = "unblock" if status != "block twice" else "block"
    for one in before:
        assert (await shared.post(f"/cards/{card}/status", {"act": one, "reason": "x"})).status == 200
    reply = await shared.post(f"/cards/{card}/status", {"act": act, "reason": "x"})
    assert reply.problem == (409, "card-act-refused")
