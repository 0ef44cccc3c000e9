"""Providers' callbacks over real HTTP: which are kept, which are refused, and that a refusal changes nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest

from faregate.gateway.api import declare
from faregate.gateway.intent import NewIntent
from faregate.infra.database import Database
from faregate.infra.security.signatures import sign_body, sign_webhook
from faregate.infra.settings import Settings
from tests.credit_world import FORM, CreditWorld, Reply, new_form, refused, shared_world

__all__ = ["shared_world"]

pytestmark = pytest.mark.asyncio(loop_scope="module")

JSON = {"Content-Type": "application/json"}
PAYLOADS: Mapping[str, Mapping[str, Any]] = {
    "kyc": {
        "identity": "verified",
        "watchlist_hits": 0,
        "housing": "own",
        "residence_since": 2,
        "telephone": "none",
        "people_liable": 1,
    },
    "income": {
        "employed_since": "1 <= ... < 4 years",
        "job": "skilled employee / official",
        "checking_account": "no checking account",
        "savings": "... < 100 DM",
        "annual_income": 52_000,
    },
}
PROVIDERS = ["kyc", "income"]


def path(provider: str) -> str:
    return f"/internal/providers/{provider}/callbacks"


async def declared(world: CreditWorld, provider: str) -> str:
    """Return the reference of a request that a new application needs of a provider, before it was sent."""
    application_id = await world.submitted(new_form())
    deadline = datetime.now(UTC) + timedelta(minutes=1)
    intent = NewIntent(subject_id=application_id, check=provider, provider=provider, deadline=deadline)
    database = await Database.open(world.site.database_url, role="faregate_credit", connections_max=1)
    async with database.transaction() as conn:
        await declare(conn, [intent])
    await database.close()
    return intent.provider_request_id


def told(provider: str, reference: str, **changes: Any) -> dict[str, Any]:
    body = {"provider_request_id": reference, "status": "success", "payload": PAYLOADS[provider]}
    return {name: value for name, value in {**body, **changes}.items() if value is not ...}


def signed_body(settings: Settings, body: Mapping[str, Any], *, secret: bytes = b"") -> bytes:
    """The body as the identity check sends it: with its signature inside."""
    own = settings.kyc_callback_secret.get_secret_value().encode()
    return orjson.dumps({**body, "signature": sign_body(body, secret=secret or own)})


def webhook_headers(
    settings: Settings, raw: bytes, *, message_id: str = "msg_1", age_s: float = 0, secret: str = ""
) -> dict[str, str]:
    """The headers with which the income verification signs what it sends."""
    secrets = [secret or settings.income_callback_secret.get_secret_value()]
    signed_at = datetime.now(UTC) - timedelta(seconds=age_s)
    return {**JSON, **sign_webhook(message_id=message_id, body=raw, secrets=secrets, now=signed_at)}


async def send(
    world: CreditWorld, provider: str, raw: bytes, headers: Mapping[str, str] | None = None
) -> Reply:
    return await world.request("POST", path(provider), client=None, headers=headers or JSON, data=raw)


async def call_back(world: CreditWorld, provider: str, body: Mapping[str, Any], **signing: Any) -> Reply:
    """Send a body as its provider would, signed in the provider's own way."""
    if provider == "kyc":
        return await send(world, provider, signed_body(world.settings, body, **signing))
    raw = orjson.dumps(body)
    own = {"message_id": f"msg_{hashlib.sha256(raw).hexdigest()}"}
    return await send(world, provider, raw, webhook_headers(world.settings, raw, **{**own, **signing}))


async def kept(world: CreditWorld, reference: str) -> list[dict[str, Any]]:
    return await world.sql(
        "select outcome, response from gateway.callback where provider_request_id = %(id)s", id=reference
    )


@pytest.mark.requirement("C9")
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_signed_callback_is_kept_before_our_own_call_has_even_been_sent(
    shared_world: CreditWorld, provider: str
) -> None:
    reference = await declared(shared_world, provider)
    reply = await call_back(shared_world, provider, told(provider, reference))
    assert (reply.status, reply.json) == (202, {"accepted": True})
    [callback] = await kept(shared_world, reference)
    assert callback["outcome"]["payload"]
    assert not [field for field in PAYLOADS[provider] if field.encode() in bytes(callback["response"])]


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(("provider", "again"), [("kyc", {}), ("income", {"age_s": 60}), ("income", {})])
async def test_a_callback_sent_many_times_is_accepted_each_time_and_kept_once(
    shared_world: CreditWorld, provider: str, again: dict[str, Any]
) -> None:
    body = told(provider, await declared(shared_world, provider))
    crowd = await asyncio.gather(*(call_back(shared_world, provider, body) for _ in range(10)))
    late = await call_back(shared_world, provider, body, **again)
    assert {reply.status for reply in [*crowd, late]} == {202}
    assert len(await kept(shared_world, body["provider_request_id"])) == 1


