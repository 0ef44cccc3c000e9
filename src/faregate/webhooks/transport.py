"""Sends one signed request to an address that was checked. When to send, and what an answer means, stand elsewhere.

The address that is connected to is the one that was checked: names are resolved here, once a connection, and the
socket is only made for what passed. A name that answers differently the next time gains nothing.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import ip_address
from ssl import SSLContext
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from faregate.kernel.clock import Clock
from faregate.webhooks.domain.addresses import AddressRules
from faregate.webhooks.domain.schedule import Answer

TIMEOUT_S = 20.0
"""Longest that an endpoint may take to answer, connecting included."""
ANSWER_BYTES_MAX = 64 * 1024
"""What is read of an answer's body; none of it is looked at. A longer one costs its sender the connection."""
USER_AGENT = "faregate-webhooks/1"

LookUp = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host name and port into addresses, as text."""


class AddressRefused(Exception):
    """A host has an address that must not be connected to. The address is not told: it may be one of ours."""


class Transport:
    """Posts messages. Make it with `open_transport`."""

    def __init__(self, *, session: aiohttp.ClientSession, clock: Clock) -> None:
        self._session = session
        self._clock = clock

    async def post(self, url: str, *, headers: Mapping[str, str], body: bytes) -> Answer:
        """Send a message and return what it brought; a failure is an answer without status. Follows no redirect."""
        try:
            async with self._session.post(url, headers=headers, data=body, allow_redirects=False) as response:
                await _drain(response)
                return Answer(status=response.status, retry_after_s=self._retry_after_s(response))
        except TimeoutError:
            return Answer(error="timed_out")
        except AddressRefused:
            return Answer(error="address_refused")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return Answer(error=_reason(error))

    def _retry_after_s(self, response: aiohttp.ClientResponse) -> float | None:
        """Read `Retry-After` (RFC 9110): seconds or a date; what is neither counts as absent."""
        given = response.headers.get("Retry-After", "").strip()
        if given.isascii() and given.isdigit():
            return float(given[:9])
        try:
            until = parsedate_to_datetime(given)
        except (ValueError, OverflowError):
            return None
        return (_aware(until) - self._clock.now()).total_seconds()


@asynccontextmanager
async def open_transport(
    *,
    clock: Clock,
    rules: AddressRules,
    timeout_s: float = TIMEOUT_S,
    look_up: LookUp | None = None,
    tls: SSLContext | None = None,
) -> AsyncIterator[Transport]:
    """Open the connections to endpoints. `look_up` resolves names (None: the machine's resolver)."""
    connector = aiohttp.TCPConnector(
        limit=0,
        resolver=_CheckedResolver(rules=rules, look_up=look_up or _system_look_up),
        use_dns_cache=False,
        socket_factory=lambda info: _checked_socket(info, rules),
        ssl=tls or True,
    )
    async with aiohttp.ClientSession(
        connector=connector,
        timeout=aiohttp.ClientTimeout(total=timeout_s),
        headers={"User-Agent": USER_AGENT, "Content-Type": "application/json"},
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    ) as session:
        yield Transport(session=session, clock=clock)


class _CheckedResolver(AbstractResolver):
    """Resolves names, and refuses one if it has no address or any of them is refused."""

    def __init__(self, *, rules: AddressRules, look_up: LookUp) -> None:
        self._rules = rules
        self._look_up = look_up

    async def resolve(
        self,
        host: str,
        port: int = 0,
        family: socket.AddressFamily = socket.AF_UNSPEC,  # noqa: ARG002 - every address counts
    ) -> list[ResolveResult]:
        addresses = await self._look_up(host, port)
        if not addresses or not all(self._rules.allows(ip_address(address)) for address in addresses):
            raise AddressRefused(host)
        return [_resolved(host, address, port) for address in addresses]

    async def close(self) -> None:
        """There is nothing to close."""


def _resolved(host: str, address: str, port: int) -> ResolveResult:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    return ResolveResult(
        hostname=host, host=address, port=port, family=family, proto=0, flags=socket.AI_NUMERICHOST
    )


def _checked_socket(info: Any, rules: AddressRules) -> socket.socket:
    """Make the socket of a connection; the last look, which a host that is written as an address meets first."""
    family, kind, protocol, _, address = info
    if not rules.allows(ip_address(address[0])):
        raise AddressRefused(address[0])
    return socket.socket(family, kind, protocol)


async def _system_look_up(host: str, port: int) -> Sequence[str]:
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


async def _drain(response: aiohttp.ClientResponse) -> None:
    """Read a short body to its end, so that the connection can be used again; close on a long one."""
    left = ANSWER_BYTES_MAX
    async for chunk in response.content.iter_any():
        left -= len(chunk)
        if left < 0:
            response.close()
            return


def _reason(error: Exception) -> str:
    if isinstance(error, aiohttp.ClientConnectorDNSError):
        return "name_not_resolved"
    if isinstance(error, (aiohttp.ClientSSLError, aiohttp.ServerFingerprintMismatch)):
        return "tls_failed"
    if isinstance(error, (aiohttp.ClientConnectorError, ConnectionError)):
        return "connection_failed"
    return "no_answer"


def _aware(instant: datetime) -> datetime:
    return instant if instant.tzinfo else instant.replace(tzinfo=UTC)
