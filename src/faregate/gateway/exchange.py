"""One HTTP exchange with a provider, and what its end says about the work: done, not done, or unknown.

Whatever fails before a byte was sent was not done. Whatever fails later, or says nothing that the provider
documents, is unknown: the work may have been done, and a guess could pay for it twice. What the bodies mean
does not belong here; each provider's file reads its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import aiohttp
import orjson
from opentelemetry import propagate
from pydantic import BaseModel, ConfigDict
from yarl import URL

from faregate.gateway.contracts import Callback
from faregate.gateway.last_check import TooLateToSend, sending_once
from faregate.kernel.errors import FaregateError, InvalidError
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

ANSWER_BYTES_MAX: Final = 1_000_000
CONNECT_S_MAX: Final = 2.0
DEADLINE_HEADER: Final = "X-Request-Deadline-Ms"
"""How many milliseconds we go on waiting, so that a provider need not work for nobody: relative, as clocks differ."""
POLL_AFTER_S: Final = 1.0
RETRY_AFTER_S_MAX: Final = 86_400.0

_NOT_SENT: Final = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
_REFUSED_BEFORE_WORK: Final = {
    400: "bad_request",
    401: "unauthorised",
    403: "forbidden",
    404: "no_such_address",
    405: "no_such_method",
    413: "request_too_large",
    415: "wrong_media_type",
    422: "refused_request",
}
"""Checked before the work, as every provider documents: not done, and refused again if sent again."""


class CallbackNotUnderstood(InvalidError, ValueError):
    """A callback whose signature is right but whose body is not what the provider documents."""


class Documented(BaseModel):
    """The part of a body that a provider documents and we read. What it adds later does no harm."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A whole answer of the provider, whatever its status."""

    status: int
    retry_after_s: float | None
    body: bytes


class AnswerTooLarge(InvalidError):
    """The provider sends more than any documented answer holds."""


async def exchange(
    session: aiohttp.ClientSession,
    method: str,
    url: URL,
    *,
    timeout_s: float,
    headers: Mapping[str, str],
    body: bytes | None = None,
) -> Answer | NotDone | Unknown:
    """Send one request, once, with the current trace, and return its whole answer.

    `NotDone` when certainly nothing was sent, `Unknown` when the connection or the time ended before the
    answer did. Never raises for what the network or the provider does.
    """
    sent_headers = {**headers, DEADLINE_HEADER: str(max(1, round(timeout_s * 1000)))}
    propagate.inject(sent_headers)
    # Connecting must time out first: then nothing was sent, and that is worth knowing.
    timeout = aiohttp.ClientTimeout(total=timeout_s, connect=min(timeout_s / 2, CONNECT_S_MAX))
    try:
        with sending_once():
            async with session.request(
                method, url, data=body, headers=sent_headers, timeout=timeout, allow_redirects=False
            ) as response:
                return Answer(
                    status=response.status,
                    retry_after_s=_retry_after_s(response.headers.get("Retry-After")),
                    body=await _whole_body(response),
                )
    except _NOT_SENT:
        return NotDone("not_connected", retryable=True)
    except TooLateToSend:
        return NotDone("lease_over", retryable=True)
    except TimeoutError:
        return Unknown("timed_out")
    except aiohttp.ClientError:
        return Unknown("connection_lost")
    except AnswerTooLarge:
        return Unknown("answer_too_large")


def submitted(
    sent: Answer | NotDone | Unknown, *, read: Callable[[bytes], Outcome], asynchronous: bool
) -> Outcome:
    """Say what is known after a submit. `read` raises ValueError for a body that is not as documented."""
    if not isinstance(sent, Answer):
        return sent
    if sent.status in (200, 201):
        return understood(sent.body, read)
    if sent.status == 202 and asynchronous:
        return Accepted(poll_after_s=sent.retry_after_s or POLL_AFTER_S)
    if sent.status in _REFUSED_BEFORE_WORK:
        return NotDone(_REFUSED_BEFORE_WORK[sent.status])
    if sent.status == 429:
        return NotDone("rate_limited", retryable=True, retry_after_s=sent.retry_after_s)
    if sent.status == 503:
        return NotDone("unavailable", retryable=True, retry_after_s=sent.retry_after_s)
    return Unknown(f"http_{sent.status}")


def looked_up(
    sent: Answer | NotDone | Unknown,
    *,
    read: Callable[[bytes], Outcome],
    not_found: Callable[[bytes], bool],
) -> Outcome:
    """Say what is known after a look-up.

    That a look-up failed says nothing about the work, so only the provider's own words count: a 404 without
    them may come from a proxy or a wrong address.
    """
    if isinstance(sent, NotDone):
        return Unknown(sent.reason)
    if isinstance(sent, Unknown):
        return sent
    if sent.status == 200:
        return understood(sent.body, read)
    if sent.status == 404 and _holds(not_found, sent.body):
        return NotDone("not_found", retryable=True)
    return Unknown(f"http_{sent.status}")


def understood(body: bytes, read: Callable[[bytes], Outcome]) -> Outcome:
    """Return what a body says, `Unknown` when it is not what the provider documents."""
    try:
        outcome = read(body)
    except (ValueError, FaregateError):
        return Unknown("answer_not_understood")
    return outcome if not isinstance(outcome, Done) else Done(payload=outcome.payload, raw=body)


def says_not_found(body: bytes, *, field: str, reference: str) -> bool:
    """Say whether a JSON body is the documented "not found" about our own reference."""
    value = orjson.loads(body)
    return isinstance(value, dict) and value.get("error") == "not_found" and value.get(field) == reference


def read_callback(
    provider: str, body: Mapping[str, Any], *, facts: Callable[[Mapping[str, Any]], Mapping[str, Any]]
) -> Callback:
    """Read a verified callback; `facts` reads a success's payload. Raises `CallbackNotUnderstood`."""
    reference, payload = body.get("provider_request_id"), body.get("payload")
    if not isinstance(reference, str) or not reference or not isinstance(payload, Mapping):
        raise CallbackNotUnderstood(f"a callback of {provider} lacks its reference or its payload")
    if body.get("status") == "failure":
        return Callback(provider=provider, provider_request_id=reference, outcome=NotDone("refused"))
    if body.get("status") != "success":
        raise CallbackNotUnderstood(f"a callback of {provider} has no documented status")
    try:
        outcome = Done(payload=facts(payload), raw=orjson.dumps(dict(body)))
    except (ValueError, FaregateError) as error:
        raise CallbackNotUnderstood(f"a callback of {provider} has no documented payload") from error
    return Callback(provider=provider, provider_request_id=reference, outcome=outcome)


def no_callback(provider: str) -> CallbackNotUnderstood:
    """Return the error of a provider that never calls back."""
    return CallbackNotUnderstood(f"{provider} answers at once and never calls back")


def expect_reference(given: str, *, ours: str) -> None:
    """Refuse an answer about another request. Raises `ValueError`."""
    if given != ours:
        raise ValueError("the answer is about another request")


def _holds(test: Callable[[bytes], bool], body: bytes) -> bool:
    try:
        return test(body)
    except ValueError:
        return False


async def _whole_body(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for chunk in response.content.iter_any():
        body += chunk
        if len(body) > ANSWER_BYTES_MAX:
            raise AnswerTooLarge("the answer is longer than any documented one", bytes_max=ANSWER_BYTES_MAX)
    return bytes(body)


def _retry_after_s(value: str | None) -> float | None:
    """Return the seconds of a Retry-After header, a day at most; no provider documents its form as a date."""
    return min(float(value), RETRY_AFTER_S_MAX) if value is not None and value.isdecimal() else None
