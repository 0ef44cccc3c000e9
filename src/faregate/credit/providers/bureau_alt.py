"""The other credit bureau: XML over HTTP basic. Asked only when the first certainly did not do it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from functools import partial
from html import escape
from typing import Any, Final
from xml.etree.ElementTree import Element, ParseError

import aiohttp
from defusedxml.ElementTree import fromstring
from pydantic import ConfigDict, Field
from yarl import URL

from faregate.credit.domain.facts import fact_value
from faregate.gateway.contracts import Callback, Capabilities, ProviderRequest
from faregate.gateway.exchange import (
    Documented,
    exchange,
    expect_reference,
    looked_up,
    no_callback,
    submitted,
)
from faregate.kernel.outcome import Done, Outcome

NAME: Final = "bureau_alt"


class _Report(Documented):
    model_config = ConfigDict(strict=False)

    credit_history: str = Field(alias="creditHistory")
    credit_count: int = Field(alias="creditCount", ge=0)
    installment_plans: str = Field(alias="installmentPlans")
    guarantors: str
    installment_rate: int = Field(alias="installmentRate", ge=1, le=4)
    property: str
    duration_months: int = Field(alias="durationMonths", ge=1)


class BureauAltAdapter:
    """Speaks the second bureau's protocol. `base_url` ends before `/enquiries`."""

    def __init__(
        self,
        *,
        session: aiohttp.ClientSession,
        base_url: str,
        user: str,
        password: str,
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
        self._enquiries = URL(base_url) / "enquiries"
        basic = base64.b64encode(f"{user}:{password}".encode()).decode()
        self._headers = {"Authorization": f"Basic {basic}", "Content-Type": "application/xml"}

    async def submit(self, request: ProviderRequest, *, timeout_s: float) -> Outcome:
        """Pull a report, once."""
        sent = await exchange(
            self._session,
            "POST",
            self._enquiries,
            timeout_s=timeout_s,
            headers=self._headers,
            body=_document(request),
        )
        read = partial(_read, reference=request.provider_request_id)
        return submitted(sent, read=read, asynchronous=False)

    async def look_up(self, provider_request_id: str, *, timeout_s: float) -> Outcome:
        """Ask for the report of an earlier pull."""
        url = self._enquiries / provider_request_id
        sent = await exchange(self._session, "GET", url, timeout_s=timeout_s, headers=self._headers)
        return looked_up(
            sent,
            read=partial(_read, reference=provider_request_id),
            not_found=partial(_says_not_found, reference=provider_request_id),
        )

    def read_callback(self, body: Mapping[str, Any]) -> Callback:  # noqa: ARG002 - the protocol's method
        """Refuse: the bureau answers at once and never calls back."""
        raise no_callback(NAME)


def _document(request: ProviderRequest) -> bytes:
    subject = request.subject
    fields = {
        "name": subject["legal_name"],
        "birthDate": subject["dob"],
        "ssnLast4": subject["ssn_last4"],
        "statedIncome": subject["annual_income"],
    }
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items())
    return f'<enquiry reference="{escape(request.provider_request_id)}">{inner}</enquiry>'.encode()


def _read(body: bytes, *, reference: str) -> Outcome:
    root = _root(body, tag="report")
    expect_reference(root.get("reference", ""), ours=reference)
    report = _Report.model_validate({child.tag: child.text for child in root})
    return Done(
        {
            "credit_history": fact_value("credit_history", label=report.credit_history),
            "existing_credits": report.credit_count,
            "installment_plans": fact_value("installment_plans", label=report.installment_plans),
            "guarantors": fact_value("guarantors", label=report.guarantors),
            "installment_rate": report.installment_rate,
            "property": fact_value("property", label=report.property),
            "term_months": report.duration_months,
        }
    )


def _says_not_found(body: bytes, *, reference: str) -> bool:
    root = _root(body, tag="error")
    return root.findtext("code") == "not_found" and root.get("reference") == reference


def _root(body: bytes, *, tag: str) -> Element:
    """Return the root of a document. Raises ValueError for any other, and for whatever has a DTD."""
    try:
        root: Element = fromstring(body, forbid_dtd=True)
    except ParseError as error:
        raise ValueError("the body is no XML") from error
    if root.tag != tag:
        raise ValueError(f"the document is no {tag}")
    return root
