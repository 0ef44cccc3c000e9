"""A bad ruleset on the running system: it decides, it is rolled back in one step, what it decided is put right."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from faregate.credit.handlers.decide import RULESET_NAME
from tests.credit_worker import (  # noqa: F401
    STRAIGHT,
    CreditSystem,
    both_buses,
    quiet_system,
    servers_of_module,
    system_of_module,
)
from tests.credit_world import new_key
from tests.ruleset_desk import denying_everything, next_version, released

pytestmark = pytest.mark.asyncio(loop_scope="module")
REASON = {"reason": "it took dollars for cents"}
JOURNAL = "select * from gateway.intent order by provider_request_id"


async def operator(system: CreditSystem, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Send a request as an operator; it must succeed."""
    if "operator" not in system.world.tokens:
        await system.world.add_key("operator", client="ops", scopes=["rules:read", "rules:manage"])
    headers = {"Content-Type": "application/json"} | ({"Idempotency-Key": new_key()} if body else {})
    data = orjson.dumps(body) if body else None
    reply = await system.world.request(
        method, f"/internal{path}", client="operator", headers=headers, data=data
    )
    assert reply.status in (200, 201), reply.body
    return dict(reply.json)


async def decided(system: CreditSystem, count: int) -> dict[str, str]:
    """Submit applications of people whom nothing speaks against; return their outcomes when they are decided."""
    applications = [await system.submit("greta gutmann") for _ in range(count)]
    found = await asyncio.gather(*(system.decided(application) for application in applications))
    return {decision["application_id"]: decision["outcome"] for decision in found}


async def deploy_bad(system: CreditSystem) -> str:
    document = released(next_version(), denying_everything)
    label = (await operator(system, "POST", "/rulesets", {"document": document, **REASON}))["label"]
    await operator(system, "POST", f"/rulesets/{label}/activate", REASON)
    return str(label)


async def corrected(system: CreditSystem, application: str) -> list[tuple[int, str, str]]:
    rows = await system.decisions(application)
    return [(row["version"], row["outcome"], row["ruleset_version"]) for row in rows]


@pytest.mark.requirement("C17")
@pytest.mark.requirement("C20")
@pytest.mark.requirement("C28")
async def test_a_bad_ruleset_is_rolled_back_and_every_decision_of_it_corrected_without_asking_anybody(
    system: CreditSystem,
) -> None:
    before = await decided(system, 1)
    bad = await deploy_bad(system)
    wrong = await decided(system, 4)
    back = await operator(system, "POST", f"/rulesets/{RULESET_NAME}/rollback", {"expected": bad, **REASON})
    after = await decided(system, 1)
    assert (set(before.values()), set(wrong.values()), set(after.values())) == (
        {"approved"},
        {"denied"},
        {"approved"},
    )
    assert back["decisions"] == [{"outcome": "denied", "stands": True, "decisions": 4}]
    listed = await operator(system, "GET", f"/rulesets/{bad}/decisions")
    assert [decision["application_id"] for decision in listed["decisions"]] == sorted(wrong)

    await system.until_quiet()
    asked, executed = await system.sql(JOURNAL), await system.sandbox.executions()
    report = await operator(system, "POST", f"/rulesets/{bad}/redecisions", REASON)
    assert [(c["outcome_before"], c["outcome_after"], c["applications"]) for c in report["counts"]] == [
        ("denied", "approved", 4)
    ]
    assert [await corrected(system, a) for a in wrong] == [[(1, "denied", bad)]] * 4
    applied = await operator(system, "POST", f"/redecisions/{report['id']}/apply", REASON)
    assert applied == {"applied": 4, "skipped": 0, "pending": 0}
    good = f"{RULESET_NAME}-{back['to_version']}"
    for application in wrong:
        assert await corrected(system, application) == [(1, "denied", bad), (2, "approved", good)]
        assert (await system.decided(application))["decision_version"] == 2
    await system.until_quiet()
    assert {(await system.status(application))["status"] for application in wrong} == {"approved"}
    for application in wrong:
        finalized = [e for e in await system.events(application) if e["type"] == "credit.decision.finalized"]
        assert [event["payload"]["decision_version"] for event in finalized] == [1, 2]
        assert await system.executed(application) == STRAIGHT
    assert await system.sql(JOURNAL) == asked
    assert await system.sandbox.executions() == executed


@pytest.mark.requirement("C28")
async def test_while_a_ruleset_is_rolled_back_every_application_is_decided_by_one_version_or_the_other(
    system: CreditSystem,
) -> None:
    bad = await deploy_bad(system)
    submitted = [asyncio.create_task(decided(system, 3)) for _ in range(4)]
    await system.until_sql(
        "select count(*) as n from credit.decision where ruleset_version = %(bad)s",
        lambda rows: rows[0]["n"] >= 1,
        bad=bad,
    )
    await operator(system, "POST", f"/rulesets/{RULESET_NAME}/rollback", {"expected": bad, **REASON})
    outcomes = {k: v for found in await asyncio.gather(*submitted) for k, v in found.items()}
    listed = await operator(system, "GET", f"/rulesets/{bad}/decisions")
    assert {d["application_id"] for d in listed["decisions"]} == {
        application for application, outcome in outcomes.items() if outcome == "denied"
    }
    assert set(outcomes.values()) <= {"approved", "denied"}
    assert len(outcomes) == 12
