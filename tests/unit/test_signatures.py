"""Signed callbacks: signatures in the body, and Standard Webhooks headers over the raw bytes."""

from __future__ import annotations

import base64
import hashlib
import hmac
import os
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook as ReferenceWebhook

from faregate.infra.security.signatures import (
    SignatureExpired,
    SignatureMissing,
    SignatureRejected,
    WebhookSecretInvalid,
    has_webhook_headers,
    sign_body,
    sign_webhook,
    verify_body,
    verify_webhook,
)

SECRET, OTHER = b"s" * 32, b"o" * 32
BODY = {"provider_request_id": "app_1:kyc:1", "status": "success", "payload": {"score": 0.5, "name": "Zoë"}}
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_TIME = datetime.fromtimestamp(1614265330, tz=UTC)
VECTOR = {
    "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "webhook-timestamp": "1614265330",
    "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
}
NEW_SECRET = "whsec_" + base64.b64encode(b"n" * 24).decode()


def signed(body: dict[str, Any], secret: bytes = SECRET) -> dict[str, Any]:
    return {**body, "signature": sign_body(body, secret=secret)}


def verify_vector(
    *,
    changed: dict[str, str] | None = None,
    now: datetime = VECTOR_TIME,
    body: bytes = VECTOR_BODY,
    secrets: list[str] | None = None,
) -> None:
    """Verify the published vector with something changed; `changed` names headers without `webhook-`."""
    headers = {**VECTOR, **{f"webhook-{name}": value for name, value in (changed or {}).items()}}
    verify_webhook(headers=headers, body=body, secrets=secrets or [VECTOR_SECRET], now=now)


@pytest.mark.requirement("C9")
def test_a_body_signature_is_the_hex_hmac_of_the_canonical_body() -> None:
    canonical = b'{"a":[1,"x"],"b":2}'
    expected = hmac.new(SECRET, canonical, hashlib.sha256).hexdigest()
    assert sign_body({"b": 2, "a": [1, "x"], "signature": "old"}, secret=SECRET) == f"hmac-sha256={expected}"


@pytest.mark.requirement("C9")
def test_spacing_and_key_order_do_not_matter_to_a_body_signature() -> None:
    reordered = dict(reversed(list(signed(BODY).items())))
    verify_body(orjson.loads(orjson.dumps(reordered, option=orjson.OPT_INDENT_2)), secrets=[SECRET])


@pytest.mark.requirement("C9")
def test_spacing_does_matter_to_standard_webhooks() -> None:
    with pytest.raises(SignatureRejected):
        verify_vector(body=VECTOR_BODY.replace(b" ", b""))


@pytest.mark.parametrize("secrets", [[SECRET, OTHER], [OTHER, SECRET]])
def test_either_secret_of_a_rotation_verifies_a_body(secrets: list[bytes]) -> None:
    verify_body(signed(BODY), secrets=secrets)


@pytest.mark.parametrize(
    "given_signature",
    ["", "hmac-sha256=", "sha256=00", 7, ["x"], "hmac-sha256=é", sign_body(BODY, secret=OTHER),
     sign_body(BODY, secret=SECRET).upper(), sign_body(BODY, secret=SECRET)[:-1]],
)  # fmt: skip
def test_any_other_body_signature_is_rejected(given_signature: Any) -> None:
    with pytest.raises(SignatureRejected):
        verify_body({**BODY, "signature": given_signature}, secrets=[SECRET])


def test_a_body_without_signature_says_so() -> None:
    with pytest.raises(SignatureMissing):
        verify_body(BODY, secrets=[SECRET])


def test_no_secret_accepts_no_signature() -> None:
    with pytest.raises(SignatureRejected):
        verify_body(signed(BODY), secrets=[])


def test_a_body_without_canonical_form_is_rejected() -> None:
    with pytest.raises(SignatureRejected):
        verify_body({**signed(BODY), "huge": 2**60}, secrets=[SECRET])


@given(st.dictionaries(st.text(max_size=5), st.integers(0, 9), min_size=1), st.data())
def test_changing_any_field_breaks_a_body_signature(body: dict[str, int], data: st.DataObject) -> None:
    body.pop("signature", None)
    name = data.draw(st.sampled_from([*body, "added"]))
    with pytest.raises(SignatureRejected):
        verify_body({**signed(body), name: body.get(name, 0) + 10}, secrets=[SECRET])


