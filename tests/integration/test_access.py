"""API keys and idempotency keys on a real database, and both together over real HTTP."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import aiohttp
import orjson
import psycopg
import pytest
from fastapi import Depends
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection, Database
from faregate.infra.http.api_keys import (
    ApiKeyNotFound,
    ScopeMalformed,
    create_api_key,
    list_api_keys,
    revoke_api_key,
)
from faregate.infra.http.app import create_app
from faregate.infra.http.authentication import OUTAGE_S, Authenticator, Caller
from faregate.infra.http.body import read_json
from faregate.infra.http.idempotency_store import (
    AnswerNotStorable,
    Attempt,
    Fresh,
    InFlight,
    KeyScope,
    Replay,
    Reused,
    StoredResponse,
    check_attempts,
    prune_keys,
    save_responses,
)
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.infra.http.routing import make_router
from tests.integration.http_world import OrderClosed, client_of

OpenDatabase = Callable[[str], Awaitable[Database]]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
ONE = Attempt(KeyScope("partner", "POST", "/orders", "k1"), b"f" * 32)
ANSWER = StoredResponse(
    202, '{"name":"Zoë","n":"\\u0000"}'.encode(), (("content-type", "application/json"), ("x", "1"))
)


class Hands:
    """A clock that tests move by hand, in seconds."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
async def access(open_database: OpenDatabase) -> Database:
    return await open_database("access")


@pytest.fixture
async def credit(open_database: OpenDatabase) -> Database:
    return await open_database("credit")


async def new_token(access: Database, *scopes: str, client_id: str = "partner") -> str:
    async with access.transaction() as connection:
        return (await create_api_key(connection, client_id=client_id, scopes=scopes, now=NOW)).token


def with_token(token: str, *, header: str = "Authorization", prefix: str = "Bearer ") -> Request:
    return Request({"type": "http", "headers": [(header.lower().encode(), (prefix + token).encode())]})


async def status_of(authenticator: Authenticator, request: Request) -> int:
    """200 for a caller, or the status of the refusal."""
    from faregate.infra.http.problems import status_of as status
    from faregate.kernel.errors import FaregateError

    try:
        await authenticator.caller(request)
    except FaregateError as error:
        return status(type(error))
    return 200


async def finish(database: Database, attempt: Attempt, response: StoredResponse = ANSWER) -> None:
    async with database.transaction() as connection:
        assert await check_attempts(connection, [attempt]) == [Fresh()]
        await save_responses(connection, [(attempt, response)], now=NOW)


async def state_of(database: Database, attempt: Attempt) -> object:
    async with database.transaction() as connection:
        [state] = await check_attempts(connection, [attempt])
    return state


@pytest.mark.requirement("P3")
async def test_the_secret_of_a_key_is_not_in_the_database(access: Database) -> None:
    token = await new_token(access, "credit:read")
    async with access.connection() as connection:
        rows = await (await connection.execute("select k::text as text from access.api_key k")).fetchall()
    secret = token.split("_")[2]
    assert secret not in str(rows)
    assert len(secret) == 64


@pytest.mark.parametrize(
    ("header", "prefix"), [("Authorization", "Bearer "), ("Authorization", "bearer "), ("X-Api-Key", "")]
)
async def test_a_key_is_taken_from_either_header(access: Database, header: str, prefix: str) -> None:
    token = await new_token(access, "credit:read", "credit:submit")
    caller = await Authenticator(database=access).caller(with_token(token, header=header, prefix=prefix))
    assert caller == Caller("partner", frozenset({"credit:read", "credit:submit"}))


