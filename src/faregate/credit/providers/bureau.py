"""The credit bureau: JSON, an API key, the report in the answer. Each request sent is a pull of its own."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

import aiohttp
import orjson
from pydantic import Field
from yarl import URL

from faregate.credit.domain.facts import fact_value
from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import (
    Documented,
    exchange,
    expect_reference,
    looked_up,
    no_callback,
    says_not_found,
    submitted,
)
from faregate.kernel.outcome import Done, Outcome

NAME: Final = "bureau"


class _Report(Documented):
    credit_history: str
    number_of_credits: int = Field(ge=0)
    other_installment_plans: str
    debtors_or_guarantors: str
    installment_rate: int = Field(ge=1, le=4)
    property: str
    duration_in_month: int = Field(ge=1)


class _Answer(Documented):
    reference: str
    report: _Report


class BureauAdapter:
    """Speaks the bureau's protocol. `base_url` ends before `/v1`."""

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
            asynchronous=False,
            deduplicates=False,
            look_up_lag_s_max=look_up_lag_s_max,
            timeout_s=timeout_s,
            callback=False,
            polls=False,
        )
        self._session = session
        self._reports = URL(base_url) / "v1" / "reports"
        self._headers = {"X-Api-Key": api_key, "Content-Type": "application/json"}

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Pull a report, once."""
        sent = await exchange(
            self._session,
            "POST",
            self._reports,
            timeout_s=timeout_s,
            headers=self._headers,
            body=orjson.dumps(_body(request)),
        )
        read = partial(_read, reference=request.provider_request_id)
        return submitted(sent, read=read, asynchronous=False)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Ask for the report of an earlier pull."""
        url = self._reports / provider_request_id
        sent = await exchange(self._session, "GET", url, timeout_s=timeout_s, headers=self._headers)
        return looked_up(
            sent,
            read=partial(_read, reference=provider_request_id),
            not_found=partial(says_not_found, field="reference", reference=provider_request_id),
        )

    def read_callback(self, body: Mapping[str, Any]) -> Callback:  # noqa: ARG002 - the protocol's method
        """Refuse: the bureau answers at once and never calls back."""
        raise no_callback(NAME)


def _body(request: ProviderRequest) -> Mapping[str, Any]:
    subject = request.subject
    return {
        "reference": request.provider_request_id,
        "name": subject["legal_name"],
        "date_of_birth": subject["dob"],
        "ssn_last4": subject["ssn_last4"],
        "stated_income": subject["annual_income"],
    }


def _read(body: bytes, *, reference: str) -> Outcome:
    answer = _Answer.model_validate_json(body)
    expect_reference(answer.reference, ours=reference)
    report = answer.report
    return Done(
        {
            "credit_history": fact_value("credit_history", label=report.credit_history),
            "existing_credits": report.number_of_credits,
            "installment_plans": fact_value("installment_plans", label=report.other_installment_plans),
            "guarantors": fact_value("guarantors", label=report.debtors_or_guarantors),
            "installment_rate": report.installment_rate,
            "property": fact_value("property", label=report.property),
            "term_months": report.duration_in_month,
        }
    )
