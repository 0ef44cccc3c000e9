"""The credit bureau: JSON, an API key, the report in the answer. It does not deduplicate.

Each request is a pull of its own, charged and visible in the person's file: sending one twice by mistake is
exactly what a caller must avoid.
"""

from __future__ import annotations

from typing import Any

from faregate.sandbox.executions import Execution, Order
from faregate.sandbox.people import Identity, Record
from faregate.sandbox.providers.base import (
    Call,
    Provider,
    Reply,
    Statement,
    Unauthorised,
    json_reply,
    number,
    read_json,
    same,
    text,
)


class Bureau(Provider):
    """POST a report request with `X-Api-Key`; GET it again by its reference."""

    statement = Statement(
        name="bureau",
        check="bureau",
        protocol="json",
        authentication="api key in x-api-key",
        asynchronous=False,
        deduplicates=False,
        callback=False,
        polls=False,
        submit_path="/bureau/v1/reports",
        look_up_path="/bureau/v1/reports/{reference}",
    )

    def __init__(self, *, api_key: str) -> None:
        self._api_key = api_key

    def authenticate(self, call: Call) -> None:
        if not same(call.headers.get("X-Api-Key"), self._api_key):
            raise Unauthorised("wrong or missing x-api-key")

    def read_order(self, body: bytes) -> tuple[Order, Identity]:
        request = read_json(body)
        identity = Identity(
            legal_name=text(request, "name"),
            dob=text(request, "date_of_birth"),
            ssn_last4=text(request, "ssn_last4"),
            annual_income=number(request, "stated_income"),
        )
        return Order(reference=text(request, "reference")), identity

    def work(self, record: Record) -> dict[str, Any]:
        row = record.row
        return {
            "credit_history": row["credit_history"],
            "number_of_credits": int(row["number_of_existing_credits_at_this_bank"]),
            "other_installment_plans": row["other_installment_plans"],
            "debtors_or_guarantors": row["other_debtors_or_guarantors"],
            "installment_rate": int(row["installment_rate_in_percentage_of_disposable_income"]),
            "property": row["property"],
            "duration_in_month": int(row["duration_in_month"]),
        }

    def result(self, execution: Execution) -> Reply:
        return json_reply({"reference": execution.reference, "report": execution.answer})
