"""Income and employment: OAuth2 client credentials, 202, the result by polling or by a signed webhook.

A token that fails keeps the request from being sent at all, so it is never a reason for doubt. The webhook's
signature is verified before `read_callback`, not here.
"""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final, Literal

import aiohttp
import orjson
from pydantic import Field, ValidationError
from yarl import URL

from faregate.credit.domain.facts import fact_value
from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import (
    POLL_AFTER_S,
    Answer,
    Documented,
    exchange,
    expect_reference,
    looked_up,
    read_callback,
    says_not_found,
    submitted,
)
from faregate.kernel.clock import Clock
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome, Unknown

NAME: Final = "income"
TOKEN_MARGIN_S: Final = 5.0
"""A token that has less than this to live is not used any more."""


class _TokenAnswer(Documented):
    access_token: str = Field(min_length=1)
    expires_in: float = Field(gt=0)


class _Employment(Documented):
    employed_since: str
    job: str
    checking_account: str
    savings: str
    annual_income: int = Field(ge=0)


class _Verification(Documented):
    client_reference: str
    status: Literal["IN_PROGRESS", "COMPLETE", "REJECTED"]
    employment: _Employment | None = None


@dataclass(frozen=True, slots=True)
class _Token:
    text: str
    good_until: datetime


class _Tokens:
    """One token for all calls, fetched by one of them when it is missing or old."""

    def __init__(
        self, *, session: aiohttp.ClientSession, url: URL, client_id: str, client_secret: str, clock: Clock
    ) -> None:
        self._session = session
        self._url = url
        self._clock = clock
        self._token: _Token | None = None
        self._fetching = asyncio.Lock()
        basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._headers = {
            "Authorization": f"Basic {basic}",
            "Content-Type": "application/x-www-form-urlencoded",
        }

    async def get(self, *, timeout_s: float) -> _Token | NotDone:
        """Return a token, or why there is none: nothing was asked of the provider then."""
        started = time.monotonic()
        async with self._fetching:
            if self._token is not None and self._token.good_until > self._clock.now():
                return self._token
            remaining_s = timeout_s - (time.monotonic() - started)
            if remaining_s <= 0:
                return NotDone("no_token", retryable=True)
            sent = await exchange(
                self._session,
                "POST",
                self._url,
                timeout_s=remaining_s,
                headers=self._headers,
                body=b"grant_type=client_credentials",
            )
            return self._kept(sent)

    def discard(self, token: _Token) -> None:
        """Forget a token that the provider refused."""
        if self._token == token:
            self._token = None

    def _kept(self, sent: Answer | NotDone | Unknown) -> _Token | NotDone:
        if not isinstance(sent, Answer):
            return NotDone("no_token", retryable=True)
        if sent.status in (400, 401, 403):
            return NotDone("unauthorised")
        if sent.status != 200:
            return NotDone("no_token", retryable=True, retry_after_s=sent.retry_after_s)
        try:
            answer = _TokenAnswer.model_validate_json(sent.body)
        except ValidationError:
            return NotDone("no_token", retryable=True)
        life = timedelta(seconds=answer.expires_in - min(TOKEN_MARGIN_S, answer.expires_in / 2))
        self._token = _Token(answer.access_token, self._clock.now() + life)
        return self._token


class IncomeAdapter:
    """Speaks the income provider's protocol. `base_url` ends before `/verifications` and `/oauth`."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        client_id: str,
        client_secret: str,
        clock: Clock,
        timeout_s: float = 3.0,
        look_up_lag_s_max: float = 2.0,
    ) -> None:
        self.capabilities = Capabilities(
            provider=NAME,
            asynchronous=True,
            deduplicates=True,
            look_up_lag_s_max=look_up_lag_s_max,
            timeout_s=timeout_s,
            callback=True,
            polls=True,
            refusal_is_executed=True,
        )
        self._session = session
        self._verifications = URL(base_url) / "verifications"
        self._tokens = _Tokens(
            session=session,
            url=URL(base_url) / "oauth" / "token",
            client_id=client_id,
            client_secret=client_secret,
            clock=clock,
        )

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Ask for a verification; the result comes to `callback_url` and can be fetched."""
        body = orjson.dumps(_body(request))
        sent = await self._authorised("POST", self._verifications, body, timeout_s=timeout_s)
        read = partial(_read, reference=request.provider_request_id)
        return submitted(sent, read=read, asynchronous=True)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Fetch the result, or how far it is."""
        url = self._verifications / provider_request_id
        sent = await self._authorised("GET", url, None, timeout_s=timeout_s)
        return looked_up(
            sent,
            read=partial(_read, reference=provider_request_id),
            not_found=partial(says_not_found, field="reference", reference=provider_request_id),
        )

    def read_callback(self, body: Mapping[str, Any]) -> Callback:
        """Read a verified callback. Raises `CallbackNotUnderstood`."""
        return read_callback(NAME, body, facts=lambda payload: _facts(_Employment.model_validate(payload)))

    async def _authorised(
        self, method: str, url: URL, body: bytes | None, *, timeout_s: float
    ) -> Answer | NotDone | Unknown:
        """Send with a token. A 401 is documented as not done, so once more with a new token is safe."""
        ends = time.monotonic() + timeout_s
        sent = await self._with_token(method, url, body, ends=ends)
        if isinstance(sent, Answer) and sent.status == 401:
            return await self._with_token(method, url, body, ends=ends)
        return sent

    async def _with_token(
        self, method: str, url: URL, body: bytes | None, *, ends: float
    ) -> Answer | NotDone | Unknown:
        token = await self._tokens.get(timeout_s=ends - time.monotonic())
        if isinstance(token, NotDone):
            return token
        remaining_s = ends - time.monotonic()
        if remaining_s <= 0:
            return NotDone("no_time_left", retryable=True)
        headers = {"Authorization": f"Bearer {token.text}", "Content-Type": "application/json"}
        sent = await exchange(self._session, method, url, timeout_s=remaining_s, headers=headers, body=body)
        if isinstance(sent, Answer) and sent.status == 401:
            self._tokens.discard(token)
        return sent


def _body(request: ProviderRequest) -> Mapping[str, Any]:
    subject = request.subject
    return {
        "client_reference": request.provider_request_id,
        "employee": subject["legal_name"],
        "born": subject["dob"],
        "ssn_last4": subject["ssn_last4"],
        "claimed_annual_income": subject["annual_income"],
        "webhook": request.callback_url,
    }


def _read(body: bytes, *, reference: str) -> Outcome:
    verification = _Verification.model_validate_json(body)
    expect_reference(verification.client_reference, ours=reference)
    if verification.status == "IN_PROGRESS":
        return Accepted(poll_after_s=POLL_AFTER_S)
    if verification.status == "REJECTED":
        return NotDone("refused")
    if verification.employment is None:
        raise ValueError("a complete verification has an employment")
    return Done(_facts(verification.employment))


def _facts(employment: _Employment) -> Mapping[str, Any]:
    return {
        "employment": fact_value("employment", label=employment.employed_since),
        "occupation": fact_value("occupation", label=employment.job),
        "checking_account": fact_value("checking_account", label=employment.checking_account),
        "savings": fact_value("savings", label=employment.savings),
        "annual_income_verified": employment.annual_income,
    }
