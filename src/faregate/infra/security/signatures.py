"""The two ways in which providers and we sign messages, in constant time and with several secrets at once.

A *body signature* stands inside the JSON and covers its RFC 8785 form without that field. *Standard Webhooks*
1.0.0 headers cover the raw bytes. Which of the two a provider uses is not decided here.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from faregate.infra.security.canonical import NotCanonicalisable, canonical_json
from faregate.kernel.errors import ForbiddenError, InvalidError

BODY_SIGNATURE_PREFIX = "hmac-sha256="
WEBHOOK_HEADERS = ("webhook-id", "webhook-timestamp", "webhook-signature")
WEBHOOK_TOLERANCE = timedelta(minutes=5)
_SECRET_PREFIX = "whsec_"  # noqa: S105  # the published prefix, not a secret
_TIMESTAMP = re.compile(r"[0-9]{1,12}")


class SignatureMissing(ForbiddenError):
    """The message must be signed and is not.

    Send the `signature` field, or the three Standard Webhooks headers.
    """


class SignatureRejected(ForbiddenError):
    """No signature of the message was made with a secret that we share with its sender.

    Check the secret, and that the signed bytes are the ones that were sent.
    """


class SignatureExpired(ForbiddenError):
    """The message was signed more than five minutes ago, or in the future.

    Check the sender's clock, and sign each delivery anew.
    """


class WebhookSecretInvalid(InvalidError):
    """A webhook secret is empty or not base64."""


@dataclass(frozen=True, slots=True)
class Webhook:
    """A verified message's own id, which its retries share, and the instant of its signature."""

    id: str
    signed_at: datetime


def sign_body(body: Mapping[str, Any], *, secret: bytes, field: str = "signature") -> str:
    """Return `hmac-sha256=` and the hex HMAC over the canonical JSON of the body without `field`."""
    return _body_signature(_unsigned(body, field), secret)


def verify_body(body: Mapping[str, Any], *, secrets: Sequence[bytes], field: str = "signature") -> None:
    """Accept a body whose signature was made with any of the secrets.

    Raises SignatureMissing or SignatureRejected.
    """
    given = body.get(field)
    if given is None:
        raise SignatureMissing(f"the body has no {field}")
    if not isinstance(given, str) or not given.isascii():
        raise SignatureRejected(f"the body's {field} is not one")
    try:
        unsigned = _unsigned(body, field)
    except NotCanonicalisable as error:
        raise SignatureRejected("a body without canonical form cannot have been signed") from error
    if not _any_equal([given.encode()], [_body_signature(unsigned, secret).encode() for secret in secrets]):
        raise SignatureRejected(f"the body's {field} does not match")


def _unsigned(body: Mapping[str, Any], field: str) -> bytes:
    return canonical_json({name: value for name, value in body.items() if name != field})


def _body_signature(unsigned: bytes, secret: bytes) -> str:
    return BODY_SIGNATURE_PREFIX + hmac.digest(secret, unsigned, hashlib.sha256).hex()


def has_webhook_headers(headers: Mapping[str, str]) -> bool:
    """Whether a request claims to be signed by Standard Webhooks, in whole or in part."""
    return any(name in headers for name in WEBHOOK_HEADERS)


def sign_webhook(*, message_id: str, body: bytes, secrets: Sequence[str], now: datetime) -> Mapping[str, str]:
    """Return the three headers; with several secrets the message is signed with each of them."""
    timestamp = str(int(now.timestamp()))
    if not message_id or "." in message_id:
        raise InvalidError("a webhook id is not empty and has no dot")
    signatures = [f"v1,{base64.b64encode(s).decode()}" for s in _sign(message_id, timestamp, body, secrets)]
    return dict(zip(WEBHOOK_HEADERS, (message_id, timestamp, " ".join(signatures)), strict=True))


def verify_webhook(
    *,
    headers: Mapping[str, str],
    body: bytes,
    secrets: Sequence[str],
    now: datetime,
    tolerance: timedelta = WEBHOOK_TOLERANCE,
) -> Webhook:
    """Accept raw bytes signed with any of the secrets (`whsec_…`); header names in `headers` are lower case.

    Raises SignatureMissing, SignatureExpired (outside ± tolerance) or SignatureRejected.
    """
    message_id, timestamp, signatures = (headers.get(name, "") for name in WEBHOOK_HEADERS)
    if not (message_id and timestamp and signatures):
        raise SignatureMissing("webhook-id, webhook-timestamp and webhook-signature belong together")
    if "." in message_id or not _TIMESTAMP.fullmatch(timestamp):
        raise SignatureRejected("the webhook headers are malformed")
    if not _any_equal(_version_1(signatures), _sign(message_id, timestamp, body, secrets)):
        raise SignatureRejected("no webhook signature matches")
    signed_at = datetime.fromtimestamp(int(timestamp), tz=UTC)
    if abs(now - signed_at) > tolerance:
        raise SignatureExpired("the webhook was signed too long ago or in the future")
    return Webhook(message_id, signed_at)


def _sign(message_id: str, timestamp: str, body: bytes, secrets: Iterable[str]) -> list[bytes]:
    message = f"{message_id}.{timestamp}.".encode() + body
    return [hmac.digest(_secret_bytes(secret), message, hashlib.sha256) for secret in secrets]


def _secret_bytes(secret: str) -> bytes:
    try:
        decoded = base64.b64decode(secret.removeprefix(_SECRET_PREFIX) + "==")
    except (binascii.Error, ValueError) as error:
        raise WebhookSecretInvalid("a webhook secret is base64") from error
    if not decoded:
        raise WebhookSecretInvalid("a webhook secret is not empty")
    return decoded


def _version_1(signatures: str) -> list[bytes]:
    """Decode the `v1` entries of a space-delimited list, passing over other versions and broken entries."""
    decoded = []
    for entry in signatures.split(" "):
        version, _, signature = entry.partition(",")
        if version == "v1" and signature.isascii():
            decoded.append(_base64_or_empty(signature))
    return decoded


def _base64_or_empty(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except binascii.Error:
        return b""


def _any_equal(given: Sequence[bytes], expected: Sequence[bytes]) -> bool:
    """Compare every pair, so that the time taken tells nothing about which one matched."""
    matches = [hmac.compare_digest(one, other) for one in given for other in expected]
    return any(matches)
