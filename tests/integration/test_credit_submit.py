"""Submitting applications over real HTTP: what is taken, what is refused, and that a refusal leaves nothing."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from copy import deepcopy
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import structlog.testing
from hypothesis import given, settings
from hypothesis import strategies as st

from faregate.infra.http.api_keys import revoke_api_key
from tests.credit_world import (
    ACME,
    APPLICATIONS,
    FORM,
    GLOBEX,
    CreditWorld,
    changed,
    new_form,
    new_key,
    refused,
    shared_world,
)

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = "application/json"


def document_form() -> dict[str, Any]:
    """A form with the fields of the source document only."""
    form = new_form()
    del form["amount"], form["purpose"]
    return form


def with_value(path: str, value: Any) -> dict[str, Any]:
    return changed(FORM, **{path.removeprefix("applicant."): value})


def without(field: str) -> dict[str, Any]:
    form = deepcopy(dict(FORM))
    del (form["applicant"] if field in form["applicant"] else form)[field]
    return form


def raw_of(value: Any) -> bytes:
    return json.dumps(value).encode("utf-8", "surrogatepass")


@pytest.mark.requirement("C1")
@pytest.mark.requirement("C6")
@pytest.mark.parametrize("make", [new_form, document_form])
async def test_a_submission_is_answered_with_its_id_while_no_provider_was_asked(
    shared_world: CreditWorld, make: Callable[[], Any]
) -> None:
    asked = (await shared_world.counts())["gateway.intent"]
    reply = await shared_world.submit(make())
    application_id = reply.json["application_id"]
    assert reply.status == 202
    assert reply.headers["content-type"] == JSON
    assert reply.json == {
        "application_id": application_id,
        "status": "processing",
        "next_poll_after_seconds": 3,
    }
    assert reply.headers["location"] == f"{APPLICATIONS}/{application_id}"
    assert (await shared_world.request("GET", reply.headers["location"])).status == 200
    assert (await shared_world.counts())["gateway.intent"] == asked


@pytest.mark.requirement("C11")
async def test_one_transaction_writes_application_event_audit_entry_and_answer(
    shared_world: CreditWorld,
) -> None:
    before = await shared_world.counts()
    await shared_world.submitted()
    after = await shared_world.counts()
    changes = {table: rows - before[table] for table, rows in after.items() if rows != before[table]}
    tables = ["access.idempotency_key", "credit.applicant", "credit.application", "credit.audit_entry"]
    assert changes == dict.fromkeys([*tables, "eventlog.outbox"], 1)
    newest = [f"(select max(xmin::text::bigint) as writer from {table})" for table in changes]
    writers = await shared_world.sql(" union ".join(newest))
    assert len(writers) == 1


@pytest.mark.requirement("C10")
async def test_the_event_of_a_submission_tells_nothing_of_the_person(shared_world: CreditWorld) -> None:
    application_id = await shared_world.submitted(new_form(legal_name="Wilhelmina Vandersnatch"))
    [event] = await shared_world.sql(
        "select type, payload from eventlog.outbox where aggregateid = %(id)s", id=application_id
    )
    assert event["type"] == "credit.application.submitted"
    assert event["payload"].keys() == {"application_id", "applicant_id", "idempotency_key", "submitted_at"}


@pytest.mark.requirement("P3")
async def test_no_table_holds_the_applicants_name_in_the_clear(shared_world: CreditWorld) -> None:
    await shared_world.submitted(new_form(legal_name="Wilhelmina Vandersnatch"))
    for table in await shared_world.counts():
        rows = await shared_world.sql(f"select t::text as row from {table} t")
        texts = [row["row"].casefold() for row in rows]
        assert not [text for text in texts if "vandersnatch" in text or b"Vandersnatch".hex() in text]


@pytest.mark.requirement("C11")
@pytest.mark.requirement("C21")
async def test_what_fails_before_the_commit_leaves_nothing_and_the_key_may_be_sent_again(
    shared_world: CreditWorld,
) -> None:
    key, form = new_key(), changed(FORM, product_type="sent_twice")
    await shared_world.sql(BREAK_THE_OUTBOX)
    try:
        with structlog.testing.capture_logs() as logged:
            await refused(shared_world, shared_world.submit(form, key=key), status=500, slug="internal-error")
    finally:
        await shared_world.sql("drop function public.fail() cascade")
    assert "request crashed" in [line["event"] for line in logged]
    reply = await shared_world.submit(form, key=key)
    assert (reply.status, "idempotent-replayed" in reply.headers) == (202, False)


BREAK_THE_OUTBOX = """
create function public.fail() returns trigger language plpgsql as $$ begin raise 'out of order'; end $$;
create trigger fail before insert on eventlog.outbox for each row execute function public.fail();
"""

# What is refused

TOMORROW = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
BAD_VALUES: Mapping[str, Sequence[Any]] = {
    "applicant.legal_name": ["", " \t ", "Z" * 201, 5, None, ["Zyx"], "Zyx\0Q", "Zyx\nQ", "Z\x9b", "Z\uffff"],
    "applicant.dob": [
        *(TOMORROW, "2999-01-01", "1899-12-31", "1961-02-30", "03.02.1961", "1961-2-3", "19610203"),
        *("1961-02-03T00:00:00", "-281145600", -281145600, 0, None),
    ],
    "applicant.ssn_last4": [7391, "739", "73910", "739a", "٧٣٩١", "7391\n", " 7391", None],
    "applicant.annual_income": [-1, "52000", 52_000.5, True, None, 10**9 + 1, 10**15, 10**30, {"a": 1}],
    "applicant": [None, [], "Zyx"],
    "product_type": ["", "Cash Card", "a" * 65, 7, None],
    "amount": [0, -5, "2500", 1.5, True, 10**9 + 1],
    "purpose": ["yacht", "", 3, ["car_used"]],
}
BAD_FORMS: Sequence[tuple[str, Any]] = [
    *((path, with_value(path, value)) for path, values in BAD_VALUES.items() for value in values),
    *((f"applicant.{field}", without(field)) for field in FORM["applicant"]),
    *((field, without(field)) for field in ("product_type", "applicant")),
    ("colour", {**FORM, "colour": "red"}),
    ("applicant.nickname", with_value("applicant", {**FORM["applicant"], "nickname": "Zyx"})),
    *(("", value) for value in ([], [FORM], "Zyx", 7391, True)),
]


@pytest.mark.requirement("C6")
@pytest.mark.requirement("C11")
@pytest.mark.parametrize(("field", "body"), BAD_FORMS)
async def test_a_bad_field_is_named_and_the_corrected_body_may_reuse_the_key(
    shared_world: CreditWorld, field: str, body: Any
) -> None:
    key = new_key()
    sent = shared_world.submit(raw_of(body), key=key)
    reply = await refused(shared_world, sent, status=422, slug="validation-failed")
    assert [error["field"] for error in reply.json["errors"]] == [field]
    assert (await shared_world.submit(key=key)).status == 202


WHOLE = orjson.dumps(FORM)
BAD_BODIES: Mapping[str, tuple[bytes, dict[str, str], int, str]] = {
    "cut off": (WHOLE[:-2], {}, 400, "broken-json"),
    "nothing": (b"", {}, 400, "broken-json"),
    "two documents": (WHOLE + WHOLE, {}, 400, "broken-json"),
    "a key twice": (WHOLE.replace(b'"amount"', b'"amount":1,"amount"'), {}, 400, "broken-json"),
    "a nested key twice": (WHOLE.replace(b'"dob"', b'"dob":"1990-01-01","dob"'), {}, 400, "broken-json"),
    "NaN": (WHOLE.replace(b"2500", b"NaN"), {}, 400, "broken-json"),
    "Infinity": (WHOLE.replace(b"2500", b"-Infinity"), {}, 400, "broken-json"),
    "a comment": (WHOLE + b"// 7391", {}, 400, "broken-json"),
    "half a surrogate": (WHOLE.replace(b"Zyx", b"Zyx\\ud800"), {}, 400, "broken-json"),
    "Latin-1": (json.dumps({**FORM, "x": "é"}, ensure_ascii=False).encode("latin-1"), {}, 400, "broken-json"),
    "UTF-16": (WHOLE.decode().encode("utf-16"), {}, 400, "broken-json"),
    "a byte order mark": (b"\xef\xbb\xbf" + WHOLE, {}, 400, "broken-json"),
    "compressed": (gzip.compress(WHOLE), {"Content-Encoding": "gzip"}, 400, "broken-json"),
    "too deep for the parser": (b"[" * 5000 + b"]" * 5000, {}, 400, "broken-json"),
    "too deep for its hash": (b"[" * 100 + b"]" * 100, {}, 400, "not-canonicalisable"),
    "a megabyte": (WHOLE + b" " * 1_000_000, {}, 413, "body-too-large"),
    "text": (WHOLE, {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
    "a form": (WHOLE, {"Content-Type": "application/x-www-form-urlencoded"}, 415, "unsupported-media-type"),
    "another charset": (WHOLE, {"Content-Type": f"{JSON}; charset=utf-16"}, 415, "unsupported-media-type"),
    "no media type": (WHOLE, {"Content-Type": ""}, 415, "unsupported-media-type"),
}


@pytest.mark.requirement("C11")
@pytest.mark.parametrize("case", BAD_BODIES)
async def test_a_body_that_cannot_be_read_is_refused_and_a_good_one_may_reuse_the_key(
    shared_world: CreditWorld, case: str
) -> None:
    body, headers, status, slug = BAD_BODIES[case]
    key = new_key()
    await refused(shared_world, shared_world.submit(body, key=key, **headers), status=status, slug=slug)
    assert (await shared_world.submit(key=key)).status == 202


@pytest.mark.requirement("C11")
async def test_a_chunked_body_is_refused_as_soon_as_it_is_too_long(shared_world: CreditWorld) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(200):
            yield WHOLE.ljust(1000)

    headers = {"Content-Type": JSON, "Idempotency-Key": new_key()}
    sent = shared_world.request("POST", APPLICATIONS, headers=headers, data=endless())
    await refused(shared_world, sent, status=413, slug="body-too-large")


@pytest.mark.requirement("C21")
@pytest.mark.parametrize(
    ("keys", "slug"),
    [
        ([], "missing"),
        ([""], "malformed"),
        (['""'], "malformed"),
        (["k" * 256], "malformed"),
        (["k" * 1000], "malformed"),
        (['"half'], "malformed"),
        (["two words"], "malformed"),
        (["tab\tinside"], "malformed"),
        (['"é"'], "malformed"),
        (["k1, k2"], "malformed"),
        (["k1", "k1"], "repeated"),
        (["k1", "k2"], "repeated"),
    ],
)
async def test_a_bad_idempotency_key_is_a_400_that_links_to_its_documentation(
    shared_world: CreditWorld, keys: list[str], slug: str
) -> None:
    headers = [("Content-Type", JSON), *(("Idempotency-Key", key) for key in keys)]
    sent = shared_world.request("POST", APPLICATIONS, headers=headers, data=WHOLE)
    reply = await refused(shared_world, sent, status=400, slug=f"idempotency-key-{slug}")
    assert (await shared_world.request("GET", reply.json["documentation"])).status == 200


@pytest.mark.requirement("C21")
@pytest.mark.parametrize("key", [b"a\x01b", b"a\0b", b"a\x7fb", b"a\r\n b"])
async def test_a_control_character_in_a_header_is_a_400_problem(
    shared_world: CreditWorld, key: bytes
) -> None:
    host, port = shared_world.url.removeprefix("http://").split(":")
    async with shared_world.unchanged():
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(
            b"POST /api/credit-applications HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Authorization: Bearer %b\r\nIdempotency-Key: %b\r\nContent-Length: %d\r\n\r\n%b"
            % (shared_world.tokens[ACME].encode(), key, len(WHOLE), WHOLE)
        )
        head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"application/problem+json" in head
    assert orjson.loads(body)["type"] == "/problems/request-refused"


ROUTES = [("POST", APPLICATIONS), ("GET", f"{APPLICATIONS}/app_x"), ("GET", f"{APPLICATIONS}/app_x/decision")]


@pytest.mark.requirement("C11")
@pytest.mark.requirement("P3")
@pytest.mark.parametrize(
    "authorization", ["", "Bearer", "Bearer x", "Basic YTpi", "unknown", "wrong", "revoked"]
)
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_wants_a_living_api_key(
    shared_world: CreditWorld, method: str, path: str, authorization: str
) -> None:
    good = shared_world.tokens[ACME]
    given = {"unknown": f"Bearer fg_{'0' * 16}_{'0' * 64}", "wrong": f"Bearer {good[:-4]}0000"}
    if authorization == "revoked":
        key_id = await shared_world.add_key("ended", client=ACME, scopes=["credit:submit", "credit:read"])
        await revoke_api_key(shared_world.connection, key_id=key_id, now=datetime.now(UTC))
        given["revoked"] = f"Bearer {shared_world.tokens['ended']}"
    headers = {"Authorization": given.get(authorization, authorization), "Content-Type": "text/plain"}
    sent = shared_world.request(method, path, client=None, headers=headers, data=WHOLE)
    reply = await refused(shared_world, sent, status=401, slug="unauthenticated", path=path)
    assert reply.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.requirement("P3")
@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_every_route_wants_its_own_scope(shared_world: CreditWorld, method: str, path: str) -> None:
    needed, other = ("credit:submit", "credit:read") if method == "POST" else ("credit:read", "credit:submit")
    await shared_world.add_key("narrow", client=ACME, scopes=[other, "admin"])
    sent = shared_world.request(method, path, client="narrow", data=WHOLE)
    reply = await refused(shared_world, sent, status=403, slug="scope-missing", path=path)
    assert reply.json["scope"] == needed


async def test_an_api_key_may_also_come_in_a_header_of_its_own(shared_world: CreditWorld) -> None:
    token = {"X-Api-Key": shared_world.tokens[GLOBEX]}
    assert (await shared_world.submit(client=None, **token)).status == 202


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([*FORM, *FORM["applicant"]])
RELAXED = settings(max_examples=150, deadline=None)


@pytest.mark.requirement("C11")
@RELAXED
@given(body=ANY_JSON.map(raw_of) | st.binary(max_size=60))
async def test_no_random_body_breaks_the_service_or_leaves_a_row(
    shared_world: CreditWorld, body: bytes
) -> None:
    async with shared_world.unchanged():
        reply = await shared_world.submit(body)
    assert reply.problem[0] in {400, 422}


@pytest.mark.requirement("C11")
@RELAXED
@given(field=FIELDS, value=ANY_JSON)
async def test_a_form_with_one_random_value_is_taken_whole_or_not_at_all(
    shared_world: CreditWorld, field: str, value: Any
) -> None:
    before = (await shared_world.counts())["credit.application"]
    reply = await shared_world.submit(raw_of(changed(new_form(), **{field: value})))
    after = (await shared_world.counts())["credit.application"]
    assert (reply.status, after - before) == (202, 1) or (reply.problem[0] in {400, 422} and after == before)
