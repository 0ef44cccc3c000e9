"""How an operator's act is answered: who may, what it says, once a key, in one transaction."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.credit.api import CreditApi
from faregate.infra.database import Connection
from faregate.infra.http.authentication import Requirement
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.idempotency_store import StoredResponse
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.kernel.clock import Clock

Form = TypeVar("Form", bound=BaseModel)
_JSON = (("content-type", "application/json"),)


class Once:
    """Answers an operator's request once a key. The work gets the transaction, the form and who acts."""

    def __init__(self, *, credit: CreditApi, may: Requirement, clock: Clock) -> None:
        self._credit = credit
        self._may = may
        self._clock = clock

    async def __call__(
        self,
        request: Request,
        form: type[Form],
        work: Callable[[Connection, Form, str], Awaitable[BaseModel]],
        *,
        status: int = 200,
    ) -> Response:
        """Answer the request: by doing the work, or with the answer that its key already has."""
        caller = await self._may(request)
        body = await read_json(request)
        read = validate(form, body)

        async def answer(conn: Connection) -> StoredResponse:
            done = await work(conn, read, f"operator:{caller.client_id}")
            return StoredResponse(status, done.model_dump_json().encode(), _JSON)

        answer_once = AnswerOnce(database=self._credit.database, clock=self._clock)
        return await answer_once(request, caller=caller, body=body, work=answer)
