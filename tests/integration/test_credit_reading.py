"""Polling over real HTTP: status and decision field for field, other clients' ids, and the cache and its failures."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from pydantic import SecretStr

from faregate.credit.contracts import Status
from faregate.credit.store.decisions import NewDecision, insert_decision, record_steps
from faregate.infra.cache import Cache, CacheUnavailable
from faregate.infra.embedded import servers_of
from faregate.infra.embedded.valkey import ValkeyServer
from tests.credit_world import (
    ACME,
    APPLICATIONS,
    GLOBEX,
    CreditWorld,
    open_credit_world,
    refused,
    shared_world,
)
from tests.sandbox import until
from tests.servers import Breakable

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

HURT = {"code": "A1", "text": "Too many credits", "points": -12}


def decision_of(application_id: str, **changes: Any) -> NewDecision:
    approved: dict[str, Any] = {
        "application_id": application_id,
        "version": 1,
        "outcome": Status.APPROVED,
        "step": "decision_finalized",
        "risk_score": 0.18,
        "reason_codes": ["BUREAU_OK", "FRAUD_LOW", "INCOME_VERIFIED"],
        "adverse_action_reasons": [],
        "ruleset_version": "card-eligibility@1",
        "scorecard_version": "german-1",
        "code_set_version": "reason-codes-1",
        "inputs": {},
        "inputs_sha256": bytes(32),
        "result": {},
        "actor": "system",
    }
    return NewDecision(**{**approved, **changes})


async def decide(world: CreditWorld, application_id: str, **changes: Any) -> datetime:
    """Record a decision as the decision service does, and return its instant."""
    now = datetime.now(UTC)
    await insert_decision(world.connection, decision_of(application_id, **changes), now=now)
    return now


# Status and decision


@pytest.mark.requirement("C7")
async def test_the_status_of_a_new_application_has_these_fields(shared_world: CreditWorld) -> None:
    begun = datetime.now(UTC)
    application_id = await shared_world.submitted()
    reply = await shared_world.status(application_id)
    updated_at = datetime.fromisoformat(reply.json["updated_at"])
    assert reply.status == 200
    assert reply.headers["content-type"] == "application/json"
    assert reply.json == {
        "application_id": application_id,
        "status": "processing",
        "latest_step": "submitted",
        "updated_at": updated_at.isoformat(),
    }
    assert timedelta() < updated_at - begun < timedelta(minutes=1)


@pytest.mark.requirement("C7")
async def test_the_latest_step_names_what_happened_last(shared_world: CreditWorld) -> None:
    application_id = await shared_world.submitted()
    now = datetime.now(UTC)
    await record_steps(shared_world.connection, {application_id: "fraud_check_timeout"}, now=now)
    reply = (await shared_world.status(application_id)).json
    assert (reply["latest_step"], reply["updated_at"]) == ("fraud_check_timeout", now.isoformat())


@pytest.mark.requirement("C8")
async def test_before_a_decision_its_route_says_that_there_is_none_yet(shared_world: CreditWorld) -> None:
    path = f"{APPLICATIONS}/{await shared_world.submitted()}/decision"
    sent = shared_world.request("GET", path)
    reply = await refused(shared_world, sent, status=404, slug="decision-not-made", path=path)
    assert reply.json["detail"] == "no decision has been made yet"
    assert reply.json["application_status"] == "processing"


@pytest.mark.requirement("C8")
@pytest.mark.parametrize(
    ("outcome", "risk_score", "reason_codes", "adverse"),
    [
        (Status.APPROVED, 0.18, ["BUREAU_OK", "FRAUD_LOW", "INCOME_VERIFIED"], []),
        (Status.DENIED, 0.91, ["BUREAU_POOR"], [HURT]),
        (Status.MANUAL_REVIEW, None, ["BUREAU_MISSING"], []),
    ],
)
async def test_a_decision_has_these_fields_and_the_status_follows_it(
    shared_world: CreditWorld, outcome: Status, risk_score: float, reason_codes: list[str], adverse: list[Any]
) -> None:
    application_id = await shared_world.submitted()
    decided_at = await decide(
        shared_world,
        application_id,
        outcome=outcome,
        risk_score=risk_score,
        reason_codes=reason_codes,
        adverse_action_reasons=adverse,
    )
    reply = await shared_world.decision(application_id)
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    assert reply.json == {
        "application_id": application_id,
        "outcome": outcome.value,
        "risk_score": risk_score,
        "reason_codes": reason_codes,
        "adverse_action_reasons": adverse,
        "decision_version": 1,
        "ruleset_version": "card-eligibility@1",
        "scorecard_version": "german-1",
        "decided_at": decided_at.isoformat(),
    }
    assert (await shared_world.status(application_id)).json["status"] == outcome.value


@pytest.mark.requirement("C8")
async def test_of_several_decisions_the_newest_is_read(shared_world: CreditWorld) -> None:
    application_id = await shared_world.submitted()
    await decide(shared_world, application_id, outcome=Status.MANUAL_REVIEW)
    await decide(shared_world, application_id, version=2)
    reply = (await shared_world.decision(application_id)).json
    assert (reply["decision_version"], reply["outcome"]) == (2, "approved")


# Whose application it is


@pytest.mark.requirement("C19")
@pytest.mark.requirement("P3")
@pytest.mark.parametrize("route", ["", "/decision"])
@pytest.mark.parametrize("is_cached", [True, False])
async def test_the_id_of_another_client_is_not_found_like_one_that_never_was(
    shared_world: CreditWorld, route: str, is_cached: bool
) -> None:
    application_id = await shared_world.submitted(client=ACME)
    await decide(shared_world, application_id)
    if is_cached:
        assert (await shared_world.status(application_id, client=ACME)).status == 200
    answers = []
    for unknown in (application_id, "app_00000000000000000000000000"):
        path = f"{APPLICATIONS}/{unknown}{route}"
        sent = shared_world.request("GET", path, client=GLOBEX)
        reply = await refused(shared_world, sent, status=404, slug="application-not-found", path=path)
        answers.append(reply.json["detail"].replace(unknown, "…"))
    assert answers[0] == answers[1]
    assert (await shared_world.status(application_id, client=ACME)).status == 200


@pytest.mark.parametrize("route", ["", "/decision"])
@pytest.mark.parametrize(
    "name", ["x", "..", "%00", "app_%00", "%ff", "%F0%9F%98%80", "'or''='", "%25s", "a" * 4000, "a%2Fb", ""]
)
async def test_an_id_that_is_none_is_not_found(shared_world: CreditWorld, name: str, route: str) -> None:
    async with shared_world.unchanged():
        reply = await shared_world.request("GET", f"{APPLICATIONS}/{name}{route}")
    assert reply.problem[0] == 404


@pytest.mark.requirement("P3")
async def test_metrics_need_a_key_with_their_scope(shared_world: CreditWorld) -> None:
    await shared_world.add_key("watcher", client="watcher", scopes=["metrics:read"])
    for client, status in ((None, 401), (ACME, 403), ("watcher", 200)):
        assert (await shared_world.request("GET", "/metrics", client=client)).status == status


# The cache


async def change_behind_the_cache(world: CreditWorld, application_id: str) -> None:
    await world.sql(
        "update credit.application set latest_step = 'changed' where id = %(id)s", id=application_id
    )


async def latest_step(world: CreditWorld, application_id: str) -> str:
    return str((await world.status(application_id)).json["latest_step"])


@pytest.mark.requirement("C19")
async def test_a_second_poll_is_answered_from_the_cache_with_the_same_bytes(
    shared_world: CreditWorld,
) -> None:
    application_id = await shared_world.submitted()
    from_database = await shared_world.status(application_id)
    await change_behind_the_cache(shared_world, application_id)
    from_cache = await shared_world.status(application_id)
    assert from_cache.body == from_database.body


@pytest.mark.requirement("C19")
async def test_a_snapshot_lives_no_longer_than_its_time(shared_world: CreditWorld) -> None:
    brief = shared_world.settings.model_copy(update={"status_cache_ttl_s": 0.2})
    application_id = await shared_world.submitted()
    async with open_credit_world(brief, cache=shared_world.cache) as world:
        assert await latest_step(world, application_id) == "submitted"
        await change_behind_the_cache(world, application_id)
        await until(lambda: latest_step(world, application_id), lambda step: step == "changed")


@pytest.mark.requirement("C19")
@pytest.mark.parametrize(
    "left_behind",
    [
        b"\xff",
        b"{}",
        b"[1, 2]",
        b"7",
        orjson.dumps(["a", "b", "no status", "c", "d"]),
        b'[1,2,"denied",4,5,6]',
    ],
)
async def test_a_snapshot_that_another_version_wrote_is_passed_over(
    shared_world: CreditWorld, left_behind: bytes
) -> None:
    application_id = await shared_world.submitted()
    await shared_world.cache.put(f"credit:status:{application_id}", left_behind, revision=0, ttl_s=60)
    assert await latest_step(shared_world, application_id) == "submitted"


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[ValkeyServer]:
    """A Valkey that a test may kill."""
    with tempfile.TemporaryDirectory(prefix="faregate-valkey-") as folder:
        _, valkey = servers_of(Path(folder), end_with_us=True)
        valkey.ensure_running()
        yield valkey
        valkey.stop()


@pytest.mark.requirement("C19")
@pytest.mark.requirement("C28")
async def test_valkey_killed_under_load_costs_no_read_and_the_snapshots_are_there_again_after(
    shared_world: CreditWorld, own_valkey: ValkeyServer
) -> None:
    url = f"unix://{own_valkey.socket}"
    settings = shared_world.settings.model_copy(
        update={"valkey_url": SecretStr(url), "status_cache_ttl_s": 60.0, "admission_delay_s_max": 60.0}
    )
    cache = await Cache.open(url, retry_after_s=0.1)
    async with open_credit_world(settings, cache=cache) as world:
        ids = [await world.submitted() for _ in range(8)]
        async with polling(world, ids) as answers:
            await until(lambda: snapshots(cache, ids), lambda found: len(found) == len(ids))
            Breakable(own_valkey).kill9()
            before = len(answers)
            await change_behind_the_cache(world, ids[0])
            await until(lambda: latest_step(world, ids[0]), lambda step: step == "changed")
            await until(lambda: count(answers), lambda answered: answered > before + 10 * len(ids))
            assert (await world.status(ids[0], client=GLOBEX)).status == 404
            assert (await world.submit()).status == 202
            shutil.rmtree(own_valkey.folder)  # its own log would bring the old snapshots back
            own_valkey.ensure_running()
            await until(lambda: snapshots(cache, ids), lambda found: len(found) == len(ids))
        assert set(answers) == {200}
        assert b"changed" in (await snapshots(cache, ids))[ids[0]]
    await cache.close()


@asynccontextmanager
async def polling(world: CreditWorld, ids: Sequence[str]) -> AsyncIterator[list[int]]:
    """Poll each application again and again for the length of the block; give the statuses of the answers."""
    answers: list[int] = []
    is_over = asyncio.Event()

    async def poll(application_id: str) -> None:
        while not is_over.is_set():
            answers.append((await world.status(application_id)).status)

    async with asyncio.TaskGroup() as group:
        for application_id in ids:
            group.create_task(poll(application_id))
        try:
            yield answers
        finally:
            is_over.set()


async def count(answers: Sequence[int]) -> int:
    return len(answers)


async def snapshots(cache: Cache, ids: Sequence[str]) -> dict[str, bytes]:
    """What stands in Valkey of these applications; nothing while it does not answer."""
    try:
        found = {name: await cache.get(f"credit:status:{name}") for name in ids}
    except CacheUnavailable:
        return {}
    return {name: value for name, value in found.items() if value is not None}
