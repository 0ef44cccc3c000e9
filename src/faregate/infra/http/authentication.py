"""Who calls: an API key from `Authorization: Bearer` or `X-Api-Key`, looked up in memory first.

Which objects a caller may see is decided where the objects are; here, only who it is and with which scopes.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import psycopg
from starlette.requests import Request

from faregate.infra.database import Database, DatabaseUnavailable
from faregate.infra.http.api_keys import LiveKey, find_live_key, hash_secret, parse_token
from faregate.infra.rate import Rate
from faregate.infra.single_flight import SingleFlight
from faregate.kernel.errors import ForbiddenError

CACHE_S = 3.0
OUTAGE_S = 60.0
LOOK_UP_S_MAX = 0.5
RETRY_S = 1.0
_ENTRIES_MAX = 10_000


class Unauthenticated(ForbiddenError):
    """The request has no API key, or one that is unknown or revoked.

    Send `Authorization: Bearer fg_…` (or `X-Api-Key: fg_…`) with a key made by `faregate keys create`.
    """

    @property
    def headers(self) -> dict[str, str]:
        """The challenge that RFC 9110 asks for."""
        return {"WWW-Authenticate": 'Bearer realm="faregate"'}


class ScopeMissing(ForbiddenError):
    """The API key is good, but lacks the scope that this route needs.

    Ask for a key with the scope named in `scope`.
    """


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated client. A scope is never implied by another one, `admin` included.

    `limits` are those that the client has of its own, by policy.
    """

    client_id: str
    scopes: frozenset[str]
    limits: Mapping[str, Rate] = field(default_factory=dict, hash=False)


@dataclass(slots=True)
class _Remembered:
    key: LiveKey | None
    loaded_at_s: float
    ask_again_at_s: float


class Authenticator:
    """Turns requests into callers. It remembers keys for `cache_s`: so late is a revocation seen.

    While the database does not answer, a key that was good goes on for `OUTAGE_S`: what the cache can answer is.
    """

    def __init__(
        self,
        *,
        database: Database,
        cache_s: float = CACHE_S,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._cache_s = cache_s
        self._monotonic = monotonic
        self._remembered: dict[str, _Remembered] = {}
        self._loading: SingleFlight[str, LiveKey | None] = SingleFlight()

    async def caller(self, request: Request) -> Caller:
        """Return who sent the request, or raise Unauthenticated."""
        return await self.caller_of(_token_of(request))

    async def caller_of(self, token: str) -> Caller:
        """Return whose key this is, or raise Unauthenticated."""
        parsed = parse_token(token)
        if parsed is None:
            raise Unauthenticated("an API key is needed")
        key_id, secret = parsed
        key = await self._key(key_id)
        known_hash = key.secret_hash if key else bytes(32)
        if not hmac.compare_digest(hash_secret(secret), known_hash) or key is None:
            raise Unauthenticated("the API key is not valid")
        return Caller(key.client_id, key.scopes, key.limits)

    def require(self, scope: str) -> Requirement:
        """Return the check of a route: `await check(request)`, or `Depends(check)`."""
        return Requirement(authenticator=self, scope=scope)

    async def _key(self, key_id: str) -> LiveKey | None:
        remembered, now_s = self._remembered.get(key_id), self._monotonic()
        if remembered is not None and now_s < remembered.ask_again_at_s:
            return remembered.key
        if remembered is None or remembered.key is None or now_s > remembered.loaded_at_s + OUTAGE_S:
            return await self._loading(key_id, lambda: self._load(key_id))
        try:
            async with asyncio.timeout(LOOK_UP_S_MAX):
                return await self._loading(key_id, lambda: self._load(key_id))
        except (TimeoutError, DatabaseUnavailable, psycopg.OperationalError):
            remembered.ask_again_at_s = self._monotonic() + RETRY_S
            return remembered.key

    async def _load(self, key_id: str) -> LiveKey | None:
        now_s = self._monotonic()
        async with self._database.connection() as connection:
            key = await find_live_key(connection, key_id=key_id)
        if len(self._remembered) >= _ENTRIES_MAX:
            self._remembered.clear()  # made-up ids fill it; the real ones come back with one query each
        self._remembered[key_id] = _Remembered(key, now_s, now_s + self._cache_s)
        return key


class Requirement:
    """The check that a caller has one scope."""

    def __init__(self, *, authenticator: Authenticator, scope: str) -> None:
        self._authenticator = authenticator
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        """Return the caller. Raises Unauthenticated or ScopeMissing."""
        return self._checked(await self._authenticator.caller(request))

    async def of_token(self, token: str) -> Caller:
        """Return whose key this is, for a command. Raises Unauthenticated or ScopeMissing."""
        return self._checked(await self._authenticator.caller_of(token))

    def _checked(self, caller: Caller) -> Caller:
        if self.scope not in caller.scopes:
            raise ScopeMissing(f"this needs the scope {self.scope}", scope=self.scope)
        return caller


def _token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("x-api-key", "")
