"""One idempotency key, one application, one answer: over real HTTP, at once, afterwards and across clients."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg
import pytest

from faregate.infra.http.idempotency import fingerprint
from faregate.infra.http.idempotency_store import (
    Attempt,
    KeyScope,
    StoredResponse,
    check_attempts,
    prune_keys,
    save_responses,
)
from tests.credit_world import (
    ACME,
    APPLICATIONS,
    FORM,
    GLOBEX,
    CreditWorld,
    changed,
    new_form,
    new_key,
    open_credit_world,
    refused,
    shared_world,
)
from tests.sandbox import until

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"


@pytest.mark.requirement("C21")
@pytest.mark.requirement("C28")
async def test_one_key_sent_fifty_times_at_once_and_fifty_times_after_is_one_application(
    shared_world: CreditWorld,
) -> None:
    before = (await shared_world.counts())["credit.application"]
    form, key = new_form(), new_key()
    crowd = await asyncio.gather(*(shared_world.submit(form, key=key) for _ in range(50)))
    [first] = [r for r in crowd if r.status == 202 and "idempotent-replayed" not in r.headers]
    for reply in crowd:
        if reply.status == 202:
            assert reply.body == first.body
        else:
            assert reply.problem == (409, "request-in-flight")
            assert reply.headers["retry-after"] == "1"
    for _ in range(50):
        again = await shared_world.submit(form, key=key)
        assert (again.status, again.body, again.headers["location"]) == (
            *(202, first.body, first.headers["location"]),
        )
        assert again.headers["idempotent-replayed"] == "true"
    assert (await shared_world.counts())["credit.application"] == before + 1


@pytest.mark.requirement("C21")
@pytest.mark.parametrize(
    ("clients", "slug"), [((ACME,), "application-exists"), ((ACME, GLOBEX), "key-used-elsewhere")]
)
async def test_many_at_once_for_one_applicant_make_one_application(
    shared_world: CreditWorld, clients: tuple[str, ...], slug: str
) -> None:
    form, key = new_form(), new_key()
    submissions = [
        shared_world.submit(form, client=clients[n % len(clients)], key=key if len(clients) > 1 else None)
        for n in range(20)
    ]
    replies = await asyncio.gather(*submissions)
    ids = {reply.json["application_id"] for reply in replies if reply.status == 202}
    refusals = {reply.problem[1] for reply in replies if reply.status != 202}
    assert len(ids) == 1
    assert slug in refusals <= {slug, "request-in-flight"}


@pytest.mark.requirement("C21")
async def test_a_repeated_request_may_be_written_differently(shared_world: CreditWorld) -> None:
    form, key = new_form(), new_key()
    first = await shared_world.submit(form, key=key)
    reordered = json.dumps({name: form[name] for name in reversed(form)}, indent=3).encode()
    again = await shared_world.submit(reordered, key=f'"{key}"')
    assert (again.body, again.headers["idempotent-replayed"]) == (first.body, "true")


OTHER_BODIES: Mapping[str, Any] = {
    "another amount": lambda form: orjson.dumps(changed(form, amount=form["amount"] + 1)),
    "another person": lambda _: orjson.dumps(new_form()),
    "a bad amount": lambda form: orjson.dumps(changed(form, amount=-1)),
    "an unknown field": lambda form: orjson.dumps(changed(form, colour="red")),
    "no object": lambda _: b"[]",
}


@pytest.mark.requirement("C21")
@pytest.mark.parametrize("case", OTHER_BODIES)
async def test_a_known_key_with_another_body_is_refused_without_the_first_answer(
    shared_world: CreditWorld, case: str
) -> None:
    form, key = new_form(), new_key()
    first = await shared_world.submit(form, key=key)
    sent = shared_world.submit(OTHER_BODIES[case](form), key=key)
    reply = await refused(shared_world, sent, status=422, slug="idempotency-key-reused")
    assert first.json["application_id"].encode() not in reply.body
    assert (await shared_world.submit(form, key=key)).body == first.body


@pytest.mark.requirement("C21")
async def test_a_known_key_is_answered_even_if_its_body_would_be_refused_by_now(
    shared_world: CreditWorld,
) -> None:
    body, key = changed(FORM, dob="2999-01-01"), new_key()
    attempt = Attempt(
        KeyScope(ACME, "POST", APPLICATIONS, key), fingerprint(method="POST", route=APPLICATIONS, body=body)
    )
    answer = StoredResponse(202, b'{"application_id":"app_of_old"}', (("content-type", JSON),))
    async with shared_world.connection.transaction():
        await check_attempts(shared_world.connection, [attempt])
        await save_responses(shared_world.connection, [(attempt, answer)], now=datetime.now(UTC))
    async with shared_world.unchanged():
        reply = await shared_world.submit(body, key=key)
    assert (reply.status, reply.body, reply.headers["idempotent-replayed"]) == (202, answer.body, "true")


@pytest.mark.requirement("C21")
@pytest.mark.parametrize("body", [new_form(), changed(FORM, amount=-1)])
async def test_a_key_that_is_in_flight_elsewhere_is_a_409_with_a_time_to_wait(
    shared_world: CreditWorld, body: Any
) -> None:
    key = new_key()
    attempt = Attempt(KeyScope(ACME, "POST", APPLICATIONS, key), bytes(32))
    async with shared_world.connection.transaction():
        await check_attempts(shared_world.connection, [attempt])  # as another process would, for as long
        sent = shared_world.submit(body, key=key)
        reply = await refused(shared_world, sent, status=409, slug="request-in-flight")
    assert reply.headers["retry-after"] == "1"
    assert (await shared_world.submit(key=key)).status == 202


@pytest.mark.requirement("C21")
async def test_the_key_of_another_client_is_another_key(shared_world: CreditWorld) -> None:
    key = new_key()
    mine, yours = [await shared_world.submit(key=key, client=client) for client in (ACME, GLOBEX)]
    assert (mine.status, yours.status) == (202, 202)
    assert mine.json["application_id"] != yours.json["application_id"]
    assert "idempotent-replayed" not in yours.headers


@pytest.mark.requirement("C21")
async def test_the_same_applicant_and_key_at_another_client_is_a_409_without_the_id(
    shared_world: CreditWorld,
) -> None:
    form, key = new_form(), new_key()
    first = await shared_world.submit(form, key=key, client=ACME)
    reply = await shared_world.submit(form, key=key, client=GLOBEX)
    assert reply.problem == (409, "key-used-elsewhere")
    assert first.json["application_id"].encode() not in reply.body
    assert (await shared_world.submit(form, client=GLOBEX)).status == 202


@pytest.mark.requirement("C21")
async def test_a_second_application_for_the_same_product_is_a_409_with_the_first_ones_id(
    shared_world: CreditWorld,
) -> None:
    form = new_form()
    application_id = await shared_world.submitted(form)
    other, key = changed(form, amount=form["amount"] + 1), new_key()
    reply = await shared_world.submit(other, key=key)
    assert reply.problem == (409, "application-exists")
    assert reply.json["application_id"] == application_id
    assert "retry-after" not in reply.headers
    again = await shared_world.submit(other, key=key)
    assert (again.status, again.body, again.headers["idempotent-replayed"]) == (409, reply.body, "true")
    assert (await shared_world.submit(form, key=key)).problem == (422, "idempotency-key-reused")
    assert (await shared_world.submit(changed(form, product_type="travel_card"))).status == 202


@pytest.mark.requirement("C21")
async def test_after_the_window_the_same_person_may_apply_again(shared_world: CreditWorld) -> None:
    form = new_form()
    application_id = await shared_world.submitted(form)
    await shared_world.sql(
        "update credit.application set submitted_at = submitted_at - interval '30 days' where id = %(id)s",
        id=application_id,
    )
    assert (await shared_world.submit(form)).json["application_id"] != application_id


@pytest.mark.requirement("C21")
async def test_after_its_answer_was_forgotten_a_key_still_leads_to_its_application_by_id(
    shared_world: CreditWorld,
) -> None:
    form, key = new_form(), new_key()
    first = await shared_world.submit(form, key=key)
    await prune_keys(shared_world.connection, now=datetime.now(UTC) + timedelta(days=31))
    late = await shared_world.submit(form, key=key)
    assert late.problem == (409, "application-exists")
    assert late.json["application_id"] == first.json["application_id"]
    with pytest.raises(psycopg.errors.UniqueViolation, match="one_application_per_key"):
        await shared_world.sql(
            'insert into credit.application select (jsonb_populate_record(a, \'{"id": "app_2"}\')).*'
            " from credit.application a where id = %(id)s",
            id=first.json["application_id"],
        )


@pytest.mark.requirement("C21")
@pytest.mark.requirement("C28")
async def test_a_request_that_ran_out_of_time_is_answered_when_it_is_sent_again(
    shared_world: CreditWorld,
) -> None:
    impatient = shared_world.settings.model_copy(update={"request_time_s_max": 0.3})
    before = (await shared_world.counts())["credit.application"]
    form, key = new_form(), new_key()
    async with open_credit_world(impatient, cache=shared_world.cache) as world:
        async with shared_world.connection.transaction():
            await shared_world.sql("lock table credit.application")
            timed_out = await world.submit(form, key=key)
            meanwhile = await world.submit(form, key=key)
        assert timed_out.problem == (503, "request-timed-out")
        assert timed_out.headers["retry-after"] == "1"
        assert meanwhile.problem == (409, "request-in-flight")
        reply = await until(lambda: world.submit(form, key=key), lambda reply: reply.status == 202)
        assert (await world.status(reply.json["application_id"])).status == 200
        assert (await world.counts())["credit.application"] == before + 1


@pytest.mark.requirement("C21")
@pytest.mark.requirement("C28")
async def test_a_client_that_hung_up_gets_its_answer_when_it_comes_back(shared_world: CreditWorld) -> None:
    before = (await shared_world.counts())["credit.application"]
    form, key = new_form(), new_key()
    async with shared_world.connection.transaction():
        await shared_world.sql("lock table credit.application")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(shared_world.submit(form, key=key), 0.2)
    reply = await until(lambda: shared_world.submit(form, key=key), lambda reply: reply.status == 202)
    assert (await shared_world.status(reply.json["application_id"])).status == 200
    assert (await shared_world.counts())["credit.application"] == before + 1
