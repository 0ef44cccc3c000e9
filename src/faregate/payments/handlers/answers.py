"""What clients are told of a payment, as it is sent and kept under their key."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from faregate.infra.http.idempotency_store import StoredResponse
from faregate.infra.http.problems import MEDIA_TYPE, problem_of
from faregate.kernel.errors import FaregateError
from faregate.payments.contracts.payments import Payment
from faregate.payments.store.payments import NewPayment

METHOD: Final = "POST"
ROUTE: Final = "/api/payments/authorizations"


def payment_document(payment: Payment) -> Mapping[str, Any]:
    """Return a payment as it is answered."""
    return {
        "payment_id": payment.id,
        "status": payment.status.value,
        "card_token": payment.card_token,
        "member_id": payment.member_id,
        "amount_minor": payment.amount_minor,
        "currency": payment.currency,
        "captured_minor": payment.captured_minor,
        "refunded_minor": payment.refunded_minor,
        "flagged": payment.is_flagged,
        **payment.decision,
        "decided_at": payment.decided_at,
        "expires_at": payment.expires_at,
    }


def created(new: NewPayment) -> StoredResponse:
    """Return the answer to an authorisation, declined or not."""
    headers = (("location", f"{ROUTE}/{new.id}"), ("content-type", "application/json"))
    return StoredResponse(201, orjson.dumps(payment_document(new.payment())), headers)


def refused(error: FaregateError) -> StoredResponse:
    """Return a refusal that is final, as the problem that it is."""
    problem = problem_of(error, instance=ROUTE)
    return StoredResponse(problem["status"], orjson.dumps(problem), (("content-type", MEDIA_TYPE),))
