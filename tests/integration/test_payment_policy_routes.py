"""The policy over HTTP: it counts at once in every process, nothing of it is lost, and what is not whole is refused."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import psycopg
import pytest

from faregate.payments.handlers.policies import first_policy
from tests.payments_world import (  # noqa: F401
    PaymentsWorld,
    open_payments,
    payments_of_module,
    payments_of_test,
    shared_payments,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("F9")]


def declining(message: str = "Not today") -> dict[str, Any]:
    """Return a policy by which nothing small is approved without the scorer."""
    policy = deepcopy(first_policy())
    policy["tables"][0]["bands"][0]["cells"]["unavailable"] = {"action": "decline", "message": message}
    return policy


async def test_what_is_set_counts_in_every_process_without_a_restart(shared: PaymentsWorld) -> None:
    async with open_payments(shared.world.settings, shared.world.cache) as other:
        shared.scorer.status = other.scorer.status = 503
        for world in (shared, other):
            assert (await world.attempt(amount_minor=1)).json["status"] == "authorised"
        reply = await shared.post("/policy", {"policy": declining(), "reason": "an attack"})
        assert reply.status == 200
        version = reply.json["version"]
        for world in (other, shared):
            declined = (await world.attempt(amount_minor=1)).json
            assert (declined["status"], declined["message"]) == ("declined", "Not today")
            assert declined["policy"] == {"version": version, "cell": "everything.low.unavailable"}
        back = await other.post("/policy/roll-back", {"version": 1, "reason": "it is over"})
        assert (back.json["version"], back.json["back_to"]) == (version + 1, 1)
        for world in (shared, other):
            assert (await world.attempt(amount_minor=1)).json["status"] == "authorised"


async def test_who_set_what_when_and_why_is_kept_and_cannot_be_changed(shared: PaymentsWorld) -> None:
    set_ = await shared.post("/policy", {"policy": declining("Nein"), "reason": "a trial"})
    history = (await shared.get("/policy/history")).json["versions"]
    assert [one["version"] for one in history] == list(range(set_.json["version"], 0, -1))
    assert {(one["by"], one["reason"]) for one in history} >= {
        ("client:network", "a trial"),
        ("faregate", "the policy that comes along"),
    }
    for change in (
        "update payments.policy set reason = ''",
        "delete from payments.policy",
        "truncate payments.policy cascade",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege, match="only ever added to"):
            await shared.world.sql(change)
    await shared.post("/policy/roll-back", {"version": 1, "reason": "the end of a trial"})


async def test_a_policy_that_is_not_whole_is_refused_by_its_cell_and_nothing_changes(
    shared: PaymentsWorld,
) -> None:
    policy = declining()
    del policy["tables"][0]["bands"][2]["cells"]["model_missing"]
    async with shared.world.unchanged():
        reply = await shared.post("/policy", {"policy": policy, "reason": "a mistake"})
    assert reply.problem == (400, "payment-policy-invalid")
    assert reply.json["place"] == "everything.high.model_missing"


async def test_a_policy_can_be_tried_before_it_counts(shared: PaymentsWorld) -> None:
    asked = {
        "amount_minor": 1,
        "currency": "USD",
        "merchant_category": 5_812,
        "channel": "online",
        "state": "unavailable",
    }
    async with shared.world.unchanged():
        now = await shared.post("/policy/try", asked)
        then = await shared.post("/policy/try", {**asked, "policy": declining()})
    assert [one.json["action"] for one in (now, then)] == ["approve", "decline"]


async def test_who_may_pay_may_not_set_the_policy(shared: PaymentsWorld) -> None:
    await shared.world.add_key("till", client="till", scopes=["payments:authorise", "payments:read"])
    reply = await shared.post("/policy", {"policy": declining(), "reason": "x"}, client="till")
    assert reply.problem == (403, "scope-missing")
    reply = await shared.post("/cards", {}, client="till")
    assert reply.problem == (403, "scope-missing")
    assert (await shared.get("/policy", client="till")).status == 200
