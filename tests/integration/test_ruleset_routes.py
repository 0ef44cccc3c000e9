"""Rulesets over real HTTP, as operators use them: scopes, keys answered once, the whole way out of a bad version."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.credit_desk import Desk, desk_of_module, servers_of_module  # noqa: F401
from tests.credit_world import ACME, Reply, new_key
from tests.ruleset_desk import (  # noqa: F401
    Rules,
    denying_everything,
    next_version,
    released,
    reviewing_low_risk,
    rules_of_desk,
)

pytestmark = pytest.mark.asyncio(loop_scope="module")
NAME = "card-eligibility"
REASON = {"reason": "a test of the routes"}
OPERATOR, READER = "ops", "auditor"


async def send(
    desk: Desk,
    method: str,
    path: str,
    body: Any = None,
    *,
    client: str | None = OPERATOR,
    key: str | None = None,
) -> Reply:
    """Send a request as an operator who may do all, or as a reader."""
    for name, scopes in ((OPERATOR, ["rules:read", "rules:manage"]), (READER, ["rules:read"])):
        if name not in desk.world.tokens:
            await desk.world.add_key(name, client=name, scopes=scopes)
    headers = {"Idempotency-Key": key or new_key()} if method == "POST" else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = None if body is None else orjson.dumps(body)
    return await desk.world.request(method, f"/internal{path}", client=client, headers=headers, data=data)


async def done(desk: Desk, method: str, path: str, body: Any = None) -> dict[str, Any]:
    """Send a request that must succeed and return its answer."""
    reply = await send(desk, method, path, body)
    assert reply.status in (200, 201), reply.body
    return dict(reply.json)


async def deployed(desk: Desk, *changes: Any) -> str:
    """Publish a version over HTTP and activate it; return its label."""
    document = released(next_version(), *changes)
    label = (await done(desk, "POST", "/rulesets", {"document": document, **REASON}))["label"]
    await done(desk, "POST", f"/rulesets/{label}/activate", REASON)
    return str(label)


@pytest.mark.requirement("C17")
async def test_a_published_ruleset_is_listed_shown_activated_and_in_the_history(desk: Desk) -> None:
    document = released(next_version())
    published = await done(desk, "POST", "/rulesets", {"document": document, **REASON})
    label = published["label"]
    assert {finding["severity"] for finding in published["findings"]} == {"warning", "note"}
    assert (await done(desk, "GET", f"/rulesets/{label}"))["document"] == document
    assert (await done(desk, "POST", f"/rulesets/{label}/activate", REASON))["version"] == document["version"]
    listed = (await done(desk, "GET", f"/rulesets?name={NAME}"))["rulesets"]
    assert [v["label"] for v in listed if v["active_since"]] == [label]
    history = await done(desk, "GET", f"/rulesets/{NAME}/history?limit=2")
    assert [(e["action"], e["actor"], e["reason"]) for e in history["entries"]] == [
        ("activated", "operator:ops", REASON["reason"]),
        ("published", "operator:ops", REASON["reason"]),
    ]
    older = await done(desk, "GET", f"/rulesets/{NAME}/history?before={history['next']}")
    assert {e["id"] for e in older["entries"]}.isdisjoint(e["id"] for e in history["entries"])


@pytest.mark.requirement("C17")
async def test_a_ruleset_with_problems_is_refused_with_each_of_them(desk: Desk) -> None:
    document = released(next_version())
    rows = document["graph"]["nodes"][1]["content"]["rules"]
    rows[0].update(when_0="< ", adverse_code="'UNHEARD_OF'")
    checked = await done(desk, "POST", "/rulesets/check", {"document": document})
    assert not checked["may_be_published"]
    reply = await send(desk, "POST", "/rulesets", {"document": document, **REASON})
    assert reply.problem == (400, "ruleset-refused")
    found = [(p["kind"], p["row"], p["column"]) for p in reply.json["problems"]]
    assert ("broken_cell", "age", "application.age_years") in found
    assert ("unknown_code", "age", "adverse_code") in found


async def test_two_versions_are_compared_row_by_row(desk: Desk) -> None:
    one, other = await deployed(desk), await deployed(desk, reviewing_low_risk)
    diff = await done(desk, "GET", f"/rulesets/{other}/diff?against={one}")
    assert [d["place"] for d in diff["differences"]] == [["score_band", "rows", "low", "score.risk_score"]]


@pytest.mark.requirement("C28")
async def test_a_bad_version_is_rolled_back_and_its_decisions_are_put_right_over_http(
    desk: Desk, rules: Rules
) -> None:
    good, bad = await deployed(desk), await deployed(desk, denying_everything)
    decided = sorted([await desk.decided(), await desk.decided()])
    back = await done(desk, "POST", f"/rulesets/{NAME}/rollback", {"expected": bad, **REASON})
    assert (f"{NAME}-{back['to_version']}", back["decisions"]) == (
        good,
        [{"outcome": "denied", "stands": True, "decisions": 2}],
    )
    page = await done(desk, "GET", f"/rulesets/{bad}/decisions?limit=1")
    rest = await done(desk, "GET", f"/rulesets/{bad}/decisions?limit=5&after={page['next']}")
    assert [d["application_id"] for d in page["decisions"] + rest["decisions"]] == decided
    assert rest["next"] is None
    report = await done(desk, "POST", f"/rulesets/{bad}/redecisions", REASON)
    assert [(c["outcome_before"], c["outcome_after"], c["applications"]) for c in report["counts"]] == [
        ("denied", "approved", 2)
    ]
    items = await done(desk, "GET", f"/redecisions/{report['id']}/items?only_changed=true&limit=1")
    assert (items["items"][0]["application_id"], items["next"]) == (decided[0], decided[0])
    applied = await done(desk, "POST", f"/redecisions/{report['id']}/apply", REASON)
    assert applied == {"applied": 2, "skipped": 0, "pending": 0}
    assert [await rules.outcomes(a) for a in decided] == [[(1, "denied", bad), (2, "approved", good)]] * 2
    shown = await done(desk, "GET", f"/redecisions/{report['id']}")
    assert [count["state"] for count in shown["counts"]] == ["applied"]


@pytest.mark.requirement("C28")
async def test_a_roll_back_that_is_sent_again_rolls_back_once(desk: Desk) -> None:
    await deployed(desk)
    second, third = await deployed(desk), await deployed(desk)
    path, key = f"/rulesets/{NAME}/rollback", new_key()
    first = await send(desk, "POST", path, REASON, key=key)
    again = await send(desk, "POST", path, REASON, key=key)
    assert first.json == again.json
    assert again.headers["Idempotent-Replayed"] == "true"
    assert f"{NAME}-{first.json['from_version']}" == third
    assert (await send(desk, "POST", path, {"expected": third, **REASON})).problem == (
        409,
        "not-the-active-version",
    )
    assert (await done(desk, "GET", f"/rulesets/{NAME}/traffic"))["version"] == int(second.rpartition("-")[2])


async def test_the_same_key_for_another_version_is_another_request(desk: Desk) -> None:
    one, other, key = await deployed(desk), await deployed(desk), new_key()
    await send(desk, "POST", f"/rulesets/{one}/activate", REASON, key=key)
    reply = await send(desk, "POST", f"/rulesets/{other}/activate", REASON, key=key)
    assert reply.problem == (422, "idempotency-key-reused")


@pytest.mark.requirement("C17")
async def test_shadow_and_split_are_started_reported_and_stopped(desk: Desk) -> None:
    active = await deployed(desk)
    tried = f"{NAME}-{next_version()}"
    document = released(int(tried.rpartition("-")[2]), reviewing_low_risk)
    await done(desk, "POST", "/rulesets", {"document": document, **REASON})
    await done(desk, "POST", f"/rulesets/{tried}/shadow", REASON)
    await done(desk, "POST", f"/rulesets/{tried}/split", {"basis_points": 10_000, **REASON})
    application = await desk.decided()
    watched = await done(desk, "GET", f"/rulesets/{NAME}/shadow/report")
    assert (watched["ruleset_version"], watched["report"]["agreement_rate"]) == (tried, 1.0)
    arms = (await done(desk, "GET", f"/rulesets/{NAME}/split/report"))["report"]["arms"]
    assert [(a["arm"], a["ruleset_version"], a["manual_review"]) for a in arms] == [("challenger", tried, 1)]
    for what in ("shadow", "split"):
        await done(desk, "POST", f"/rulesets/{NAME}/{what}/stop", REASON)
        assert (await send(desk, "GET", f"/rulesets/{NAME}/{what}/report")).problem == (409, "nothing-tried")
    named = await done(desk, "GET", f"/rulesets/{NAME}/shadow/report?version={tried}")
    assert named["report"]["watched"] == 1
    assert (await desk.decision(application))["ruleset_version"] == tried != active


@pytest.mark.requirement("C17")
async def test_a_published_version_is_tested_on_the_past(desk: Desk) -> None:
    active = await deployed(desk)
    await desk.decided()
    found = await done(desk, "GET", f"/rulesets/{active}/backtest?limit=2000&since=2026-01-01T00:00:00Z")
    assert found["report"]["compared"] >= 1
    assert found["report"]["is_complete"]


ROUTES = [
    ("GET", "/rulesets"),
    ("GET", f"/rulesets/{NAME}-1"),
    ("GET", f"/rulesets/{NAME}-1/diff?against={NAME}-1"),
    ("GET", f"/rulesets/{NAME}-1/decisions"),
    ("GET", f"/rulesets/{NAME}-1/backtest"),
    ("GET", f"/rulesets/{NAME}/traffic"),
    ("GET", f"/rulesets/{NAME}/history"),
    ("GET", "/redecisions/red_00000000000000000000000000"),
    ("POST", "/rulesets"),
    ("POST", f"/rulesets/{NAME}-1/activate"),
    ("POST", f"/rulesets/{NAME}-1/shadow"),
    ("POST", f"/rulesets/{NAME}-1/split"),
    ("POST", f"/rulesets/{NAME}-1/redecisions"),
    ("POST", f"/rulesets/{NAME}/rollback"),
    ("POST", f"/rulesets/{NAME}/shadow/stop"),
    ("POST", f"/rulesets/{NAME}/split/stop"),
    ("POST", "/redecisions/red_00000000000000000000000000/report"),
    ("POST", "/redecisions/red_00000000000000000000000000/apply"),
]


@pytest.mark.requirement("P3")
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_clients_see_nothing_of_rulesets_and_readers_change_nothing(
    desk: Desk, method: str, path: str
) -> None:
    assert (await send(desk, method, path, REASON, client=None)).problem == (401, "unauthenticated")
    assert (await send(desk, method, path, REASON, client=ACME)).problem == (403, "scope-missing")
    if method == "POST":
        assert (await send(desk, method, path, REASON, client=READER)).problem == (403, "scope-missing")


UNKNOWN = [
    ("GET", "/rulesets/Card!-1", None, (400, "ruleset-label-invalid")),
    ("GET", "/rulesets/card-eligibility-99999", None, (404, "ruleset-version-not-found")),
    ("GET", "/rulesets/card-eligibility-9999999999", None, (400, "ruleset-label-invalid")),
    ("GET", "/rulesets/nobody/traffic", None, (404, "no-active-ruleset")),
    ("GET", "/rulesets/x!/history", None, (400, "ruleset-label-invalid")),
    ("GET", "/rulesets?name=%00", None, (422, "validation-failed")),
    ("GET", f"/rulesets/{NAME}-1/decisions?limit=0", None, (422, "validation-failed")),
    ("GET", "/redecisions/red_00000000000000000000000000", None, (404, "redecision-not-found")),
    ("GET", "/redecisions/!/items", None, (404, "redecision-not-found")),
    ("POST", "/redecisions/x/apply", REASON, (404, "redecision-not-found")),
    ("POST", "/rulesets/nobody-1/activate", REASON, (404, "ruleset-version-not-found")),
    ("POST", "/rulesets/nobody-1/shadow", REASON, (404, "ruleset-version-not-found")),
    ("POST", "/rulesets/nobody/rollback", REASON, (409, "nothing-to-roll-back-to")),
    ("POST", "/rulesets/nobody/split/stop", REASON, (404, "no-active-ruleset")),
    ("POST", f"/rulesets/{NAME}-1/activate", {"reason": ""}, (422, "validation-failed")),
    ("POST", f"/rulesets/{NAME}-1/activate", {}, (422, "validation-failed")),
    ("POST", f"/rulesets/{NAME}-1/split", {**REASON, "basis_points": 0}, (422, "validation-failed")),
]


@pytest.mark.parametrize(("method", "path", "body", "problem"), UNKNOWN)
async def test_what_is_unknown_or_not_well_formed_is_a_named_problem(
    desk: Desk, method: str, path: str, body: Any, problem: tuple[int, str]
) -> None:
    assert (await send(desk, method, path, body)).problem == problem