@pytest.mark.requirement("C9")
async def test_a_callback_for_a_decided_application_is_kept_and_leaves_the_decision_alone(
    shared_world: CreditWorld,
) -> None:
    reference = await declared(shared_world, "kyc")
    application_id = reference.partition(":")[0]
    await shared_world.sql(
        "update credit.application set status = 'denied', latest_step = 'decision_finalized' where id = %(id)s",
        id=application_id,
    )
    before = await shared_world.sql("select * from credit.application where id = %(id)s", id=application_id)
    assert (await call_back(shared_world, "kyc", told("kyc", reference))).status == 202
    after = await shared_world.sql("select * from credit.application where id = %(id)s", id=application_id)
    assert after == before


@pytest.mark.requirement("C9")
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_a_failure_is_a_callback_like_any_other(shared_world: CreditWorld, provider: str) -> None:
    reference = await declared(shared_world, provider)
    failure = told(provider, reference, status="failure", payload={})
    assert (await call_back(shared_world, provider, failure)).status == 202
    [callback] = await kept(shared_world, reference)
    assert callback["response"] is None


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(("provider", "status", "rows"), [("kyc", 202, 1), ("income", 401, 0)])
async def test_spacing_and_key_order_count_for_webhook_headers_only(
    shared_world: CreditWorld, provider: str, status: int, rows: int
) -> None:
    reference = await declared(shared_world, provider)
    body = told(provider, reference)
    raw = signed_body(shared_world.settings, body) if provider == "kyc" else orjson.dumps(body)
    headers = JSON if provider == "kyc" else webhook_headers(shared_world.settings, raw)
    rewritten = orjson.dumps(dict(reversed(orjson.loads(raw).items())), option=orjson.OPT_INDENT_2)
    assert (await send(shared_world, provider, rewritten, headers)).status == status
    assert len(await kept(shared_world, reference)) == rows
    assert (await send(shared_world, provider, raw, headers)).status == 202
    assert len(await kept(shared_world, reference)) == 1


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    ("change", "slug"),
    [
        ({"signature": ...}, "signature-missing"),
        ({"signature": None}, "signature-missing"),
        ({"signature": ""}, "signature-rejected"),
        ({"signature": "hmac-sha256=" + "0" * 64}, "signature-rejected"),
        ({"signature": "hmac-sha256=é"}, "signature-rejected"),
        ({"status": "failure"}, "signature-rejected"),
        ({"payload": {**PAYLOADS["kyc"], "watchlist_hits": 1}}, "signature-rejected"),
        ({"added": 1}, "signature-rejected"),
        ({"added": 2**60}, "signature-rejected"),
    ],
)
async def test_a_body_that_its_own_signature_does_not_cover_is_refused(
    shared_world: CreditWorld, change: dict[str, Any], slug: str
) -> None:
    body = told("kyc", await declared(shared_world, "kyc"))
    whole = orjson.loads(signed_body(shared_world.settings, body))
    raw = orjson.dumps({name: value for name, value in {**whole, **change}.items() if value is not ...})
    await refused(shared_world, send(shared_world, "kyc", raw), status=401, slug=slug, path=path("kyc"))


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    ("signing", "change", "slug"),
    [
        ({"age_s": 301}, {}, "signature-expired"),
        ({"age_s": -302}, {}, "signature-expired"),
        ({"secret": "whsec_c29tZWJvZHkgZWxzZSdzIHNlY3JldA=="}, {}, "signature-rejected"),
        ({}, {"webhook-id": "msg_2"}, "signature-rejected"),
        ({}, {"webhook-id": "msg.1"}, "signature-rejected"),
        ({}, {"webhook-timestamp": "1614265330"}, "signature-rejected"),
        ({}, {"webhook-timestamp": "soon"}, "signature-rejected"),
        ({}, {"webhook-signature": "v1,AAAA v2,x"}, "signature-rejected"),
        ({}, {"webhook-signature": ""}, "signature-missing"),
        ({}, {"webhook-id": ""}, "signature-missing"),
    ],
)
async def test_a_webhook_signed_otherwise_or_long_ago_is_refused(
    shared_world: CreditWorld, signing: dict[str, Any], change: dict[str, str], slug: str
) -> None:
    raw = orjson.dumps(told("income", await declared(shared_world, "income")))
    headers = {**webhook_headers(shared_world.settings, raw, **signing), **change}
    sent = send(shared_world, "income", raw, headers)
    await refused(shared_world, sent, status=401, slug=slug, path=path("income"))


