"""The cash leg of a trip: payments as travel uses them, in this process or in one that is asked over HTTP.

Both ways speak of the same acts under the same keys of the client `travel`, so a redemption that began the one way goes
on the other. What was not answered is asked again under its key.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import aiohttp
import orjson
from yarl import URL

from faregate.entrypoints.bootstrap.payments import payments_api
from faregate.entrypoints.bootstrap.process import Process
from faregate.entrypoints.bootstrap.providers import provider_session
from faregate.gateway.exchange import Answer, exchange
from faregate.infra.clock import SystemClock
from faregate.infra.database import Connection
from faregate.infra.http.idempotency import fingerprint
from faregate.infra.http.idempotency_store import Attempt as KeyAttempt
from faregate.infra.http.idempotency_store import (
    Fresh,
    KeyScope,
    KeyState,
    Replay,
    Reused,
    StoredResponse,
    check_attempts,
    save_responses,
)
from faregate.infra.http.problems import MEDIA_TYPE, problem_of
from faregate.kernel.errors import ConflictError, UnavailableError
from faregate.payments.api import METHOD, ROUTE, PaymentsApi, payment_document
from faregate.payments.contracts.payments import Attempt, Payment, PaymentChannel
from faregate.payments.domain.lifecycle import PaymentNotFound
from faregate.travel.contracts.redemptions import Came

CLIENT: Final = "travel"
MERCHANT: Final = "faregate_travel"
MERCHANT_CATEGORY: Final = 4722
"""Travel agencies, by ISO 18245."""
TIMEOUT_S: Final = 5.0
RETRY_AFTER_S: Final = 2
_PAYMENT_ID: Final = re.compile(r"pay_[0-9A-Z]{26}")
_ENDED: Final = "payment-not-authorised"
_REUSED: Final = "idempotency-key-reused"
_IN_FLIGHT: Final = "request-in-flight"
_NOT_FOUND: Final = "payment-not-found"


class CashDeskUnavailable(UnavailableError):
    """Payments cannot be asked at present. What they were asked for is asked again under the same key."""


class CashAnsweredOtherwise(RuntimeError):
    """A key of ours stands for something else at payments: a defect, and nothing was done."""


class Ask(Protocol):
    """Asks payments for an act once a key. Raises CashDeskUnavailable for whatever says nothing about it."""

    async def __call__(self, act: str, payment_id: str, body: Mapping[str, Any], *, key: str) -> Said:
        """Return what they said. `act` is empty for an authorisation, else that of a payment."""
        ...


@dataclass(frozen=True, slots=True)
class Said:
    """A finished answer."""

    status: int
    body: Mapping[str, Any]

    @property
    def problem(self) -> str | None:
        """The last part of the type of a problem, None for an answer that is none."""
        return str(self.body["type"]).rpartition("/")[2] if self.status >= 400 else None


@dataclass(frozen=True, slots=True)
class CashDesk:
    """Payments as a redemption uses them: with the member's card, scored like any payment."""

    ask: Ask
    country: str

    async def authorise(self, *, key: str, member_id: str, amount_minor: int, currency: str) -> Came:
        """Reserve cash on the member's card. Refused by the name of what was against it, such as `no_card`."""
        body = {
            "member_id": member_id,
            "amount_minor": amount_minor,
            "currency": currency,
            "merchant": MERCHANT,
            "merchant_category": MERCHANT_CATEGORY,
            "channel": PaymentChannel.ONLINE.value,
            "country": self.country,
        }
        said = await self.ask("", "", body, key=key)
        if said.problem is not None:
            return Came(refusal=_word(said.problem))
        if said.body["status"] == "authorised":
            return Came(facts={"authorisation": said.body["payment_id"]})
        codes = [reason["code"] for reason in said.body["reasons"]]
        return Came(refusal=codes[0].lower() if codes else "declined")

    async def capture(self, *, key: str, authorisation: str) -> Came:
        """Take what is authorised."""
        return _came(await self.ask("capture", authorisation, {}, key=key))

    async def void(self, *, key: str, authorisation: str) -> Came:
        """Release what is authorised, if it is authorised still."""
        said = await self.ask("reversal", authorisation, {}, key=key)
        is_released = said.problem == _ENDED and said.body.get("status_now") == "reversed"
        return Came() if is_released else _came(said)

    async def refund(self, *, key: str, authorisation: str, amount_minor: int) -> Came:
        """Give captured cash back."""
        return _came(await self.ask("refunds", authorisation, {"amount_minor": amount_minor}, key=key))


async def cash_desk(process: Process) -> CashDesk:
    """Return the cash desk: over HTTP if it is configured to be elsewhere, else in this process."""
    settings = process.site.settings
    if settings.payments_url is None:
        return CashDesk(PaymentsHere(await process.once(payments_api)), settings.travel_country)
    # Asked for here, so that who needs no key of another part needs none.
    from faregate.entrypoints.bootstrap.travel_needs import apart_session

    apart = await process.once(apart_session)
    ask = PaymentsOverHttp(
        await provider_session(process.stack), base_url=settings.payments_url, api_key=apart.key
    )
    return CashDesk(ask, settings.travel_country)