@pytest.mark.requirement("P3")
async def test_a_wrong_or_missing_key_is_401(access: Database) -> None:
    token = await new_token(access, "credit:read")
    authenticator = Authenticator(database=access)
    wrong = [
        token[:-1] + ("0" if token[-1] != "0" else "1"),
        f"fg_{'0' * 16}_{'0' * 64}",
        token + "0",
        "",
        "x",
        "fg__",
    ]
    for candidate in wrong:
        assert await status_of(authenticator, with_token(candidate)) == 401
    assert await status_of(authenticator, with_token(token, prefix="Basic ")) == 401
    assert await status_of(authenticator, with_token(token)) == 200


@pytest.mark.requirement("P3")
async def test_a_revoked_key_stops_working_within_five_seconds(access: Database) -> None:
    clock, token = Hands(), await new_token(access, "credit:read")
    authenticator = Authenticator(database=access, monotonic=clock)
    assert await status_of(authenticator, with_token(token)) == 200
    async with access.transaction() as connection:
        await revoke_api_key(connection, key_id=token.split("_")[1], now=NOW)
    assert await status_of(authenticator, with_token(token)) == 200
    clock.now_s = 4.9
    assert await status_of(authenticator, with_token(token)) == 401


@asynccontextmanager
async def unreachable(database: Database) -> AsyncIterator[None]:
    """Let every look-up in a pool wait for the length of the block: all of its connections are taken."""
    async with AsyncExitStack() as stack:
        for _ in range(database.statistics["pool_max"]):
            await stack.enter_async_context(database.connection())
        yield


@pytest.mark.requirement("C19")
async def test_a_key_that_was_good_goes_on_for_a_minute_while_the_database_does_not_answer(
    open_database: Any,
) -> None:
    access, clock = await open_database("access", connections_max=1), Hands()
    known = with_token(await new_token(access, "credit:read"))
    authenticator = Authenticator(database=access, monotonic=clock)
    assert await status_of(authenticator, known) == 200
    async with unreachable(access):
        for clock.now_s in (5.0, 30.0, OUTAGE_S):
            assert await status_of(authenticator, known) == 200
        clock.now_s = OUTAGE_S + 1
        assert await status_of(authenticator, known) == 503
    assert await status_of(authenticator, known) == 200


async def test_many_requests_with_one_key_cost_one_look_up(access: Database) -> None:
    token = await new_token(access, "credit:read")
    authenticator = Authenticator(database=access)
    before = access.statistics.get("requests_num", 0)
    callers = await asyncio.gather(*(authenticator.caller(with_token(token)) for _ in range(100)))
    assert len(set(callers)) == 1
    assert access.statistics["requests_num"] - before == 1


async def test_keys_are_listed_without_secrets_and_revoked_once(access: Database) -> None:
    token = await new_token(access, "credit:read")
    key_id = token.split("_")[1]
    async with access.transaction() as connection:
        first = await revoke_api_key(connection, key_id=key_id, now=NOW)
        again = await revoke_api_key(connection, key_id=key_id, now=NOW + timedelta(days=1))
        [listed] = await list_api_keys(connection)
    assert first == again == listed.revoked_at == NOW
    assert (listed.id, listed.client_id, listed.scopes) == (key_id, "partner", frozenset({"credit:read"}))


async def test_an_unknown_key_cannot_be_revoked(access: Database) -> None:
    async with access.connection() as connection:
        with pytest.raises(ApiKeyNotFound):
            await revoke_api_key(connection, key_id="0" * 16, now=NOW)


async def test_a_strange_scope_is_refused(access: Database) -> None:
    async with access.connection() as connection:
        with pytest.raises(ScopeMalformed):
            await create_api_key(connection, client_id="x", scopes=["Everything!"], now=NOW)


async def test_another_role_cannot_read_keys_or_stored_answers(credit: Database) -> None:
    for table in ("access.api_key", "access.idempotency_key"):
        async with credit.connection() as connection:
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                await connection.execute(f"select * from {table}".encode())


@pytest.mark.requirement("C11")
async def test_a_finished_request_is_replayed_byte_for_byte(credit: Database) -> None:
    await finish(credit, ONE)
    assert await state_of(credit, ONE) == Replay(ANSWER)