@pytest.mark.requirement("C9")
async def test_the_secret_of_one_provider_opens_nothing_at_another(shared_world: CreditWorld) -> None:
    settings = shared_world.settings
    as_kyc = signed_body(settings, told("income", await declared(shared_world, "income")))
    sent = send(shared_world, "income", as_kyc)
    await refused(shared_world, sent, status=401, slug="signature-rejected", path=path("income"))
    as_income = orjson.dumps(told("kyc", await declared(shared_world, "kyc")))
    sent = send(shared_world, "kyc", as_income, webhook_headers(settings, as_income))
    await refused(shared_world, sent, status=401, slug="signature-rejected", path=path("kyc"))


@pytest.mark.requirement("C9")
@pytest.mark.parametrize("provider", ["bureau", "fraud", "nobody", "KYC", "%F0%9F%98%80"])
async def test_a_provider_that_never_calls_back_is_unknown(shared_world: CreditWorld, provider: str) -> None:
    raw = signed_body(shared_world.settings, told("kyc", await declared(shared_world, "kyc")))
    async with shared_world.unchanged():
        reply = await send(shared_world, provider, raw)
    assert reply.problem == (404, "provider-unknown")


@pytest.mark.requirement("C9")
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("reference", ["app_1:kyc:1", "app_1:income:1", "x", "another provider's"])
async def test_a_callback_about_a_request_that_was_never_made_is_a_404(
    shared_world: CreditWorld, provider: str, reference: str
) -> None:
    if reference == "another provider's":
        reference = await declared(shared_world, PROVIDERS[provider == "kyc"])
    sent = call_back(shared_world, provider, told(provider, reference))
    await refused(shared_world, sent, status=404, slug="provider-request-not-found", path=path(provider))


@pytest.mark.requirement("C9")
@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("change", "status", "slug"),
    [
        ({"provider_request_id": ...}, 422, "validation-failed"),
        ({"provider_request_id": ""}, 422, "validation-failed"),
        ({"provider_request_id": 7}, 422, "validation-failed"),
        ({"provider_request_id": "x" * 256}, 422, "validation-failed"),
        ({"provider_request_id": "app\0"}, 422, "validation-failed"),
        ({"status": "done"}, 422, "validation-failed"),
        ({"status": ...}, 422, "validation-failed"),
        ({"payload": ...}, 422, "validation-failed"),
        ({"payload": []}, 422, "validation-failed"),
        ({"payload": {}}, 400, "callback-not-understood"),
        ({"payload": {"identity": FORM["applicant"]}}, 400, "callback-not-understood"),
    ],
)
async def test_a_signed_callback_without_the_documented_fields_is_refused(
    shared_world: CreditWorld, provider: str, change: dict[str, Any], status: int, slug: str
) -> None:
    body = told(provider, await declared(shared_world, provider), **change)
    sent = call_back(shared_world, provider, body)
    await refused(shared_world, sent, status=status, slug=slug, path=path(provider))


@pytest.mark.requirement("C9")
@pytest.mark.parametrize(
    ("raw", "headers", "status", "slug"),
    [
        (b"", JSON, 400, "broken-json"),
        (b'{"status": "success"', JSON, 400, "broken-json"),
        (b'{"status": 1, "status": 2}', JSON, 400, "broken-json"),
        (b"[]", JSON, 422, "validation-failed"),
        (b"{}", {"Content-Type": "text/plain"}, 415, "unsupported-media-type"),
        (b" " * 1_000_000, JSON, 413, "body-too-large"),
    ],
)
async def test_a_callback_that_is_no_json_object_is_refused(
    shared_world: CreditWorld, raw: bytes, headers: dict[str, str], status: int, slug: str
) -> None:
    signed = {**webhook_headers(shared_world.settings, raw), **headers}
    sent = send(shared_world, "income", raw, signed)
    await refused(shared_world, sent, status=status, slug=slug, path=path("income"))