class PaymentsOverHttp:
    """Payments in a process of their own."""

    def __init__(self, session: aiohttp.ClientSession, *, base_url: str, api_key: str) -> None:
        self._session = session
        self._base = base_url.rstrip("/")
        self._authorization = f"Bearer {api_key}"

    async def __call__(self, act: str, payment_id: str, body: Mapping[str, Any], *, key: str) -> Said:
        """Return what payments said. Raises CashDeskUnavailable."""
        headers = {
            "Authorization": self._authorization,
            "Content-Type": "application/json",
            "Idempotency-Key": f'"{key}"',
        }
        url = URL(self._base + _path(act, payment_id), encoded=True)
        sent = await exchange(
            self._session, METHOD, url, timeout_s=TIMEOUT_S, headers=headers, body=orjson.dumps(body)
        )
        if not isinstance(sent, Answer):
            raise _unavailable("payments cannot be asked at present")
        return _understood(sent.status, sent.body)


@dataclass(frozen=True, slots=True)
class PaymentsHere:
    """Payments in this process, with the answers that their routes would give and keep."""

    payments: PaymentsApi

    async def __call__(self, act: str, payment_id: str, body: Mapping[str, Any], *, key: str) -> Said:
        """Return what payments said. Raises CashDeskUnavailable."""
        if not act:
            return _answered(await self._authorise(body, key=key))
        try:
            return _answered(await self._once(act, payment_id, body, key=key))
        except PaymentNotFound as error:
            return Said(404, problem_of(error, instance=_path(act, payment_id)))

    async def _authorise(self, body: Mapping[str, Any], *, key: str) -> StoredResponse | KeyState:
        token = await self.payments.paying_card(body["member_id"], body["currency"])
        attempt = Attempt(
            card_token=token,
            terminal_id=None,
            device_id=None,
            ip=None,
            ip_token=None,
            occurred_at=SystemClock().now(),
            **{**body, "channel": PaymentChannel(body["channel"])},
        )
        return await self.payments.authorise(_keyed(ROUTE, ROUTE, body, key=key), attempt)

    async def _once(
        self, act: str, payment_id: str, body: Mapping[str, Any], *, key: str
    ) -> StoredResponse | KeyState:
        path = _path(act, payment_id)
        hashed = {"payment_id": payment_id} if act == "reversal" else body
        keyed = _keyed(f"{ROUTE}/{{payment_id}}/{act}", path, hashed, key=key)
        async with self.payments.database.transaction() as conn:
            [state] = await check_attempts(conn, [keyed])
            if not isinstance(state, Fresh):
                return state
            try:
                async with conn.transaction():  # what a refused act began is undone, its answer is kept
                    document = await self._act(conn, act, payment_id, body)
                answer = StoredResponse(201 if act == "refunds" else 200, orjson.dumps(document), _JSON)
            except ConflictError as error:
                problem = problem_of(error, instance=path)
                answer = StoredResponse(
                    problem["status"], orjson.dumps(problem), (("content-type", MEDIA_TYPE),)
                )
            await save_responses(conn, [(keyed, answer)], now=SystemClock().now())
        return answer

    async def _act(
        self, conn: Connection, act: str, payment_id: str, body: Mapping[str, Any]
    ) -> Mapping[str, Any]:
        acts = self.payments.acts
        if act == "refunds":
            amount = body["amount_minor"]
            done, refund_id = await acts.refund(
                conn, payment_id, amount_minor=amount, client_id=CLIENT, by=f"client:{CLIENT}"
            )
            return {"refund_id": refund_id, "payment": payment_document(done)}
        plain: Mapping[str, Callable[[], Awaitable[Payment]]] = {
            "capture": lambda: acts.capture(conn, payment_id, amount_minor=None, client_id=CLIENT),
            "reversal": lambda: acts.reverse(conn, payment_id, client_id=CLIENT),
        }
        return payment_document(await plain[act]())


_JSON: Final = (("content-type", "application/json"),)


def _path(act: str, payment_id: str) -> str:
    if not act:
        return ROUTE
    if not _PAYMENT_ID.fullmatch(payment_id):
        raise ValueError("an authorisation of another cash desk")
    return f"{ROUTE}/{payment_id}/{act}"


def _keyed(route: str, path: str, body: Mapping[str, Any], *, key: str) -> KeyAttempt:
    return KeyAttempt(
        KeyScope(CLIENT, METHOD, route, key), fingerprint(method=METHOD, route=path, body=dict(body))
    )


def _answered(answer: StoredResponse | KeyState) -> Said:
    if isinstance(answer, Reused):
        raise CashAnsweredOtherwise("a key was used for another act")
    if isinstance(answer, Replay):
        answer = answer.response
    if not isinstance(answer, StoredResponse):
        raise _unavailable("the same is being asked for at this moment")
    return _understood(answer.status, answer.body)


def _understood(status: int, body: bytes) -> Said:
    """Return a finished answer: what was done, or why not for good. Any other says nothing about the act."""
    try:
        said = Said(status, orjson.loads(body))
        is_done = status < 300 and bool({"payment_id", "refund_id"} & said.body.keys())
        if said.problem == _REUSED:
            raise CashAnsweredOtherwise("a key was used for another act")
        if is_done or said.problem == _NOT_FOUND or (status == 409 and said.problem != _IN_FLIGHT):
            return said
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise _unavailable(f"what payments answered ({status}) is not understood") from error
    raise _unavailable(f"payments cannot be asked at present ({status})")


def _came(said: Said) -> Came:
    return Came() if said.problem is None else Came(refusal=_word(said.problem))


def _word(problem: str) -> str:
    return problem.replace("-", "_")


def _unavailable(detail: str) -> CashDeskUnavailable:
    return CashDeskUnavailable(detail, retry_after_s=RETRY_AFTER_S)
