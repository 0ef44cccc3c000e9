"""Know your customer: JSON, answers 202 and calls back with an HMAC signature inside the body.

The signature is `hmac-sha256=` and hex over the RFC 8785 canonical JSON of the body without that field. The
provider deduplicates by reference.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any

import rfc8785

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


class Kyc(Provider):
    """POST a verification, hear of it at `notify_url`; GET it by its reference."""

    statement = Statement(
        name="kyc",
        check="kyc",
        protocol="json",
        authentication="bearer api key; signs its callbacks in the body",
        asynchronous=True,
        deduplicates=True,
        callback=True,
        polls=False,
        submit_path="/kyc/verifications",
        look_up_path="/kyc/verifications/{reference}",
    )

    def __init__(self, *, api_key: str, callback_secret: str) -> None:
        self._authorization = f"Bearer {api_key}"
        self._callback_secret = callback_secret.encode()

    def authenticate(self, call: Call) -> None:
        if not same(call.headers.get("Authorization"), self._authorization):
            raise Unauthorised("wrong or missing bearer key")

    def read_order(self, body: bytes) -> tuple[Order, Identity]:
        request = read_json(body)
        notify_url = request.get("notify_url")
        identity = Identity(
            legal_name=text(request, "full_name"),
            dob=text(request, "birth_date"),
            ssn_last4=text(request, "tax_id_last4"),
            annual_income=number(request, "declared_income"),
        )
        callback_url = text(request, "notify_url") if notify_url is not None else None
        return Order(reference=text(request, "external_id"), callback_url=callback_url), identity

    def work(self, record: Record) -> dict[str, Any]:
        row = record.row
        return {
            "identity": "verified" if record.identity_verified else "not_verified",
            "watchlist_hits": 1 if record.watchlist_match else 0,
            "housing": row["housing"],
            "residence_since": int(row["present_residence_since"]),
            "telephone": row["telephone"],
            "people_liable": int(row["number_of_people_being_liable_to_provide_maintenance_for"]),
        }

    def pending(self, execution: Execution) -> Reply:
        return json_reply({"external_id": execution.reference, "state": "pending"})

    def result(self, execution: Execution) -> Reply:
        if execution.answer is None:
            end: dict[str, Any] = {"state": "failed", "code": "documents_unreadable"}
        else:
            end = {"state": "completed", "result": execution.answer}
        return json_reply({"external_id": execution.reference, **end})

    def callback(self, execution: Execution, *, now: float, genuine: bool = True) -> Reply:  # noqa: ARG002
        failed = execution.answer is None
        body = {
            "provider_request_id": execution.reference,
            "status": "failure" if failed else "success",
            "payload": {"code": "documents_unreadable"} if failed else execution.answer,
        }
        secret = self._callback_secret if genuine else b"forged"
        mac = hmac.new(secret, rfc8785.dumps(body), hashlib.sha256)
        return json_reply({**body, "signature": f"hmac-sha256={mac.hexdigest()}"})
