"""Polling that costs little: entity tags and 304, one read for all who ask at once, a list of one's own."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import SecretStr

from faregate.credit.contracts import Status
from faregate.credit.store.decisions import record_steps
from faregate.infra.queries import load_queries
from tests.credit_world import (
    ACME,
    APPLICATIONS,
    GLOBEX,
    CreditWorld,
    Reply,
    open_credit_world,
    refused,
    shared_world,
)
from tests.integration.test_credit_reading import decide
from tests.sandbox import until

__all__ = ["shared_world"]

_QUERIES = load_queries("faregate.credit.store")
pytestmark = pytest.mark.asyncio(loop_scope="module")


async def get(world: CreditWorld, path: str, *tags: str, method: str = "GET") -> Reply:
    return await world.request(method, path, headers=[("If-None-Match", tag) for tag in tags])


async def decided(world: CreditWorld) -> str:
    application_id = await world.submitted()
    await decide(world, application_id)
    return application_id


# Entity tags


@pytest.mark.requirement("C19")
@pytest.mark.parametrize("route", ["", "/decision"])
async def test_what_did_not_change_is_not_sent_again(shared_world: CreditWorld, route: str) -> None:
    path = f"{APPLICATIONS}/{await decided(shared_world)}{route}"
    first = await get(shared_world, path)
    again = await get(shared_world, path, first.headers["etag"])
    assert re.fullmatch(r'"[0-9]+(-[0-9a-f]{8})?"', first.headers["etag"])
    assert (again.status, again.body) == (304, b"")
    for reply in (first, again):
        assert reply.headers["cache-control"] == "private, no-cache"
        assert reply.headers["etag"] == first.headers["etag"]
        assert "ratelimit" in reply.headers


@pytest.mark.requirement("C19")
@pytest.mark.parametrize("known", ["weak", "list", "several fields", "any"])
async def test_a_known_tag_is_found_in_every_form(shared_world: CreditWorld, known: str) -> None:
    path = f"{APPLICATIONS}/{await decided(shared_world)}"
    tag = (await get(shared_world, path)).headers["etag"]
    tags = {
        "weak": [f"W/{tag}"],
        "list": [f'"x", "a,b" ,{tag}'],
        "several fields": ['"x"', tag],
        "any": ["*"],
    }[known]
    assert (await get(shared_world, path, *tags)).status == 304


@pytest.mark.parametrize("unknown", ['"999"', '"x"', "2", "W/2", '""', '"\xe9"', '"*"', "*, *", "'2'"])
async def test_another_or_malformed_tag_gets_the_whole_answer(
    shared_world: CreditWorld, unknown: str
) -> None:
    path = f"{APPLICATIONS}/{await decided(shared_world)}"
    assert (await get(shared_world, path, unknown)).status == 200


@pytest.mark.requirement("C19")
async def test_a_change_changes_the_tag_and_a_reader_is_not_taken_back(shared_world: CreditWorld) -> None:
    application_id = await shared_world.submitted()
    path = f"{APPLICATIONS}/{application_id}"
    first = await get(shared_world, path)
    await record_steps(shared_world.connection, {application_id: "moved"}, now=datetime.now(UTC))
    cached = await get(shared_world, path)
    assert first.headers["etag"] == cached.headers["etag"]
    newer = await get(shared_world, path, '"2"')
    assert (newer.status, newer.json["latest_step"]) == (200, "moved")
    assert (await get(shared_world, path, newer.headers["etag"])).status == 304
    assert (await get(shared_world, path, first.headers["etag"])).json["latest_step"] == "moved"


@pytest.mark.requirement("C19")
async def test_a_number_that_was_shown_and_then_undone_does_not_hide_what_came_instead(
    shared_world: CreditWorld,
) -> None:
    """A snapshot can be told before its transaction fails; the next one has the same number and says something else."""
    application_id = await shared_world.submitted()
    path = f"{APPLICATIONS}/{application_id}"
    await decide(shared_world, application_id)
    shown = (await get(shared_world, path)).headers["etag"]
    phantom = re.sub("-[0-9a-f]+", "-00000000", shown)
    assert (await get(shared_world, path, phantom)).json["status"] == "approved"


@pytest.mark.requirement("C8")
async def test_a_further_decision_has_a_tag_of_its_own(shared_world: CreditWorld) -> None:
    application_id = await shared_world.submitted()
    path = f"{APPLICATIONS}/{application_id}/decision"
    await decide(shared_world, application_id, outcome=Status.MANUAL_REVIEW)
    assert (await get(shared_world, path)).headers["etag"] == '"1"'
    await decide(shared_world, application_id, version=2)
    reply = await get(shared_world, path, '"1"')
    assert (reply.status, reply.headers["etag"], reply.json["outcome"]) == (200, '"2"', "approved")


async def test_another_clients_tag_tells_nothing(shared_world: CreditWorld) -> None:
    path = f"{APPLICATIONS}/{await decided(shared_world)}"
    headers = {"If-None-Match": "*"}
    assert (await shared_world.request("GET", path, client=GLOBEX, headers=headers)).status == 404


@pytest.mark.parametrize("route", ["", "/decision"])
async def test_head_is_answered_like_get_without_the_body(shared_world: CreditWorld, route: str) -> None:
    path = f"{APPLICATIONS}/{await decided(shared_world)}{route}"
    full, head = await get(shared_world, path), await get(shared_world, path, method="HEAD")
    assert (head.status, head.body) == (200, b"")
    for name in ("etag", "content-type", "content-length", "cache-control"):
        assert head.headers[name] == full.headers[name]


# One read for all


@pytest.mark.requirement("C19")
async def test_many_who_miss_the_same_snapshot_at_once_share_a_read(shared_world: CreditWorld) -> None:
    nowhere = SecretStr("unix:///nowhere/valkey.sock")
    settings = shared_world.settings.model_copy(update={"valkey_url": nowhere, "admission_delay_s_max": 60.0})
    async with open_credit_world(settings, cache=shared_world.cache) as world:
        await world.add_key("watcher", client="watcher", scopes=["metrics:read"])
        application_id = await world.submitted()
        async with world.connection.transaction():
            await world.sql("lock table credit.application in access exclusive mode")
            polls = [asyncio.create_task(world.status(application_id)) for _ in range(60)]
            await until(lambda: under_way(world), lambda requests: requests == len(polls))
        assert {reply.status for reply in await asyncio.gather(*polls)} == {200}
        reads = await metric(world, 'faregate_database_reads_total{server="primary"}')
        assert 1 <= reads <= 3  # one still asks Valkey now and then whether it is there, and comes late


async def under_way(world: CreditWorld) -> float:
    """How many reads were counted for their client and not answered yet."""
    taken = await metric(world, 'faregate_rate_limit_unshared_total{policy="read"}')
    route = APPLICATIONS + "/{application_id}"
    labels = f'method="GET",route="{route}",status="200"'
    return taken - await metric(world, f"faregate_http_requests_total{{{labels}}}")


async def metric(world: CreditWorld, name: str) -> float:
    text = (await world.request("GET", "/metrics", client="watcher")).body.decode()
    found = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(f"{name} ")]
    return float(found[0]) if found else 0.0


# The list


async def listed(world: CreditWorld, query: str = "", *, client: str = ACME) -> dict[str, Any]:
    reply = await world.request("GET", f"{APPLICATIONS}{query}", client=client)
    assert reply.status == 200, reply.body
    return dict(reply.json)


async def lister(world: CreditWorld, name: str, *, applications: int) -> list[str]:
    """Make a client with so many applications and return their ids, the newest first."""
    await world.add_key(name, client=name, scopes=["credit:submit", "credit:read"])
    return [await world.submitted(client=name) for _ in range(applications)][::-1]


@pytest.mark.requirement("C4")
async def test_a_client_lists_its_own_applications_page_by_page_the_newest_first(
    shared_world: CreditWorld,
) -> None:
    ids = await lister(shared_world, "pages", applications=5)
    found, query = [], "?limit=2"
    while query:
        page = await listed(shared_world, query, client="pages")
        found.append([one["application_id"] for one in page["applications"]])
        query = f"?limit=2&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    assert found == [ids[:2], ids[2:4], ids[4:]]
    assert await listed(shared_world, f"?cursor={ids[-1]}", client="pages") == {
        "applications": [],
        "next_cursor": None,
    }


@pytest.mark.requirement("C4")
async def test_a_list_says_of_each_application_where_it_stands(shared_world: CreditWorld) -> None:
    [application_id] = await lister(shared_world, "one", applications=1)
    decided_at = await decide(shared_world, application_id, outcome=Status.MANUAL_REVIEW)
    [found] = (await listed(shared_world, client="one"))["applications"]
    assert found.keys() == {
        "application_id",
        "product_type",
        "status",
        "latest_step",
        "submitted_at",
        "updated_at",
    }
    assert (found["application_id"], found["status"]) == (application_id, "manual_review")
    assert (found["product_type"], found["updated_at"]) == ("cashback_card", decided_at.isoformat())


async def test_a_list_can_be_of_one_state(shared_world: CreditWorld) -> None:
    ids = await lister(shared_world, "states", applications=4)
    await decide(shared_world, ids[1], outcome=Status.MANUAL_REVIEW)
    await decide(shared_world, ids[3], outcome=Status.MANUAL_REVIEW)
    query = "?status=manual_review&limit=1"
    first = await listed(shared_world, query, client="states")
    second = await listed(shared_world, f"{query}&cursor={first['next_cursor']}", client="states")
    assert [p["applications"][0]["application_id"] for p in (first, second)] == [ids[1], ids[3]]
    assert second["next_cursor"] is None
    assert (await listed(shared_world, "?status=denied", client="states"))["applications"] == []


@pytest.mark.requirement("P3")
async def test_a_list_shows_nothing_of_other_clients(shared_world: CreditWorld) -> None:
    mine = await lister(shared_world, "mine", applications=1)
    others = await lister(shared_world, "others", applications=1)
    for query in ("", f"?cursor={others[0]}", f"?cursor={others[0]}x"):
        found = (await listed(shared_world, query, client="mine"))["applications"]
        assert {one["application_id"] for one in found} <= set(mine)


@pytest.mark.parametrize(
    "query",
    [
        "?limit=0",
        "?limit=201",
        "?limit=x",
        "?limit=",
        "?cursor=",
        "?cursor=a%20b",
        "?cursor=%00",
        "?cursor=" + "a" * 65,
        "?status=lost",
        "?unknown=1",
    ],
)
async def test_a_query_that_is_none_is_refused(shared_world: CreditWorld, query: str) -> None:
    sent = shared_world.request("GET", f"{APPLICATIONS}{query}")
    await refused(shared_world, sent, status=422, slug="validation-failed")


_OTHERS = """
with person as (
  insert into credit.applicant (id, blind_index_key_id, blind_index, created_at)
  values ('per_others', 'k', 'others', now()) returning id)
insert into credit.application (
  id, client_id, applicant_id, idempotency_key, product_type, annual_income, age_years, identity_encrypted,
  deadline_at, submitted_at, updated_at)
select 'app_' || lpad(n::text, 26, '0'), 'others', person.id, n::text, 'card', 1, 30, 'x', now(), now(), now()
from person, generate_series(1, 20000) n
"""


@pytest.mark.requirement("C4")
async def test_a_page_costs_the_same_however_many_applications_are_not_on_it(
    shared_world: CreditWorld,
) -> None:
    async with shared_world.connection.transaction(force_rollback=True):
        await shared_world.sql(_OTHERS)
        await shared_world.sql("analyze credit.application")
        for before_id in ("app_" + "Z" * 27, "app_" + "15000".zfill(26)):
            [plan] = await shared_world.sql(
                "explain (analyze, buffers, format json) " + _QUERIES["applications_of_client"],
                client_id="others",
                statuses=[Status.MANUAL_REVIEW],  # in which none of them stands
                before_id=before_id,
                limit=51,
            )
            assert plan["QUERY PLAN"][0]["Plan"]["Shared Hit Blocks"] <= 20
