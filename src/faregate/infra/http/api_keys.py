"""API keys: `fg_<id>_<secret>` with scopes, kept as the hash of the secret. For the CLI and authentication.

One SHA-256 is the right hash here: the secret is 256 random bits, which nobody guesses with any number of
tries, so that a slow password hash would cost every request and protect nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from faregate.infra.database import Connection
from faregate.infra.queries import load_queries
from faregate.infra.rate import Rate
from faregate.kernel.errors import InvalidError, NotFoundError

_SECRET_BYTES = 32
_ID_BYTES = 8
_TOKEN = re.compile(r"fg_([0-9a-z]{8,32})_([0-9a-f]{64})")
KNOWN_SCOPES = frozenset(
    {
        "audit:read",
        "credit:submit",
        "credit:read",
        "fraud:events",
        "fraud:manage",
        "fraud:read",
        "fraud:score",
        "gateway:operate",
        "gateway:read",
        "members:read",
        "members:write",
        "metrics:read",
        "payments:authorise",
        "payments:cards",
        "payments:policy",
        "payments:read",
        "payments:write",
        "points:adjust",
        "points:approve",
        "points:read",
        "points:write",
        "review:read",
        "review:work",
        "review:repull",
        "review:identity",
        "rules:manage",
        "rules:read",
        "travel:operate",
        "travel:read",
        "travel:write",
        "webhooks:manage",
    }
)
"""Every scope that a route asks for. A key with any other would open nothing."""

_CLIENT_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_SCOPE = re.compile(r"[a-z_]+(:[a-z_]+)?")
_queries = load_queries("faregate.infra.http")

Random = Callable[[int], bytes]


class ApiKeyNotFound(NotFoundError):
    """No API key has this id."""


class ScopeMalformed(InvalidError):
    """A scope is lower-case words such as `credit:submit`."""


class ScopeUnknown(InvalidError):
    """No route asks for this scope."""


class TokenMalformed(InvalidError):
    """An API key's token is `fg_<id>_<secret>`."""


class ClientIdMalformed(InvalidError):
    """A client id is 1 to 64 letters, digits, `.`, `_` or `-`, and begins with a letter or digit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewApiKey:
    """A key just made. `token` is what the client sends; it is shown once and kept nowhere."""

    id: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiKey:
    """What is known of a key. `revoked_at` is None while it works."""

    id: str
    client_id: str
    scopes: frozenset[str]
    note: str
    created_at: datetime
    revoked_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveKey:
    """What authentication needs of a key that works, and the limits that its client has of its own by policy."""

    client_id: str
    scopes: frozenset[str]
    secret_hash: bytes = field(repr=False)
    limits: Mapping[str, Rate] = field(default_factory=dict)


async def create_api_key(
    connection: Connection,
    *,
    client_id: str,
    scopes: Sequence[str],
    now: datetime,
    note: str = "",
    random: Random = os.urandom,
) -> NewApiKey:
    """Make a key for a client. Raises ClientIdMalformed and ScopeMalformed."""
    require_client_id(client_id)
    for scope in scopes:
        if not _SCOPE.fullmatch(scope):
            raise ScopeMalformed(f"not a scope: {scope!r}")
    key_id, secret = random(_ID_BYTES).hex(), random(_SECRET_BYTES).hex()
    row = {"id": key_id, "client_id": client_id, "scopes": sorted(set(scopes)), "note": note, "now": now}
    await connection.execute(_queries["create_key"], {**row, "secret_hash": hash_secret(secret)})
    return NewApiKey(id=key_id, token=f"fg_{key_id}_{secret}")


def make_token(random: Random = os.urandom) -> str:
    """Return the token of a key that nobody knows yet (`keep_api_key`)."""
    return f"fg_{random(_ID_BYTES).hex()}_{random(_SECRET_BYTES).hex()}"


async def keep_api_key(
    connection: Connection, token: str, *, client_id: str, scopes: Sequence[str], now: datetime, note: str
) -> None:
    """Let a token be a key of a client; one that is known stays as it is, also if it was revoked."""
    parsed = parse_token(token)
    if parsed is None:
        raise TokenMalformed("not a token of an API key")
    key_id, secret = parsed
    row = {"id": key_id, "client_id": client_id, "scopes": sorted(set(scopes)), "note": note, "now": now}
    await connection.execute(_queries["keep_key"], {**row, "secret_hash": hash_secret(secret)})


def require_client_id(client_id: str) -> None:
    """Raise ClientIdMalformed for what cannot be a client's id."""
    if not _CLIENT_ID.fullmatch(client_id):
        raise ClientIdMalformed(
            "a client id is 1 to 64 letters, digits, '.', '_' or '-', and begins with a letter or digit"
        )


def require_known_scopes(scopes: Sequence[str]) -> None:
    """Raise ScopeUnknown for a scope that no route asks for, and for no scope at all."""
    unknown = sorted(set(scopes) - KNOWN_SCOPES)
    if unknown or not scopes:
        known = ", ".join(sorted(KNOWN_SCOPES))
        raise ScopeUnknown(f"no route asks for the scope {', '.join(unknown) or '(none)'}; there are {known}")


async def revoke_api_key(connection: Connection, *, key_id: str, now: datetime) -> datetime:
    """End a key and return since when it is revoked; the second time changes nothing. Raises ApiKeyNotFound.

    A running process notices within the time for which it keeps keys (`Authenticator`, 3 s).
    """
    cursor = await connection.execute(_queries["revoke_key"], {"id": key_id, "now": now})
    row = await cursor.fetchone()
    if row is None:
        raise ApiKeyNotFound(f"there is no API key {key_id}", id=key_id)
    revoked_at: datetime = row["revoked_at"]
    return revoked_at


async def list_api_keys(connection: Connection) -> Sequence[ApiKey]:
    """Return every key ever made, oldest first."""
    cursor = await connection.execute(_queries["list_keys"])
    return [ApiKey(**{**row, "scopes": frozenset(row["scopes"])}) for row in await cursor.fetchall()]


async def find_live_key(connection: Connection, *, key_id: str) -> LiveKey | None:
    """Return the key of this id if it was not revoked."""
    cursor = await connection.execute(_queries["find_key"], {"id": key_id})
    row = await cursor.fetchone()
    if row is None:
        return None
    limits = {policy: Rate(**numbers) for policy, numbers in row["limits"].items()}
    return LiveKey(**{**row, "scopes": frozenset(row["scopes"]), "limits": limits})


def parse_token(token: str) -> tuple[str, str] | None:
    """Split a token into key id and secret, or return None if it is none."""
    match = _TOKEN.fullmatch(token)
    return (match[1], match[2]) if match else None


def hash_secret(secret: str) -> bytes:
    """Return the 32 bytes under which a secret is kept."""
    return hashlib.sha256(secret.encode()).digest()