@pytest.mark.requirement("C9")
def test_the_published_vector_of_standard_webhooks_verifies() -> None:
    same: dict[str, Any] = {"body": VECTOR_BODY, "secrets": [VECTOR_SECRET], "now": VECTOR_TIME}
    webhook = verify_webhook(headers=VECTOR, **same)
    assert (webhook.id, webhook.signed_at) == (VECTOR["webhook-id"], VECTOR_TIME)
    assert sign_webhook(message_id=VECTOR["webhook-id"], **same) == VECTOR


@given(st.text(st.characters(exclude_categories=["Cs"])), st.binary(min_size=24, max_size=64))
def test_ours_and_the_reference_library_agree(text: str, key: bytes) -> None:
    secret = "whsec_" + base64.b64encode(key).decode()
    now = datetime.now(UTC).replace(microsecond=0)
    headers = dict(sign_webhook(message_id="msg_1", body=text.encode(), secrets=[secret], now=now))
    ReferenceWebhook(secret).verify(text, headers, json_parse=False)
    theirs = ReferenceWebhook(secret).sign("msg_1", now, text)
    assert theirs == headers["webhook-signature"]


def test_a_message_signed_with_old_and_new_secret_verifies_with_either() -> None:
    both = [VECTOR_SECRET, NEW_SECRET]
    headers = sign_webhook(message_id="msg_1", body=b"x", secrets=both, now=VECTOR_TIME)
    for secret in both:
        verify_webhook(headers=headers, body=b"x", secrets=[secret], now=VECTOR_TIME)
    assert headers["webhook-signature"].count("v1,") == 2


@pytest.mark.parametrize(
    "list_of_signatures",
    ["v1a,xxxx {good}", "v2,{raw} {good}", "v1,é {good}", "v1 {good}", "v1,not-base64! {good}", "{good} v9,"],
)
def test_unknown_and_broken_signatures_beside_a_good_one_are_passed_over(list_of_signatures: str) -> None:
    good = VECTOR["webhook-signature"]
    signatures = list_of_signatures.format(good=good, raw=good.removeprefix("v1,"))
    verify_vector(changed={"signature": signatures})


@pytest.mark.parametrize(
    "changed",
    [{"id": "msg_other"}, {"id": "a.b"}, {"timestamp": "1614265331"}, {"timestamp": "1e9"},
     {"timestamp": "1614265330.0"}, {"signature": "v1,"}, {"signature": "v1a,g0hM"}, {"signature": "x"}],
)  # fmt: skip
def test_a_changed_header_is_rejected(changed: dict[str, str]) -> None:
    with pytest.raises(SignatureRejected):
        verify_vector(changed=changed)


@pytest.mark.parametrize(("seconds", "accepted"), [(-301, False), (-300, True), (300, True), (301, False)])
def test_a_message_counts_for_five_minutes_to_both_sides(seconds: int, accepted: bool) -> None:
    now = VECTOR_TIME + timedelta(seconds=seconds)
    if accepted:
        verify_vector(now=now)
    else:
        with pytest.raises(SignatureExpired):
            verify_vector(now=now)


@pytest.mark.parametrize("missing", list(VECTOR))
def test_a_missing_header_is_named_missing(missing: str) -> None:
    headers = {name: value for name, value in VECTOR.items() if name != missing}
    assert has_webhook_headers(headers)
    with pytest.raises(SignatureMissing):
        verify_webhook(headers=headers, body=VECTOR_BODY, secrets=[VECTOR_SECRET], now=VECTOR_TIME)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_é"])
def test_an_empty_or_broken_secret_is_refused(secret: str) -> None:
    with pytest.raises(WebhookSecretInvalid):
        verify_vector(secrets=[secret])


@given(st.binary(max_size=80), st.binary(min_size=1, max_size=200))
def test_hmac_is_right_for_keys_and_messages_of_every_length(message: bytes, key: bytes) -> None:
    secret = base64.b64encode(key).decode()
    headers = sign_webhook(message_id="m", body=message, secrets=[secret], now=VECTOR_TIME)
    expected = hmac.new(key, b"m.1614265330." + message, hashlib.sha256).digest()
    assert headers["webhook-signature"] == "v1," + base64.b64encode(expected).decode()
    other = base64.b64encode(os.urandom(32)).decode()
    with pytest.raises(SignatureRejected):
        verify_webhook(headers=headers, body=message, secrets=[other], now=VECTOR_TIME)
