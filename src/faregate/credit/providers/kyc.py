"""Know your customer: JSON, 202, the result by a callback whose signature stands in the body."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Literal

import aiohttp
import orjson
from pydantic import Field
from yarl import URL

from faregate.credit.domain.facts import fact_value
from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import (
    POLL_AFTER_S,
    Documented,
    exchange,
    expect_reference,
    looked_up,
    read_callback,
    says_not_found,
    submitted,
)
from faregate.kernel.outcome import Accepted, Done, NotDone, Outcome

NAME: Final = "kyc"


class _Result(Documented):
    identity: Literal["verified", "not_verified"]
    watchlist_hits: int = Field(ge=0)
    housing: str
    residence_since: int = Field(ge=1, le=4)
    telephone: str
    people_liable: int = Field(ge=0)


class _Verification(Documented):
    external_id: str
    state: Literal["pending", "completed", "failed"]
    result: _Result | None = None


class KycAdapter:
    """Speaks the KYC provider's protocol. `base_url` ends before `/verifications`."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        api_key: str,
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
            polls=False,
            refusal_is_executed=True,
        )
        self._session = session
        self._verifications = URL(base_url) / "verifications"
        self._headers = {"Authorization": f"Bearer {api_key}", "Content-Type": "application/json"}

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Ask for a verification; the result comes to `callback_url`."""
        sent = await exchange(
            self._session,
            "POST",
            self._verifications,
            timeout_s=timeout_s,
            headers=self._headers,
            body=orjson.dumps(_body(request)),
        )
        read = partial(_read, reference=request.provider_request_id)
        return submitted(sent, read=read, asynchronous=True)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Ask how far a verification is."""
        url = self._verifications / provider_request_id
        sent = await exchange(self._session, "GET", url, timeout_s=timeout_s, headers=self._headers)
        return looked_up(
            sent,
            read=partial(_read, reference=provider_request_id),
            not_found=partial(says_not_found, field="reference", reference=provider_request_id),
        )

    def read_callback(self, body: Mapping[str, Any]) -> Callback:
        """Read a verified callback. Raises `CallbackNotUnderstood`."""
        return read_callback(NAME, body, facts=lambda payload: _facts(_Result.model_validate(payload)))


def _body(request: ProviderRequest) -> Mapping[str, Any]:
    subject = request.subject
    return {
        "external_id": request.provider_request_id,
        "full_name": subject["legal_name"],
        "birth_date": subject["dob"],
        "tax_id_last4": subject["ssn_last4"],
        "declared_income": subject["annual_income"],
        "notify_url": request.callback_url,
    }


def _read(body: bytes, *, reference: str) -> Outcome:
    verification = _Verification.model_validate_json(body)
    expect_reference(verification.external_id, ours=reference)
    if verification.state == "pending":
        return Accepted(poll_after_s=POLL_AFTER_S)
    if verification.state == "failed":
        return NotDone("refused")
    if verification.result is None:
        raise ValueError("a completed verification has a result")
    return Done(_facts(verification.result))


def _facts(result: _Result) -> Mapping[str, Any]:
    return {
        "identity_verified": result.identity == "verified",
        "watchlist_match": result.watchlist_hits > 0,
        "housing": fact_value("housing", label=result.housing),
        "residence_years": result.residence_since,
        "telephone": fact_value("telephone", label=result.telephone),
        "dependants": result.people_liable,
    }