async def test_the_same_key_with_another_fingerprint_is_reused(credit: Database) -> None:
    await finish(credit, ONE)
    assert await state_of(credit, replace(ONE, fingerprint=b"g" * 32)) == Reused()


@pytest.mark.parametrize(
    "change", [{"client_id": "other"}, {"method": "PUT"}, {"route": "/x"}, {"key": "k2"}, {"key": 'k"1\\'}]
)
async def test_another_client_method_route_or_key_is_another_scope(
    credit: Database, change: dict[str, Any]
) -> None:
    await finish(credit, ONE)
    assert await state_of(credit, replace(ONE, scope=replace(ONE.scope, **change))) == Fresh()


async def test_a_request_in_flight_elsewhere_is_seen_without_waiting(credit: Database) -> None:
    async with credit.transaction() as first:
        assert await check_attempts(first, [ONE]) == [Fresh()]
        assert await state_of(credit, ONE) == InFlight()
    assert await state_of(credit, ONE) == Fresh()


async def test_a_batch_is_answered_in_order_and_a_scope_twice_in_it_is_fresh_once(credit: Database) -> None:
    await finish(credit, ONE)
    two, three = (replace(ONE, scope=replace(ONE.scope, key=key)) for key in ("k2", "k3"))
    other = replace(ONE, fingerprint=b"g" * 32)
    async with credit.transaction() as connection:
        states = await check_attempts(connection, [two, ONE, two, other, three])
        await save_responses(connection, [(two, ANSWER), (three, ANSWER)], now=NOW)
    assert states == [Fresh(), Replay(ANSWER), InFlight(), Reused(), Fresh()]
    assert await state_of(credit, three) == Replay(ANSWER)


async def test_an_empty_batch_is_no_work(credit: Database) -> None:
    async with credit.transaction() as connection:
        assert await check_attempts(connection, []) == []
        await save_responses(connection, [], now=NOW)


async def test_work_that_was_rolled_back_leaves_the_key_fresh(credit: Database) -> None:
    async def work_and_fail() -> None:
        async with credit.transaction() as connection:
            await check_attempts(connection, [ONE])
            await save_responses(connection, [(ONE, ANSWER)], now=NOW)
            raise OrderClosed("no")

    with pytest.raises(OrderClosed):
        await work_and_fail()
    assert await state_of(credit, ONE) == Fresh()


async def test_of_many_at_once_only_one_is_fresh_and_none_works_twice(open_database: Any) -> None:
    credit = await open_database("credit", connections_max=20)

    async def attempt() -> object:
        async with credit.transaction() as connection:
            [state] = await check_attempts(connection, [ONE])
            if state == Fresh():
                await save_responses(connection, [(ONE, ANSWER)], now=NOW)
        return state

    states = await asyncio.gather(*(attempt() for _ in range(60)))
    assert states.count(Fresh()) == 1
    assert all(state in (Fresh(), InFlight(), Replay(ANSWER)) for state in states)


async def test_keys_are_forgotten_after_thirty_days(credit: Database) -> None:
    await finish(credit, ONE)
    async with credit.transaction() as connection:
        assert await prune_keys(connection, now=NOW + timedelta(days=30)) == 0
        assert await prune_keys(connection, now=NOW + timedelta(days=30, seconds=1)) == 1
    assert await state_of(credit, ONE) == Fresh()


@pytest.mark.parametrize("status", [401, 403, 413, 415, 429, 500, 503, 102])
def test_an_answer_that_ends_nothing_is_never_kept(status: int) -> None:
    with pytest.raises(AnswerNotStorable):
        StoredResponse(status, b"")


