"""Who calls: an API key from `Authorization: Bearer` or `X-Api-Key`, looked up in memory first.

Which objects a caller may see is decided where the objects are; here, only who it is and with which scopes.
"""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from faregate.infra.database import Database
from faregate.infra.http.api_keys import LiveKey, find_live_key, hash_secret, parse_token
from faregate.kernel.errors import ForbiddenError

CACHE_S = 3.0
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
    """An authenticated client. A scope is never implied by another one, `admin` included."""

    client_id: str
    scopes: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Remembered:
    key: LiveKey | None
    good_until_s: float


class Authenticator:
    """Turns requests into callers. It remembers keys for `cache_s`: so late is a revocation seen."""

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
        self._loading: dict[str, asyncio.Task[LiveKey | None]] = {}

    async def caller(self, request: Request) -> Caller:
        """Return who sent the request, or raise Unauthenticated."""
        parsed = parse_token(_token_of(request))
        if parsed is None:
            raise Unauthenticated("an API key is needed")
        key_id, secret = parsed
        key = await self._key(key_id)
        known_hash = key.secret_hash if key else bytes(32)
        if not hmac.compare_digest(hash_secret(secret), known_hash) or key is None:
            raise Unauthenticated("the API key is not valid")
        return Caller(key.client_id, key.scopes)

    def require(self, scope: str) -> Requirement:
        """Return the check of a route: `await check(request)`, or `Depends(check)`."""
        return Requirement(authenticator=self, scope=scope)

    async def _key(self, key_id: str) -> LiveKey | None:
        remembered = self._remembered.get(key_id)
        if remembered is not None and self._monotonic() < remembered.good_until_s:
            return remembered.key
        loading = self._loading.get(key_id)
        if loading is None:  # one look-up, however many requests wait for it
            loading = self._loading[key_id] = asyncio.create_task(self._load(key_id))
            loading.add_done_callback(lambda _: self._loading.pop(key_id, None))
        return await asyncio.shield(loading)

    async def _load(self, key_id: str) -> LiveKey | None:
        good_until_s = self._monotonic() + self._cache_s
        async with self._database.connection() as connection:
            key = await find_live_key(connection, key_id=key_id)
        if len(self._remembered) >= _ENTRIES_MAX:
            self._remembered.clear()  # made-up ids fill it; the real ones come back with one query each
        self._remembered[key_id] = _Remembered(key, good_until_s)
        return key


class Requirement:
    """The check that a caller has one scope."""

    def __init__(self, *, authenticator: Authenticator, scope: str) -> None:
        self._authenticator = authenticator
        self.scope = scope

    async def __call__(self, request: Request) -> Caller:
        """Return the caller. Raises Unauthenticated or ScopeMissing."""
        caller = await self._authenticator.caller(request)
        if self.scope not in caller.scopes:
            raise ScopeMissing(f"this needs the scope {self.scope}", scope=self.scope)
        return caller


def _token_of(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return request.headers.get("x-api-key", "")
