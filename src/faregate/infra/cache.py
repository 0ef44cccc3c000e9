"""The door to Valkey. What stands in it can be lost at any time, and rebuilt from the tables."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import SplitResult, unquote, urlsplit

from glide import (
    AdvancedGlideClientConfiguration,
    BackoffStrategy,
    Batch,
    GlideClient,
    GlideClientConfiguration,
    GlideError,
    InfoSection,
    Logger,
    LogLevel,
    NodeAddress,
    RequestError,
    Script,
    ServerCredentials,
)

from faregate.kernel.errors import InvalidError, UnavailableError

REQUEST_TIMEOUT_MS = 250
RETRY_AFTER_S = 1.0
PORT_DEFAULT = 6379

_NOT_A_URL = "FAREGATE_VALKEY_URL is no URL of a Valkey: write redis://host:6379 or unix:///path"

# Waits of 50, 100, 200 and from then on 400 ms: the library's own grow to seconds.
_RECONNECT = BackoffStrategy(num_of_retries=3, factor=50, exponent_base=2)

# Values stand behind their revision: "7:…".
_PUT_NEWEST = Script(  # type: ignore[no-untyped-call]
    """
local found = redis.call('GET', KEYS[1])
local newest = found and tonumber(string.match(found, '^(%d+):'))
if newest and newest > tonumber(ARGV[1]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1] .. ':' .. ARGV[2], 'PX', ARGV[3])
return 1
"""
)

_T = TypeVar("_T")

Logger.set_logger_config(LogLevel.OFF)  # it writes to stdout, where commands print JSON


class CacheUnavailable(UnavailableError):
    """Valkey does not answer. The caller goes on without it."""


class InvalidCacheUrl(InvalidError):
    """The URL of the cache is none of `unix:///path`, `/path`, `redis://…` and `rediss://…`."""


class FunctionMissing(UnavailableError):
    """Valkey does not know the function: it was started empty since. Load the functions again."""


class FunctionFailed(InvalidError):
    """A function of ours raised an error."""


class Cache:
    """Bytes by key, each with a revision and a time to live. Make it with `Cache.open`.

    A Valkey that does not answer costs the calls that are under way their time-out; then every call raises
    CacheUnavailable at once, and one call every `retry_after_s` tries again.
    """

    def __init__(self, client: GlideClient, *, request_timeout_s: float, retry_after_s: float) -> None:
        self._client = client
        self._request_timeout_s = request_timeout_s
        self._retry_after_s = retry_after_s
        self._try_again_at = 0.0

    @classmethod
    async def open(
        cls, url: str, *, request_timeout_ms: int = REQUEST_TIMEOUT_MS, retry_after_s: float = RETRY_AFTER_S
    ) -> Cache:
        """Make a client that connects at its first call: a Valkey that is down keeps nobody from starting."""
        configuration = configuration_of(url)
        configuration.request_timeout = request_timeout_ms
        configuration.lazy_connect = True
        configuration.advanced_config = AdvancedGlideClientConfiguration(
            connection_timeout=request_timeout_ms
        )
        configuration.reconnect_strategy = _RECONNECT
        return cls(
            await GlideClient.create(configuration),
            request_timeout_s=request_timeout_ms / 1000,
            retry_after_s=retry_after_s,
        )

    async def close(self) -> None:
        """Close the connection."""
        await self._client.close()

    async def get(self, key: str) -> bytes | None:
        """Return the value, or None when there is none (any more)."""
        found = await self._guarded(lambda: self._client.get(key))
        return None if found is None else found.partition(b":")[2]

    async def get_plain(self, key: str) -> bytes | None:
        """Return what a function of ours has set, which has no revision; None when there is nothing."""
        return await self._guarded(lambda: self._client.get(key))

    async def put(self, key: str, value: bytes, *, revision: int, ttl_s: float) -> None:
        """Keep the value for `ttl_s` seconds, to the millisecond, unless one of a higher revision is there.

        So a write that arrives late, or comes from a process that fell behind, never hides a newer one.
        """
        arguments: list[str | bytes] = [str(revision), value, str(max(1, round(ttl_s * 1000)))]
        await self._guarded(lambda: self._client.invoke_script(_PUT_NEWEST, keys=[key], args=arguments))

    async def delete(self, *keys: str) -> None:
        """Forget the keys; unknown ones are no error."""
        if keys:
            await self._guarded(lambda: self._client.delete(list(keys)))

    async def clear(self) -> None:
        """Forget everything."""
        await self._guarded(self._client.flushall)

    async def run_script(self, script: Script, *, keys: Sequence[str], arguments: Sequence[str]) -> Any:
        """Run a script of our own in Valkey, at once and alone, and return what it answered."""
        return await self._guarded(
            lambda: self._client.invoke_script(script, keys=[*keys], args=[*arguments])
        )

    async def load_functions(self, library: str) -> None:
        """Load a library of functions of our own, in place of one with the same name."""
        await self._guarded(lambda: self._client.function_load(library, replace=True))

    async def call_function(self, name: str, arguments: Sequence[str | bytes]) -> Any:
        """Call a function of a library, at once and alone. Raises FunctionMissing and FunctionFailed."""
        [answer] = await self.call_functions([(name, arguments)])
        return answer

    async def call_functions(self, calls: Sequence[tuple[str, Sequence[str | bytes]]]) -> Sequence[Any]:
        """Call functions one after the other in one round trip; others' calls may come in between.

        One that fails keeps none of the others from being called. Raises what the first one failed with.
        """
        pipeline = Batch(is_atomic=False)
        for name, arguments in calls:
            pipeline.fcall(name, arguments=[*arguments])
        answers = await self._guarded(lambda: self._client.exec(pipeline, raise_on_error=False))
        for answer in answers or ():
            if isinstance(answer, RequestError):
                raise _of_function(answer)
        return answers or ()

    async def delete_prefix(self, prefix: str) -> int:
        """Forget all keys that begin so, a few hundred at a time, and return how many those were."""
        cursor, deleted = "0", 0
        while True:
            found: Any = await self._guarded(partial(self._client.scan, cursor, f"{prefix}*", 1_000))
            cursor, keys = found[0].decode(), found[1]
            if keys:
                deleted += await self._guarded(partial(self._client.unlink, keys))
            if cursor == "0":
                return deleted

    async def incarnation(self) -> str:
        """Return what names this run of the server: another one after each of its starts."""
        return (await self._info(InfoSection.SERVER))["run_id"]

    async def memory_bytes(self) -> int:
        """Return how many bytes Valkey's data take."""
        return int((await self._info(InfoSection.MEMORY))["used_memory_dataset"])

    async def _info(self, section: InfoSection) -> Mapping[str, str]:
        found = await self._guarded(lambda: self._client.info([section]))
        return dict(line.split(":", 1) for line in found.decode().splitlines() if ":" in line)

    async def ping(self) -> None:
        """Return if Valkey answers, otherwise raise CacheUnavailable."""
        await self._guarded(self._client.ping)

    async def _guarded(self, call: Callable[[], Awaitable[_T]]) -> _T:
        now = asyncio.get_running_loop().time
        if now() < self._try_again_at:
            raise CacheUnavailable("Valkey did not answer a moment ago")
        if self._try_again_at:
            # This call is the probe; the others do not wait for it.
            self._try_again_at = now() + self._retry_after_s
        try:
            # The library's own time-out begins with the connection, and tries one after the other for each call.
            async with asyncio.timeout(self._request_timeout_s):
                answer = await call()
        except (GlideError, OSError, TimeoutError) as error:
            self._try_again_at = now() + self._retry_after_s
            raise CacheUnavailable(f"Valkey does not answer: {error}") from error
        self._try_again_at = 0.0
        return answer