@pytest.fixture
async def shop(
    access: Database, credit: Database
) -> AsyncIterator[Callable[..., Awaitable[aiohttp.ClientResponse]]]:
    """A route that answers once, and a function that sends it a body under a key."""
    authenticator, router = Authenticator(database=access), make_router()
    submit, once = authenticator.require("credit:submit"), AnswerOnce(database=credit, clock=SystemClock())

    async def work(_: Connection) -> StoredResponse:
        body = orjson.dumps({"order_id": os.urandom(4).hex()})
        return StoredResponse(202, body, (("content-type", "application/json"), ("location", "/orders/1")))

    @router.post("/orders/{shop}")
    async def order(request: Request) -> Response:
        caller = await submit(request)
        body = await read_json(request)
        if body.get("closed"):
            raise OrderClosed("the shop is closed")
        return await once(request, caller=caller, body=body, work=work)

    @router.get("/me")
    async def me(caller: Caller = Depends(authenticator.require("credit:read"))) -> str:  # noqa: B008
        return caller.client_id

    tokens = {name: await new_token(access, "credit:submit", client_id=name) for name in ("alice", "bob")}
    async with client_of(create_app(title="Shop", version="1", routers=[router])) as client:

        async def send(
            body: Any,
            *,
            key: str | None = "k1",
            who: str = "alice",
            path: str = "/orders/1",
            method: str = "POST",
        ) -> aiohttp.ClientResponse:
            headers = {"Authorization": f"Bearer {tokens.get(who, '')}"}
            headers |= {"Idempotency-Key": key} if key is not None else {}
            answer = await client.request(method, path, json=body, headers=headers)
            await answer.read()
            return answer

        yield send


Send = Callable[..., Awaitable[aiohttp.ClientResponse]]


@pytest.mark.requirement("C11")
async def test_a_retry_over_http_gets_the_first_answer_marked_as_a_replay(shop: Send) -> None:
    first, again = await shop({"n": 1}), await shop({"n": 1}, key='"k1"')
    assert (first.status, await first.read()) == (again.status, await again.read())
    assert first.headers["location"] == again.headers["location"]
    assert "idempotent-replayed" not in first.headers
    assert again.headers["idempotent-replayed"] == "true"


async def test_the_same_key_with_another_amount_is_422_and_returns_nothing_of_the_first(shop: Send) -> None:
    first, other = await shop({"n": 1}), await shop({"n": 2})
    assert other.status == 422
    assert (await other.json(content_type=None))["type"] == "/problems/idempotency-key-reused"
    assert (await first.json())["order_id"] not in await other.text()


async def test_another_clients_key_is_a_key_of_its_own(shop: Send) -> None:
    alice, bob = await shop({"n": 1}), await shop({"n": 1}, who="bob")
    assert (alice.status, bob.status) == (202, 202)
    assert await alice.read() != await bob.read()


async def test_after_a_refusal_the_corrected_body_may_use_the_same_key(shop: Send) -> None:
    refused, corrected = await shop({"closed": True}), await shop({"n": 1})
    assert (refused.status, corrected.status) == (409, 202)


@pytest.mark.parametrize("key", [None, "x" * 1000, "a b", ""])
async def test_a_missing_or_malformed_key_is_400(shop: Send, key: str | None) -> None:
    assert (await shop({"n": 1}, key=key)).status == 400


@pytest.mark.requirement("P3")
async def test_without_a_key_it_is_401_and_with_the_wrong_scope_403(shop: Send) -> None:
    nobody, wrong_scope = await shop({"n": 1}, who="nobody"), await shop(None, path="/me", method="GET")
    assert (nobody.status, wrong_scope.status) == (401, 403)
    assert nobody.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.requirement("C11")
async def test_fifty_at_once_do_the_work_once(shop: Send) -> None:
    answers = await asyncio.gather(*(shop({"n": 1}) for _ in range(50)))
    done = {await answer.read() for answer in answers if answer.status == 202}
    in_flight = [answer for answer in answers if answer.status == 409]
    assert len(done) == 1
    assert all(answer.headers["retry-after"] == "1" for answer in in_flight)
    assert {answer.status for answer in answers} <= {202, 409}
