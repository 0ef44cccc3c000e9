"""Asks the fraud service for a score over HTTP, and gives up after a hard time, connecting included.

Whatever does not end in a whole, documented answer in time is no answer. What is done then is for the policy.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal

import aiohttp
import orjson
import structlog
from opentelemetry import propagate
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from yarl import URL

from faregate.payments.contracts.payments import Attempt
from faregate.payments.contracts.scoring import Asked, NoScore, Reason, Score, ScorerAction

DEADLINE_S: Final = 0.080
"""The hard time of a score."""
DEADLINE_HEADER: Final = "X-Deadline-Ms"
ROUTE: Final = "/api/fraud/score"
_ANSWER_BYTES_MAX: Final = 256 * 1024
_log = structlog.get_logger(__name__)


class _Answered(BaseModel):
    model_config = ConfigDict(extra="ignore", strict=True, frozen=True)


class _Reason(_Answered):
    code: str = Field(min_length=1, max_length=100)
    source: Literal["rule", "model"]
    text: str = Field(max_length=500)


class _Answer(_Answered):
    """The documented part of a score that is read here."""

    decision_id: str = Field(min_length=1, max_length=100)
    payment_id: str
    action: ScorerAction = Field(strict=False)
    score: float | None = Field(ge=0, le=1)
    reasons: list[_Reason] = Field(max_length=200)
    degraded: list[
        Literal["features_missing", "features_stale", "model_missing", "rules_missing", "audit_spooled"]
    ]
    ruleset: dict[str, Any] | None
    model: dict[str, Any] | None
    features: dict[str, Any] | None


class HttpScorer:
    """The fraud service as payments ask it. `session` keeps its connections; it is the scorer's alone.

    Two clocks hold to the deadline: a timer (`timer_s` where a test wants another) ends a call that waits, `monotonic`
    says of an answer that came whether it was in time, should the process have been late to look.
    """

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        key: str,
        deadline_s: float = DEADLINE_S,
        timer_s: float | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._session = session
        self._url = URL(base_url.rstrip("/") + ROUTE)
        self._headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
        self._deadline_s = deadline_s
        self._timer_s = deadline_s if timer_s is None else timer_s
        self._monotonic = monotonic

    async def score(self, payment_id: str, attempt: Attempt) -> Asked:
        """Return what came of it within the hard time."""
        began = self._monotonic()
        try:
            async with asyncio.timeout(self._timer_s):
                came = await self._ask(payment_id, attempt)
        except TimeoutError:
            came = NoScore("timed_out")
        waited_s = self._monotonic() - began
        if isinstance(came, Score) and waited_s > self._deadline_s:
            came = NoScore("timed_out")  # it was there, but we were late to see it
        if isinstance(came, NoScore):
            _log.warning("payments.no_score", payment_id=payment_id, why=came.why)
        return Asked(came=came, waited_us=round(waited_s * 1e6))

    async def _ask(self, payment_id: str, attempt: Attempt) -> Score | NoScore:
        headers = {**self._headers, DEADLINE_HEADER: str(int(self._deadline_s * 1000))}
        propagate.inject(headers)
        try:
            async with self._session.post(
                self._url, data=_body(payment_id, attempt), headers=headers, allow_redirects=False
            ) as answer:
                body = await _whole(answer)
        except aiohttp.ClientConnectorError:
            return NoScore("not_connected")
        except (aiohttp.ClientError, ConnectionError):
            return NoScore("connection_lost")
        if body is None:
            return NoScore("answer_too_large")
        if answer.status != 200:
            return NoScore(f"http_{answer.status}")
        return _read(body, payment_id)


async def _whole(answer: aiohttp.ClientResponse) -> bytes | None:
    """Return the whole body; None for one that is longer than any documented one."""
    body = bytearray()
    async for chunk in answer.content.iter_any():
        body += chunk
        if len(body) > _ANSWER_BYTES_MAX:
            return None
    return bytes(body)


def _read(body: bytes, payment_id: str) -> Score | NoScore:
    try:
        said = _Answer.model_validate(orjson.loads(body))
    except (ValidationError, ValueError):
        return NoScore("answer_not_understood")
    if said.payment_id != payment_id:
        return NoScore("answer_to_another")
    return Score(
        decision_id=said.decision_id,
        action=said.action,
        score=said.score,
        reasons=tuple(Reason(code=one.code, source=one.source, text=one.text) for one in said.reasons),
        degraded=tuple(said.degraded),
        ruleset=said.ruleset,
        model=said.model,
        features=said.features,
    )


def _body(payment_id: str, attempt: Attempt) -> bytes:
    asked: Mapping[str, Any] = {
        "payment_id": payment_id,
        "card_token": attempt.card_token,
        "member_id": attempt.member_id,
        "amount_minor": attempt.amount_minor,
        "currency": attempt.currency,
        "merchant": attempt.merchant,
        "merchant_category": attempt.merchant_category,
        "channel": attempt.channel,
        "country": attempt.country,
        "terminal_id": attempt.terminal_id,
        "device_id": attempt.device_id,
        "ip": attempt.ip,
        "occurred_at": attempt.occurred_at,
    }
    return orjson.dumps(asked)
