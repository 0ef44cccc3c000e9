"""Income and employment: OAuth2 client credentials, 202, the result by polling and by a signed webhook.

Tokens expire. Webhooks follow Standard Webhooks 1.0.0 over the raw bytes. The provider deduplicates by
reference.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import parse_qs

from standardwebhooks import Webhook

from faregate.sandbox.executions import Execution, Order
from faregate.sandbox.people import Identity, Record
from faregate.sandbox.providers.base import (
    Call,
    OrderNotUnderstood,
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

TOKEN_PATH: Final = "/income/oauth/token"  # noqa: S105 - an address, no secret
_FORGED: Final = "whsec_" + base64.b64encode(b"a key that nobody was given").decode()


class Income(Provider):
    """POST a verification with a bearer token; GET it by its reference until it is completed."""

    statement = Statement(
        name="income",
        check="income",
        protocol="json",
        authentication="oauth2 client credentials; signs its callbacks per standard webhooks",
        asynchronous=True,
        deduplicates=True,
        callback=True,
        polls=True,
        signs_time=True,
        submit_path="/income/verifications",
        look_up_path="/income/verifications/{reference}",
    )

    def __init__(
        self, *, client_id: str, client_secret: str, callback_secret: str, token_life_s: int
    ) -> None:
        basic = base64.b64encode(f"{client_id}:{client_secret}".encode()).decode()
        self._client_authorization = f"Basic {basic}"
        self._token_secret = hmac.digest(client_secret.encode(), b"tokens", hashlib.sha256)
        self._webhook = Webhook(callback_secret)
        self._forged_webhook = Webhook(_FORGED)
        self._token_life_s = token_life_s

    def token(self, call: Call) -> Reply:
        """Issue a token (RFC 6749, 4.4). Raises `Unauthorised`, `OrderNotUnderstood`."""
        if not same(call.headers.get("Authorization"), self._client_authorization):
            raise Unauthorised("unknown client")
        if parse_qs(call.body.decode(errors="replace")).get("grant_type") != ["client_credentials"]:
            raise OrderNotUnderstood("grant_type must be client_credentials")
        expires_at = int(call.now) + self._token_life_s
        token = f"{expires_at}.{self._mac(expires_at)}"
        return json_reply({"access_token": token, "token_type": "Bearer", "expires_in": self._token_life_s})

    def authenticate(self, call: Call) -> None:
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        expires_at, _, mac = token.partition(".")
        if scheme != "Bearer" or not expires_at.isdecimal() or not same(mac, self._mac(int(expires_at))):
            raise Unauthorised("wrong or missing token")
        if int(expires_at) <= call.now:
            raise Unauthorised("the token has expired")

    def read_order(self, body: bytes) -> tuple[Order, Identity]:
        request = read_json(body)
        webhook = request.get("webhook")
        identity = Identity(
            legal_name=text(request, "employee"),
            dob=text(request, "born"),
            ssn_last4=text(request, "ssn_last4"),
            annual_income=number(request, "claimed_annual_income"),
        )
        callback_url = text(request, "webhook") if webhook is not None else None
        return Order(reference=text(request, "client_reference"), callback_url=callback_url), identity

    def work(self, record: Record) -> dict[str, Any]:
        row = record.row
        return {
            "employed_since": row["present_employment_since"],
            "job": row["job"],
            "checking_account": row["status_of_existing_checking_account"],
            "savings": row["savings_account_and_bonds"],
            "annual_income": record.annual_income_verified,
        }

    def pending(self, execution: Execution) -> Reply:
        reply = json_reply({"client_reference": execution.reference, "status": "IN_PROGRESS"})
        return replace(reply, headers={"Retry-After": "1"})

    def result(self, execution: Execution) -> Reply:
        if execution.answer is None:
            end: dict[str, Any] = {"status": "REJECTED", "reason": "employer_unreachable"}
        else:
            end = {"status": "COMPLETE", "employment": execution.answer}
        return json_reply({"client_reference": execution.reference, **end})

    def callback(self, execution: Execution, *, now: float, genuine: bool = True) -> Reply:
        failed = execution.answer is None
        reply = json_reply(
            {
                "provider_request_id": execution.reference,
                "status": "failure" if failed else "success",
                "payload": {"reason": "employer_unreachable"} if failed else execution.answer,
            }
        )
        return replace(reply, headers=self._signed(execution, reply.body, now=now, genuine=genuine))

    def _signed(self, execution: Execution, body: bytes, *, now: float, genuine: bool) -> dict[str, str]:
        """Return the headers: one id for all deliveries of one message, a fresh timestamp for each."""
        identity = f"{execution.reference}|{execution.number}|{execution.executed_at}".encode()
        message_id = "msg_" + hashlib.sha256(identity).hexdigest()[:32]
        webhook = self._webhook if genuine else self._forged_webhook
        signature = webhook.sign(message_id, datetime.fromtimestamp(int(now), UTC), body.decode())
        return {
            "webhook-id": message_id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": signature,
        }

    def _mac(self, expires_at: int) -> str:
        return hmac.new(self._token_secret, str(expires_at).encode(), hashlib.sha256).hexdigest()