def _of_function(error: RequestError) -> FunctionMissing | FunctionFailed | CacheUnavailable:
    text = str(error)
    if "Function not found" in text:
        return FunctionMissing("Valkey does not know the function")
    if "user_function" in text or "script:" in text:
        return FunctionFailed(text)
    return CacheUnavailable(f"Valkey does not answer: {text}")


def configuration_of(url: str) -> GlideClientConfiguration:
    """Read `unix:///path`, `/path`, `redis://[user:password@]host[:port][/db]` or `rediss://…` (TLS).

    Raises InvalidCacheUrl, which never repeats the URL: there may be a password in it.
    """
    try:
        return _configuration(urlsplit(url))
    except ValueError:  # of urllib: a port that is no number, half an IPv6 address
        raise InvalidCacheUrl(_NOT_A_URL) from None


def _configuration(parts: SplitResult) -> GlideClientConfiguration:
    if parts.scheme in ("", "unix") and parts.path.startswith("/") and not parts.netloc:
        return GlideClientConfiguration([NodeAddress(unix_socket_path=Path(unquote(parts.path)))])
    if parts.scheme not in ("redis", "rediss", "valkey", "valkeys") or not parts.hostname:
        raise InvalidCacheUrl(_NOT_A_URL)
    database = parts.path.strip("/")
    if database and not database.isdigit():
        raise InvalidCacheUrl("FAREGATE_VALKEY_URL ends with the number of a database, or with none")
    return GlideClientConfiguration(
        [NodeAddress(parts.hostname, parts.port or PORT_DEFAULT)],
        use_tls=parts.scheme in ("rediss", "valkeys"),
        credentials=_credentials(unquote(parts.username or ""), unquote(parts.password or "")),
        database_id=int(database) if database else None,
    )


def _credentials(username: str, password: str) -> ServerCredentials | None:
    if not password:
        return None
    return ServerCredentials(password=password, username=username or None)
