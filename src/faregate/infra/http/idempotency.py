"""The `Idempotency-Key` header and the fingerprint of a request. What is kept under a key: the store.

The semantics are those of draft-ietf-httpapi-idempotency-key-header (expired, never an RFC). As an extension
a bare token is taken like the quoted string, since many clients send it so: `"abc"` and `abc` are one key.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request

from faregate.infra.security.canonical import canonical_json
from faregate.kernel.errors import ConflictError, InvalidError

KEY_LENGTH_MAX = 255
RETENTION_DAYS = 30
DOCUMENTATION = "/problems/idempotency-key-malformed"
KEY_PATTERN = (
    r'^("([ !#-\[\]-~]|\\["\\]){1,255}"'
    r"|[A-Za-z0-9!#$%&'*+.^_`|~:/=@-]{1,255})$"
)
"""The header's value as a pattern of JSON Schema, for the API's document; `parse_key` is what counts."""
_HEADER = b"idempotency-key"
_QUOTED = re.compile(rb'"((?:[ !#-\[\]-~]|\\["\\])*)"')
_BARE = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~:/=@-]+")
_ESCAPE = re.compile(rb'\\(["\\])')


class IdempotencyKeyMissing(InvalidError):
    """The request must carry an `Idempotency-Key` header.

    Make a fresh key (a UUID) for each new operation and repeat it with every retry of that operation.
    """


class IdempotencyKeyMalformed(InvalidError):
    """The `Idempotency-Key` header is no quoted string or bare token of 1 to 255 printable ASCII characters.

    Send `Idempotency-Key: "8e03978e-40d5-43dd-bc93-6894a57f9324"`; the quotes may be left out. Keys are
    remembered for 30 days, for each client and route.
    """


class IdempotencyKeyRepeated(InvalidError):
    """The request carries more than one `Idempotency-Key` header.

    Send exactly one.
    """


class IdempotencyKeyReused(InvalidError):
    """The key was used before, by the same client on the same route, with another body.

    Use a fresh key for a new operation, or send the first body again to get its answer.
    """


class RequestInFlight(ConflictError):
    """A request with this key is being worked on at this moment.

    Send the same request again after `Retry-After` seconds; it will get the first one's answer.
    """


def read_key(request: Request) -> str:
    """Return the request's key, without quoting.

    Raises IdempotencyKeyMissing, IdempotencyKeyRepeated or IdempotencyKeyMalformed.
    """
    given = [value for name, value in request.scope["headers"] if name == _HEADER]
    return parse_key(given)


def parse_key(given: Iterable[bytes]) -> str:
    """Return the key in the values of the header fields that were sent."""
    values = list(given)
    if not values:
        raise IdempotencyKeyMissing("an Idempotency-Key header is needed", documentation=DOCUMENTATION)
    if len(values) > 1:
        raise IdempotencyKeyRepeated(
            "only one Idempotency-Key header is allowed", documentation=DOCUMENTATION
        )
    key = _unquoted(values[0].strip(b" \t"))
    if not 1 <= len(key) <= KEY_LENGTH_MAX:
        raise IdempotencyKeyMalformed("the Idempotency-Key header is malformed", documentation=DOCUMENTATION)
    return key.decode("ascii")


def fingerprint(*, method: str, route: str, body: Any) -> bytes:
    """Return the SHA-256 that tells one request from another: method, route template, canonical JSON body."""
    return hashlib.sha256(b"%b %b\n%b" % (method.encode(), route.encode(), canonical_json(body))).digest()


def _unquoted(value: bytes) -> bytes:
    """The key itself, or nothing if the value is neither a quoted string nor a bare token."""
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        return _ESCAPE.sub(rb"\1", quoted[1])
    return value if _BARE.fullmatch(value) else b""
