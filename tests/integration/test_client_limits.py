"""Limits of clients over real HTTP: the header fields, what is refused and when, and who shares a bucket."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from faregate.infra.embedded import servers_of
from faregate.infra.embedded.valkey import ValkeyServer
from faregate.infra.http.client_limits import PolicyUnknown, policy_item, set_client_limit
from faregate.infra.rate import Rate
from tests.credit_world import (
    ACME,
    APPLICATIONS,
    FORM,
    GLOBEX,
    CreditWorld,
    Reply,
    new_form,
    new_key,
    open_credit_world,
    shared_world,
)
from tests.sandbox import until
from tests.servers import Breakable

__all__ = ["shared_world"]

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.requirement("C24")]

STILL = 0.001
_POLICY = re.compile(r'"(submit|read)";q=([0-9]+);w=([1-9][0-9]*)')
_LIMIT = re.compile(r'"(submit|read)";r=([0-9]+);t=([1-9][0-9]*)')


async def client(world: CreditWorld, name: str, **rates: Rate) -> str:
    """Make a client with limits of its own, and return the name of its key."""
    for policy, rate in rates.items():
        await set_client_limit(
            world.connection, client_id=name, policy=policy, rate=rate, now=datetime.now(UTC)
        )
    await world.add_key(name, client=name, scopes=["credit:submit", "credit:read"])
    return name


def told(reply: Reply) -> tuple[str, int, int]:
    """Policy, requests left and seconds of an answer; its policy field must belong to it."""
    limit = _LIMIT.fullmatch(reply.headers["ratelimit"])
    policy = _POLICY.fullmatch(reply.headers["ratelimit-policy"])
    assert limit, reply.headers["ratelimit"]
    assert policy, reply.headers["ratelimit-policy"]
    assert limit[1] == policy[1]
    assert int(limit[2]) <= int(policy[2])
    return limit[1], int(limit[2]), int(limit[3])


async def test_each_answer_tells_its_caller_what_is_left(shared_world: CreditWorld) -> None:
    name = await client(
        shared_world, "told", submit=Rate(per_s=STILL, burst=9), read=Rate(per_s=STILL, burst=5)
    )
    accepted = await shared_world.submit(client=name)
    path = f"{APPLICATIONS}/{accepted.json['application_id']}"
    reads = [await shared_world.request("GET", p, client=name) for p in (path, path + "/decision", "/x")]
    invalid = await shared_world.submit({}, client=name)
    assert (accepted.status, told(accepted)[:2]) == (202, ("submit", 8))
    assert (invalid.status, told(invalid)[:2]) == (422, ("submit", 7))
    assert [(r.status, told(r)[:2]) for r in reads[:2]] == [(200, ("read", 4)), (404, ("read", 3))]
    assert "ratelimit" not in reads[2].headers


@pytest.mark.parametrize("bad_client", [None, "watcher"])
async def test_who_may_not_call_is_told_of_no_limit(shared_world: CreditWorld, bad_client: str) -> None:
    await shared_world.add_key("watcher", client="watcher", scopes=["metrics:read"])
    reply = await shared_world.submit(client=bad_client)
    assert reply.status in {401, 403}
    assert not [name for name in reply.headers if name.lower().startswith("ratelimit")]


async def test_above_the_limit_requests_get_429_and_leave_nothing(shared_world: CreditWorld) -> None:
    name = await client(shared_world, "hasty", submit=Rate(per_s=0.5, burst=2))
    assert [(await shared_world.submit(client=name)).status for _ in range(2)] == [202, 202]
    key = new_key()
    async with shared_world.unchanged():
        refused = await shared_world.submit(client=name, key=key)
    assert refused.problem == (429, "rate-limited")
    assert refused.json["violated-policies"] == ["submit"]
    assert refused.headers["ratelimit-policy"] == '"submit";q=2;w=4'
    policy, left, seconds = told(refused)
    assert (policy, left) == ("submit", 0)
    assert 1 <= seconds <= int(refused.headers["retry-after"]) <= 2


async def test_a_known_key_is_answered_above_the_limit_too(shared_world: CreditWorld) -> None:
    name, form, key = await client(shared_world, "again", submit=Rate(per_s=STILL, burst=1)), new_form(), "k"
    first = await shared_world.submit(form, key=key, client=name)
    replay = await shared_world.submit(form, key=key, client=name)
    other = await shared_world.submit(new_form(), key=key, client=name)
    fresh = await shared_world.submit(form, key="fresh", client=name)
    assert (replay.status, replay.body) == (202, first.body)
    assert replay.headers["idempotent-replayed"] == "true"
    assert other.problem == (422, "idempotency-key-reused")
    assert fresh.problem == (429, "rate-limited")


async def test_what_cannot_be_a_request_is_refused_before_it_is_counted(shared_world: CreditWorld) -> None:
    name = await client(shared_world, "broken", submit=Rate(per_s=STILL, burst=1))
    replies = [
        await shared_world.submit(b"{", client=name),
        await shared_world.submit(FORM, client=name, **{"Content-Type": "text/plain"}),
        await shared_world.submit(FORM, client=name, key='"'),
    ]
    assert [(reply.status, "ratelimit" in reply.headers) for reply in replies] == [
        (400, False),
        (415, False),
        (400, False),
    ]
    assert (await shared_world.submit(client=name)).status == 202


async def test_reads_and_submissions_and_clients_have_buckets_of_their_own(shared_world: CreditWorld) -> None:
    one = Rate(per_s=STILL, burst=1)
    name = await client(shared_world, "both", submit=one, read=one)
    application_id = await shared_world.submitted(client=name)
    assert (await shared_world.submit(client=name)).status == 429
    assert (await shared_world.status(application_id, client=name)).status == 200
    over = [
        await shared_world.status(application_id, client=name),
        await shared_world.decision(application_id, client=name),
        await shared_world.request("GET", APPLICATIONS, client=name),
    ]
    assert [reply.problem for reply in over] == [(429, "rate-limited")] * 3
    assert (await shared_world.submit(client=GLOBEX)).status == 202


async def test_two_api_processes_share_a_clients_bucket(shared_world: CreditWorld) -> None:
    name = await client(shared_world, "spread", submit=Rate(per_s=STILL, burst=10))
    async with open_credit_world(shared_world.settings, cache=shared_world.cache) as second:
        second.tokens[name] = shared_world.tokens[name]
        statuses = [
            (await world.submit(client=name)).status for _ in range(10) for world in (shared_world, second)
        ]
    assert (statuses.count(202), statuses.count(429)) == (10, 10)


async def test_clients_without_own_limit_get_that_of_the_settings(shared_world: CreditWorld) -> None:
    settings = shared_world.settings.model_copy(update={"submit_rate_per_s": 7.0, "submit_burst": 70})
    async with open_credit_world(settings, cache=shared_world.cache) as world:
        reply = await world.submit(client=ACME)
    assert reply.headers["ratelimit-policy"] == '"submit";q=70;w=10'


async def test_a_new_limit_holds_as_soon_as_the_key_is_looked_up_again(shared_world: CreditWorld) -> None:
    name = await client(shared_world, "grown", read=Rate(per_s=1, burst=3))

    async def quota() -> str:
        return (await shared_world.request("GET", f"{APPLICATIONS}/x", client=name)).headers[
            "ratelimit-policy"
        ]

    assert await quota() == '"read";q=3;w=3'
    await set_client_limit(
        shared_world.connection,
        client_id=name,
        policy="read",
        rate=Rate(per_s=50, burst=100),
        now=datetime.now(UTC),
    )
    await until(quota, lambda found: found == '"read";q=100;w=2')


@pytest.fixture(scope="module")
def own_valkey() -> Iterator[ValkeyServer]:
    with tempfile.TemporaryDirectory(prefix="faregate-valkey-") as folder:
        _, valkey = servers_of(Path(folder), end_with_us=True)
        valkey.ensure_running()
        yield valkey
        valkey.stop()


@pytest.mark.requirement("C28")
async def test_without_valkey_a_client_is_still_limited_and_still_served(
    shared_world: CreditWorld, own_valkey: ValkeyServer
) -> None:
    name = await client(shared_world, "outage", submit=Rate(per_s=STILL, burst=40))
    await shared_world.add_key("watcher", client="watcher", scopes=["metrics:read"])
    url = SecretStr(f"unix://{own_valkey.socket}")
    settings = shared_world.settings.model_copy(update={"valkey_url": url})
    async with open_credit_world(settings, cache=shared_world.cache) as world:
        world.tokens.update({key: shared_world.tokens[key] for key in (name, "watcher")})
        assert (await world.submit(client=name)).status == 202
        Breakable(own_valkey).kill9()
        statuses = [(await world.submit(client=name)).status for _ in range(60)]
        assert set(statuses) == {202, 429}
        assert 20 <= statuses.count(202) <= 39
        metrics = (await world.request("GET", "/metrics", client="watcher")).body.decode()
    assert re.search(r'faregate_rate_limit_unshared_total\{policy="submit"\} [1-9]', metrics)
    assert re.search(r'faregate_rate_limited_total\{policy="submit"\} [1-9]', metrics)


@pytest.mark.parametrize(
    ("rate", "item"),
    [
        (Rate(per_s=10, burst=100), '"submit";q=100;w=10'),
        (Rate(per_s=0.3, burst=1), '"submit";q=1;w=4'),
        (Rate(per_s=1e6, burst=1), '"submit";q=1;w=1'),
    ],
)
async def test_a_policy_is_told_in_whole_seconds(rate: Rate, item: str) -> None:
    assert policy_item("submit", rate) == item


async def test_a_limit_of_an_unknown_policy_is_refused(shared_world: CreditWorld) -> None:
    with pytest.raises(PolicyUnknown):
        await client(shared_world, "odd", write=Rate(per_s=1, burst=1))


async def test_webhook_endpoints_are_managed_within_the_same_limits(shared_world: CreditWorld) -> None:
    one = Rate(per_s=STILL, burst=1)
    for policy in ("read", "submit"):
        await set_client_limit(
            shared_world.connection, client_id="hooked", policy=policy, rate=one, now=datetime.now(UTC)
        )
    await shared_world.add_key("hooked", client="hooked", scopes=["webhooks:manage"])
    reads = [await shared_world.request("GET", "/api/webhook-endpoints", client="hooked") for _ in range(2)]
    gone = "/api/webhook-endpoints/whe_none"
    changes = [await shared_world.request("DELETE", gone, client="hooked") for _ in range(2)]
    assert [(r.status, told(r)[0]) for r in reads] == [(200, "read"), (429, "read")]
    assert [(r.status, told(r)[0]) for r in changes] == [(404, "submit"), (429, "submit")]
