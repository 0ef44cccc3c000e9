"""The fraud bureau: JSON, requests signed over timestamp, method, path and body, the score in the answer."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

import aiohttp
import orjson
from pydantic import Field
from yarl import URL

from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import (
    Answer,
    Documented,
    exchange,
    expect_reference,
    looked_up,
    no_callback,
    says_not_found,
    submitted,
)
from faregate.kernel.clock import Clock
from faregate.kernel.outcome import Done, NotDone, Outcome, Unknown

NAME: Final = "fraud"


class _Verdict(Documented):
    level: Literal["LOW", "MEDIUM", "HIGH"]
    score: float = Field(ge=0, le=1)


class _Screening(Documented):
    request_id: str
    verdict: _Verdict


class FraudAdapter:
    """Speaks the fraud bureau's protocol. `base_url` ends before `/screenings`."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        hmac_secret: str,
        clock: Clock,
        timeout_s: float = 3.0,
        look_up_lag_s_max: float = 2.0,
    ) -> None:
        self.capabilities = Capabilities(
            provider=NAME,
            asynchronous=False,
            deduplicates=True,
            look_up_lag_s_max=look_up_lag_s_max,
            timeout_s=timeout_s,
            callback=False,
            polls=False,
        )
        self._session = session
        self._screenings = URL(base_url) / "screenings"
        self._secret = hmac_secret.encode()
        self._clock = clock

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Ask for a screening."""
        body = orjson.dumps(_body(request))
        sent = await self._signed("POST", self._screenings, body, timeout_s=timeout_s)
        read = partial(_read, reference=request.provider_request_id)
        return submitted(sent, read=read, asynchronous=False)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Ask for the verdict of an earlier screening."""
        sent = await self._signed("GET", self._screenings / provider_request_id, b"", timeout_s=timeout_s)
        return looked_up(
            sent,
            read=partial(_read, reference=provider_request_id),
            not_found=partial(says_not_found, field="reference", reference=provider_request_id),
        )

    def read_callback(self, body: Mapping[str, Any]) -> Callback:  # noqa: ARG002 - the protocol's method
        """Refuse: the fraud bureau answers at once and never calls back."""
        raise no_callback(NAME)

    async def _signed(
        self, method: str, url: URL, body: bytes, *, timeout_s: float
    ) -> Answer | NotDone | Unknown:
        """Sign the bytes that are sent, after they were serialised."""
        timestamp = str(int(self._clock.now().timestamp()))
        message = f"{timestamp}\n{method}\n{url.raw_path}\n".encode() + body
        headers = {
            "Content-Type": "application/json",
            "X-Timestamp": timestamp,
            "X-Signature": hmac.new(self._secret, message, hashlib.sha256).hexdigest(),
        }
        return await exchange(
            self._session, method, url, timeout_s=timeout_s, headers=headers, body=body or None
        )


def _body(request: ProviderRequest) -> Mapping[str, Any]:
    subject = request.subject
    return {
        "request_id": request.provider_request_id,
        "name": subject["legal_name"],
        "dob": subject["dob"],
        "ssn4": subject["ssn_last4"],
        "income": subject["annual_income"],
    }


def _read(body: bytes, *, reference: str) -> Outcome:
    screening = _Screening.model_validate_json(body)
    expect_reference(screening.request_id, ours=reference)
    verdict = screening.verdict
    return Done({"fraud_level": verdict.level.lower(), "fraud_score": verdict.score})
