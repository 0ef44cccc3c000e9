"""A card processor: authorises, captures, voids and refunds, each once a key. What it did is durable before it answers.

It knows no cards: a customer is enough for a sandbox. A customer whose id ends with `DECLINED` is declined.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

from aiohttp import web

from faregate.sandbox.journal import Journal
from faregate.sandbox.providers.base import OrderNotUnderstood, number, read_json, same, text

AUTHORISED, CAPTURED, VOIDED = "authorised", "captured", "voided"
DECLINED_SUFFIX: Final = "DECLINED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One authorisation and what became of it."""

    id: str
    customer: str
    amount_minor: int
    currency: str
    state: str = AUTHORISED
    refunded_minor: int = 0


class CardProcessor:
    """Serves under `/cards`. `records` are what its journal holds."""

    def __init__(self, journal: Journal, records: Iterable[Mapping[str, Any]], *, api_key: str) -> None:
        self._journal = journal
        self._authorization = f"Bearer {api_key}"
        self._charges: dict[str, Charge] = {}
        self._answers: dict[str, dict[str, Any]] = {}
        for record in records:
            if record["type"] == "charged":
                self._remember(record["key"], record["charge"], record["answer"])

    def add_routes(self, app: web.Application) -> None:
        """Serve the four operations, and what a test asks for."""
        app.router.add_post("/cards/authorizations", self._authorize)
        app.router.add_post("/cards/authorizations/{id}/{act:capture|void|refund}", self._follow)
        app.router.add_get("/admin/charges", self._all)

    async def _authorize(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if isinstance(body, web.Response):
            return body
        customer = text(body, "customer")
        charge = Charge(
            id=f"auth-{len(self._charges) + 1:06d}",
            customer=customer,
            amount_minor=number(body, "amount_minor"),
            currency=text(body, "currency"),
        )
        if customer.endswith(DECLINED_SUFFIX):
            return await self._answer(request, None, {"declined": "insufficient_funds"})
        return await self._answer(request, charge, {"id": charge.id, "state": charge.state})

    async def _follow(self, request: web.Request) -> web.Response:
        body = await self._body(request)
        if isinstance(body, web.Response):
            return body
        charge = self._charges.get(request.match_info["id"])
        if charge is None:
            return web.json_response({"error": "no_such_authorization"}, status=404)
        done = _followed(charge, request.match_info["act"], body)
        if done is None:
            return await self._answer(request, None, {"refused": f"it is {charge.state}"})
        return await self._answer(request, done, {"id": done.id, "state": done.state})

    async def _body(self, request: web.Request) -> Mapping[str, Any] | web.Response:
        """Return what is asked, or the answer that it has: to a stranger, to nonsense, or to a key that came before."""
        if not same(request.headers.get("Authorization"), self._authorization):
            return web.json_response({"error": "unauthorised"}, status=401)
        key = request.headers.get("Idempotency-Key", "")
        if key in self._answers:
            return web.json_response(self._answers[key])
        try:
            return read_json(await request.read() or b"{}") if key else _not_understood()
        except OrderNotUnderstood:
            return _not_understood()

    async def _answer(
        self, request: web.Request, charge: Charge | None, answer: dict[str, Any]
    ) -> web.Response:
        key, kept = request.headers["Idempotency-Key"], None if charge is None else asdict(charge)
        self._remember(key, kept, answer)
        await self._journal.append({"type": "charged", "key": key, "charge": kept, "answer": answer})
        return web.json_response(answer)

    async def _all(self, request: web.Request) -> web.Response:
        customer = request.query.get("customer")
        found = [asdict(one) for one in self._charges.values() if customer in (None, one.customer)]
        return web.json_response({"charges": found})

    def _remember(self, key: str, charge: Mapping[str, Any] | None, answer: dict[str, Any]) -> None:
        self._answers[key] = answer
        if charge is not None:
            self._charges[charge["id"]] = Charge(**charge)


def _followed(charge: Charge, act: str, body: Mapping[str, Any]) -> Charge | None:
    """Return a charge after an act, None where it is refused."""
    if act == "capture" and charge.state == AUTHORISED:
        return replace(charge, state=CAPTURED)
    if act == "void" and charge.state in (AUTHORISED, VOIDED):
        return replace(charge, state=VOIDED)
    if act == "refund" and charge.state == CAPTURED:
        refunded = charge.refunded_minor + number(body, "amount_minor")
        return replace(charge, refunded_minor=refunded) if refunded <= charge.amount_minor else None
    return None


def _not_understood() -> web.Response:
    return web.json_response({"error": "not_understood"}, status=400)
