"""Answering an ordinary POST once: check the key, do the work, save the answer, all in one transaction.

A route that writes in batches uses `idempotency_store` itself, and `attempt_of` and `response_of` from here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection, Database
from faregate.infra.http.authentication import Caller
from faregate.infra.http.idempotency import IdempotencyKeyReused, RequestInFlight, fingerprint, read_key
from faregate.infra.http.idempotency_store import (
    Attempt,
    Fresh,
    InFlight,
    KeyScope,
    Replay,
    Reused,
    StoredResponse,
    check_attempts,
    save_responses,
)
from faregate.kernel.clock import Clock

REPLAYED_HEADER = "Idempotent-Replayed"

Work = Callable[[Connection], Awaitable[StoredResponse]]


def attempt_of(request: Request, *, caller: Caller, body: Any) -> Attempt:
    """Return the request as an attempt under its key, or raise what `read_key` raises."""
    method, route = request.method, route_template(request)
    scope = KeyScope(caller.client_id, method, route, read_key(request))
    # The path itself: the same body to another object of the same route is another request.
    return Attempt(scope, fingerprint(method=method, route=request.url.path, body=body))


def route_template(request: Request) -> str:
    """Return the template that matched, such as `/api/credit-applications/{id}`."""
    template: str = request.scope["route"].path
    return template


def response_of(state: Replay | InFlight | Reused) -> Response:
    """Return the stored answer, marked as a replay. Raises RequestInFlight or IdempotencyKeyReused."""
    if isinstance(state, InFlight):
        raise RequestInFlight("a request with this Idempotency-Key is in flight", retry_after_s=1)
    if isinstance(state, Reused):
        raise IdempotencyKeyReused("this Idempotency-Key was used with another request")
    response = to_http(state.response)
    response.headers[REPLAYED_HEADER] = "true"
    return response


def to_http(stored: StoredResponse) -> Response:
    """Return the answer as it goes out."""
    return Response(stored.body, status_code=stored.status, headers=dict(stored.headers))


class AnswerOnce:
    """Answers each key once. `work` gets the transaction's connection and returns the answer to keep.

    What `work` raises rolls everything back and keeps nothing, so that the request may be sent again. A
    business refusal that is final is therefore returned as a StoredResponse, not raised.
    """

    def __init__(self, *, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def known(self, request: Request, *, caller: Caller, body: Any) -> Response | None:
        """Return the answer that a key already has, None for a new one. What is true now may change at once."""
        attempt = attempt_of(request, caller=caller, body=body)
        async with self._database.transaction() as connection:
            [state] = await check_attempts(connection, [attempt])
        return None if isinstance(state, Fresh) else response_of(state)

    async def __call__(self, request: Request, *, caller: Caller, body: Any, work: Work) -> Response:
        """Answer the request: by doing the work, or with the answer that its key already has."""
        attempt = attempt_of(request, caller=caller, body=body)
        async with self._database.transaction() as connection:
            [state] = await check_attempts(connection, [attempt])
            if not isinstance(state, Fresh):
                return response_of(state)
            response = await work(connection)
            await save_responses(connection, [(attempt, response)], now=self._clock.now())
        return to_http(response)
