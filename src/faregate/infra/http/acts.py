"""The way in and out of a context's endpoints: who may, what the body says, and answering an act once a key."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.admission import Work
from faregate.infra.database import Connection, Database
from faregate.infra.http.authentication import Authenticator, Caller
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.client_limits import READ, SUBMIT
from faregate.infra.http.gate import Gate
from faregate.infra.http.idempotency_store import StoredResponse
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.infra.http.problems import MEDIA_TYPE, problem_of
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError

REPLAYED = {"Idempotent-Replayed": "`true` for a repeated request"}
_JSON = (("content-type", "application/json"),)

Form = TypeVar("Form", bound=BaseModel)


class ActEdge:
    """What the endpoints of one context share. `database` is where answers are kept, with what acts write."""

    def __init__(
        self,
        *,
        database: Database,
        authenticator: Authenticator,
        gate: Gate,
        clock: Clock,
        read_scope: str,
        write_scope: str,
    ) -> None:
        self.database = database
        self._may_read = authenticator.require(read_scope)
        self._may_write = authenticator.require(write_scope)
        self._gate = gate
        self._clock = clock

    async def reader(self, request: Request) -> Caller:
        """Return who reads, once the client's limit and the state of the service allow it."""
        caller = await self._may_read(request)
        await self._gate.enter(request, caller=caller, policy=READ, work=Work.DATABASE_READ)
        return caller

    async def writer(self, request: Request) -> Caller:
        """Return who changes something, once the client's limit and the state of the service allow it."""
        caller = await self._may_write(request)
        await self._gate.enter(request, caller=caller, policy=SUBMIT, work=Work.SUBMIT)
        return caller

    async def once(
        self,
        request: Request,
        form: type[Form],
        work: Callable[[Connection, Form, str], Awaitable[BaseModel]],
        *,
        status: int = 200,
        prepare: Callable[[Form], Awaitable[None]] | None = None,
        hashed: Callable[[Form], object] | None = None,
    ) -> Response:
        """Answer an act once a key. What contradicts the present state is an answer too, and kept.

        `prepare` is done before, outside of any transaction, unless the key has its answer already. `hashed` gives what
        is hashed in place of a body that could be guessed from its hash.
        """
        caller = await self.writer(request)
        body = await read_json(request)
        said = validate(form, body)
        if hashed is not None:
            body = hashed(said)
        if prepare is not None:
            known = await self._answers.known(request, caller=caller, body=body)
            if known is not None:
                return known
            await prepare(said)
        return await self._answer(request, caller, body, lambda conn, by: work(conn, said, by), status=status)

    async def once_without_body(
        self, request: Request, work: Callable[[Connection, str], Awaitable[BaseModel]], *, status: int = 200
    ) -> Response:
        """Answer an act that its path says all about."""
        caller = await self.writer(request)
        return await self._answer(request, caller, dict(request.path_params), work, status=status)

    @property
    def _answers(self) -> AnswerOnce:
        return AnswerOnce(database=self.database, clock=self._clock)

    async def _answer(
        self,
        request: Request,
        caller: Caller,
        body: object,
        work: Callable[[Connection, str], Awaitable[BaseModel]],
        *,
        status: int,
    ) -> Response:
        async def answer(conn: Connection) -> StoredResponse:
            try:
                async with conn.transaction():  # what a refused act began is undone, its answer is kept
                    done = await work(conn, actor(caller))
            except ConflictError as error:
                problem = problem_of(error, instance=request.url.path)
                return StoredResponse(
                    problem["status"], orjson.dumps(problem), (("content-type", MEDIA_TYPE),)
                )
            return StoredResponse(status, done.model_dump_json().encode(), _JSON)

        return await self._answers(request, caller=caller, body=body, work=answer)


def actor(caller: Caller) -> str:
    """Return who acts, as records name it."""
    return f"client:{caller.client_id}"


def to_json(value: BaseModel, *, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON."""
    return Response(value.model_dump_json(), media_type="application/json", headers=headers)
