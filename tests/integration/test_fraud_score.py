"""Scoring over real HTTP: what is answered, what is kept, and what comes of the same payment again."""

from __future__ import annotations

import asyncio
from typing import Any

import psycopg
import pytest

from tests.fraud_world import FraudWorld, fraud_of_module, new_payment  # noqa: F401

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.requirement("F1")
async def test_a_payment_is_decided_and_the_decision_kept_before_it_is_answered(fraud: FraudWorld) -> None:
    payment = new_payment()
    answer = await fraud.decided(payment)
    [row] = await fraud.rows(payment)
    assert row["record"]["answer"] == answer
    assert (row["id"], row["payment_id"]) == (answer["decision_id"], payment["payment_id"])
    assert answer["action"] == "approve"
    assert answer["score"] is None
    assert answer["features"]["as_of"] == payment["occurred_at"]
    assert answer["degraded"] == ["features_stale", "model_missing"]
    assert row["record"]["features"]["amount_minor"] == payment["amount_minor"]


async def test_the_same_payment_again_gets_the_same_answer_and_is_kept_once(fraud: FraudWorld) -> None:
    payment = new_payment()
    replies = await asyncio.gather(*(fraud.ask(payment) for _ in range(20)))
    assert {reply.status for reply in replies} == {200}
    assert len({reply.body for reply in replies}) == 1
    assert len(await fraud.rows(payment)) == 1


@pytest.mark.parametrize(
    "changed",
    [{"amount_minor": 4_251}, {"currency": "EUR"}, {"channel": "atm"}, {"ip": None}, {"country": "CA"}],
)
async def test_another_payment_under_a_known_id_is_refused(
    fraud: FraudWorld, changed: dict[str, Any]
) -> None:
    payment = new_payment()
    await fraud.decided(payment)
    reply = await fraud.ask({**payment, **changed})
    assert reply.problem == (409, "payment-id-reused")
    assert len(await fraud.rows(payment)) == 1


async def test_nobody_changes_or_removes_a_decision(fraud: FraudWorld) -> None:
    await fraud.decided()
    [month, *_] = await fraud.world.sql(
        "select distinct tableoid::regclass::text as name from fraud.decision"
    )
    for table in ("fraud.decision", month["name"], "fraud.scored_payment"):
        for statement in (
            f"update {table} set payment_id = 'x'",
            f"delete from {table}",
            f"truncate {table}",
        ):
            with pytest.raises(psycopg.errors.IntegrityConstraintViolation):
                await fraud.world.sql(statement)


@pytest.mark.parametrize(
    ("deadline_ms", "answer"),
    [
        ("1", (503, "deadline-cannot-be-met")),
        ("soon", (400, "deadline-malformed")),
        ("-5", (400, "deadline-malformed")),
    ],
)
async def test_a_caller_that_does_not_wait_long_enough_is_refused_at_once(
    fraud: FraudWorld, deadline_ms: str, answer: tuple[int, str]
) -> None:
    payment = new_payment()
    assert (await fraud.ask(payment, **{"X-Deadline-Ms": deadline_ms})).problem == answer
    assert await fraud.rows(payment) == []
    assert (await fraud.ask(payment, **{"X-Deadline-Ms": "60000"})).status == 200
    assert len(await fraud.rows(payment)) == 1


@pytest.mark.requirement("F7")
@pytest.mark.parametrize(
    ("changes", "action", "codes"),
    [
        ({"country": "KP"}, "decline", ["SANCTIONED_COUNTRY"]),
        ({"amount_minor": 1_000_001}, "review", ["LARGE_AMOUNT"]),
        ({"amount_minor": 1_000_001, "country": "IR"}, "decline", ["SANCTIONED_COUNTRY", "LARGE_AMOUNT"]),
        ({"amount_minor": 21_000, "device_id": None}, "approve", ["WITHOUT_DEVICE"]),
        ({}, "approve", []),
    ],
)
async def test_rules_decide_first_and_say_why(
    fraud: FraudWorld, changes: dict[str, Any], action: str, codes: list[str]
) -> None:
    answer = await fraud.decided(**changes)
    assert answer["action"] == action
    assert [reason["code"] for reason in answer["reasons"]][: len(codes)] == codes
    assert {reason["source"] for reason in answer["reasons"]} <= {"rule"}
    assert all(reason["text"] for reason in answer["reasons"])
    assert answer["ruleset"] == {"name": "fraud-payments", "version": 1}
