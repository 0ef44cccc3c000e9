"""The routes of webhook endpoints over real HTTP: what a client sees, and that it sees nothing of others."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.credit_world import ACME, GLOBEX, CreditWorld, Reply, new_key, shared_world

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

ROUTE = "/api/webhook-endpoints"
URL = "https://hooks.example.com/faregate"
FORM = {"url": URL, "event_types": ["credit.decision.finalized"], "description": "decisions"}


async def send(
    world: CreditWorld,
    method: str,
    path: str = "",
    body: Any = None,
    *,
    client: str = ACME,
    key: str | None = None,
) -> Reply:
    """Send a request as a client whose key may manage webhooks."""
    name = f"{client}.webhooks"
    if name not in world.tokens:
        await world.add_key(name, client=client, scopes=["webhooks:manage"])
    headers = {"Idempotency-Key": key or new_key()} if method == "POST" else {}
    if body is not None:
        headers["Content-Type"] = "application/json"
    data = None if body is None else orjson.dumps(body)
    return await world.request(method, ROUTE + path, client=name, headers=headers, data=data)


async def created(world: CreditWorld, *, client: str = ACME, **changes: Any) -> dict[str, Any]:
    reply = await send(world, "POST", body={**FORM, **changes}, client=client)
    assert reply.status == 201, reply.body
    return dict(reply.json)


async def test_a_new_endpoint_shows_its_secret_once(shared_world: CreditWorld) -> None:
    key = new_key()
    first = await send(shared_world, "POST", body=FORM, key=key)
    again = await send(shared_world, "POST", body=FORM, key=key)
    assert (first.status, again.status) == (201, 201)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert first.json["secret"].startswith("whsec_")
    assert again.json == {**first.json, "secret": None}
    shown = await send(shared_world, "GET", f"/{first.json['id']}")
    assert "secret" not in shown.json


async def test_the_secret_stands_nowhere_in_clear(shared_world: CreditWorld) -> None:
    made = await created(shared_world)
    kept = await shared_world.sql("select body from access.idempotency_key")
    assert not [row for row in kept if made["secret"] in row["body"]]


async def test_an_endpoint_is_listed_changed_stopped_and_deleted(shared_world: CreditWorld) -> None:
    made = await created(shared_world)
    path = f"/{made['id']}"
    listed = await send(shared_world, "GET")
    assert made["id"] in [endpoint["id"] for endpoint in listed.json["endpoints"]]
    moved = await send(shared_world, "PATCH", path, {"url": "https://other.example.com/x"})
    assert (moved.status, moved.json["url"]) == (200, "https://other.example.com/x")
    stopped = await send(shared_world, "PATCH", path, {"enabled": False})
    assert stopped.json["disabled_reason"] == "client"
    assert (await send(shared_world, "POST", f"{path}/test")).problem == (409, "endpoint-is-disabled")
    assert (await send(shared_world, "DELETE", path)).status == 204
    assert (await send(shared_world, "GET", path)).problem == (404, "endpoint-not-found")


async def test_a_rotated_secret_is_another_one_and_shown_once(shared_world: CreditWorld) -> None:
    made, key = await created(shared_world), new_key()
    path = f"/{made['id']}/rotate-secret"
    rotated = await send(shared_world, "POST", path, key=key)
    assert rotated.json["secret"] not in {None, made["secret"]}
    assert (await send(shared_world, "POST", path, key=key)).json["secret"] is None


async def test_one_key_used_for_two_endpoints_is_refused(shared_world: CreditWorld) -> None:
    one, other = await created(shared_world), await created(shared_world)
    key = new_key()
    await send(shared_world, "POST", f"/{one['id']}/test", key=key)
    reply = await send(shared_world, "POST", f"/{other['id']}/test", key=key)
    assert reply.problem == (422, "idempotency-key-reused")


async def test_a_test_message_is_listed_page_by_page_and_sent_again(shared_world: CreditWorld) -> None:
    path = f"/{(await created(shared_world))['id']}"
    sent = [(await send(shared_world, "POST", f"{path}/test")).json["message_id"] for _ in range(3)]
    page = await send(shared_world, "GET", f"{path}/deliveries?limit=2")
    rest = await send(shared_world, "GET", f"{path}/deliveries?limit=2&after={page.json['next']}")
    found = [d["message_id"] for d in [*page.json["deliveries"], *rest.json["deliveries"]]]
    assert (found, rest.json["next"]) == (sent[::-1], None)
    again = await send(shared_world, "POST", f"{path}/deliveries/{sent[0]}/resend")
    assert (again.status, again.json["state"]) == (202, "pending")
    unknown = await send(shared_world, "POST", f"{path}/deliveries/msg_0/resend")
    assert unknown.problem == (404, "delivery-not-found")


@pytest.mark.parametrize(
    ("method", "rest", "body"),
    [
        ("GET", "", None),
        ("PATCH", "", {"enabled": False}),
        ("DELETE", "", None),
        ("POST", "/rotate-secret", None),
        ("POST", "/test", None),
        ("GET", "/deliveries", None),
        ("POST", "/deliveries/msg_1/resend", None),
    ],
)
async def test_another_clients_endpoint_is_not_found(
    shared_world: CreditWorld, method: str, rest: str, body: Any
) -> None:
    theirs = await created(shared_world, client=GLOBEX)
    for endpoint_id in (theirs["id"], "whe_0", "whe_%00"):
        reply = await send(shared_world, method, f"/{endpoint_id}{rest}", body)
        assert reply.status == 404
    assert (await send(shared_world, "GET", f"/{theirs['id']}", client=GLOBEX)).json[
        "disabled_reason"
    ] is None


@pytest.mark.parametrize(
    ("changes", "status", "slug"),
    [
        ({"url": "http://hooks.example.com/"}, 400, "endpoint-url-refused"),
        ({"url": "https://169.254.169.254/"}, 400, "endpoint-url-refused"),
        ({"url": "http://127.0.0.1:1/"}, 400, "endpoint-url-refused"),
        ({"event_types": ["credit.unheard.of"]}, 400, "event-type-unknown"),
        ({"event_types": []}, 422, "validation-failed"),
        ({"description": "a\u0000b"}, 422, "validation-failed"),
        ({"secret": "whsec_mine"}, 422, "validation-failed"),
    ],
)
async def test_an_endpoint_that_cannot_be_is_refused(
    shared_world: CreditWorld, changes: dict[str, Any], status: int, slug: str
) -> None:
    reply = await send(shared_world, "POST", body={**FORM, **changes})
    assert reply.problem == (status, slug)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=201", "state=lost", "after=%00"])
async def test_a_page_that_cannot_be_is_refused(shared_world: CreditWorld, query: str) -> None:
    path = f"/{(await created(shared_world, client='initech'))['id']}"
    reply = await send(shared_world, "GET", f"{path}/deliveries?{query}", client="initech")
    assert reply.problem == (422, "validation-failed")


async def test_a_client_has_so_many_endpoints_and_no_more(shared_world: CreditWorld) -> None:
    for _ in range(20):
        await created(shared_world, client="hoarder")
    reply = await send(shared_world, "POST", body=FORM, client="hoarder")
    assert reply.problem == (409, "too-many-endpoints")


async def test_a_key_without_the_scope_may_nothing(shared_world: CreditWorld) -> None:
    reply = await shared_world.request("GET", ROUTE, client=ACME)
    assert reply.problem == (403, "scope-missing")
