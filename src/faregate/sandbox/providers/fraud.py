"""The fraud bureau: JSON, every request signed with HMAC and a timestamp, the score in the answer.

Signed is `timestamp LF method LF path LF body`, hex HMAC-SHA256; a timestamp more than five minutes off is
refused. The provider deduplicates by reference.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Any, Final

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

TIMESTAMP_TOLERANCE_S: Final = 300


class Fraud(Provider):
    """POST a screening, get level and score; GET it again by its reference."""

    statement = Statement(
        name="fraud",
        check="fraud",
        protocol="json",
        authentication="hmac over timestamp, method, path and body",
        asynchronous=False,
        deduplicates=True,
        callback=False,
        polls=False,
        submit_path="/fraud/screenings",
        look_up_path="/fraud/screenings/{reference}",
    )

    def __init__(self, *, hmac_secret: str) -> None:
        self._secret = hmac_secret.encode()

    def authenticate(self, call: Call) -> None:
        timestamp = call.headers.get("X-Timestamp", "")
        if not timestamp.isdecimal() or abs(int(timestamp) - call.now) > TIMESTAMP_TOLERANCE_S:
            raise Unauthorised("the timestamp is missing or too far off")
        signed = f"{timestamp}\n{call.method}\n{call.path}\n".encode() + call.body
        signature = hmac.new(self._secret, signed, hashlib.sha256).hexdigest()
        if not same(call.headers.get("X-Signature"), signature):
            raise Unauthorised("wrong signature")

    def read_order(self, body: bytes) -> tuple[Order, Identity]:
        request = read_json(body)
        identity = Identity(
            legal_name=text(request, "name"),
            dob=text(request, "dob"),
            ssn_last4=text(request, "ssn4"),
            annual_income=number(request, "income"),
        )
        return Order(reference=text(request, "request_id")), identity

    def work(self, record: Record) -> dict[str, Any]:
        return {"level": record.fraud_level.upper(), "score": record.fraud_score}

    def result(self, execution: Execution) -> Reply:
        return json_reply({"request_id": execution.reference, "verdict": execution.answer})
