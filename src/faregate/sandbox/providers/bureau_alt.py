"""The other credit bureau: XML over HTTP basic, the fallback of the first. It does not deduplicate either."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from html import escape
from typing import Any
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import fromstring

from faregate.sandbox.executions import Execution, Order
from faregate.sandbox.people import Identity, Record
from faregate.sandbox.providers.base import (
    Call,
    OrderNotUnderstood,
    Provider,
    Reply,
    Statement,
    Unauthorised,
    number,
    same,
    text,
)

_XML = "application/xml"


class BureauAlt(Provider):
    """POST an `<enquiry>`, get a `<report>`; GET it again by its reference."""

    statement = Statement(
        name="bureau_alt",
        check="bureau",
        protocol="xml",
        authentication="http basic",
        asynchronous=False,
        deduplicates=False,
        callback=False,
        polls=False,
        submit_path="/bureau_alt/enquiries",
        look_up_path="/bureau_alt/enquiries/{reference}",
    )

    def __init__(self, *, user: str, password: str) -> None:
        self._authorization = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def authenticate(self, call: Call) -> None:
        if not same(call.headers.get("Authorization"), self._authorization):
            raise Unauthorised("wrong or missing user and password")

    def read_order(self, body: bytes) -> tuple[Order, Identity]:
        enquiry = _read(body)
        fields: dict[str, Any] = {child.tag: (child.text or "").strip() for child in enquiry}
        income = fields.get("statedIncome", "")
        fields["statedIncome"] = int(income) if income.isdecimal() else None
        identity = Identity(
            legal_name=text(fields, "name"),
            dob=text(fields, "birthDate"),
            ssn_last4=text(fields, "ssnLast4"),
            annual_income=number(fields, "statedIncome"),
        )
        return Order(reference=text({"reference": enquiry.get("reference")}, "reference")), identity

    def work(self, record: Record) -> dict[str, Any]:
        row = record.row
        return {
            "creditHistory": row["credit_history"],
            "creditCount": row["number_of_existing_credits_at_this_bank"],
            "installmentPlans": row["other_installment_plans"],
            "guarantors": row["other_debtors_or_guarantors"],
            "installmentRate": row["installment_rate_in_percentage_of_disposable_income"],
            "property": row["property"],
            "durationMonths": row["duration_in_month"],
        }

    def result(self, execution: Execution) -> Reply:
        return _reply(200, "report", execution.reference, execution.answer or {})

    def problem(self, status: int, *, code: str, reference: str = "") -> Reply:
        return _reply(status, "error", reference, {"code": code})

    def nonsense(self) -> Reply:
        return _reply(200, "statement", "", {"ok": "true"})


def _read(body: bytes) -> Element:
    try:
        root: Element = fromstring(body)
    except (ParseError, DefusedXmlException, ValueError) as error:
        raise OrderNotUnderstood("the body is no acceptable XML") from error
    if root.tag != "enquiry":
        raise OrderNotUnderstood("the body is no enquiry")
    return root


def _reply(status: int, tag: str, reference: str, fields: Mapping[str, Any]) -> Reply:
    inner = "".join(f"<{name}>{escape(str(value))}</{name}>" for name, value in fields.items())
    document = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<{tag} reference="{escape(reference)}">{inner}</{tag}>'
    )
    return Reply(status=status, body=document.encode(), content_type=_XML)
