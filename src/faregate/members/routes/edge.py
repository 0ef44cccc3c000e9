"""What the endpoints of members share: who may, what the body says, and answering an act once a key."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar

import orjson
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.admission import Work
from faregate.infra.database import Connection
from faregate.infra.http.authentication import Authenticator, Caller
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.client_limits import READ, SUBMIT
from faregate.infra.http.conditional import CACHE_CONTROL
from faregate.infra.http.gate import Gate
from faregate.infra.http.idempotency_store import StoredResponse
from faregate.infra.http.idempotent_route import AnswerOnce
from faregate.infra.http.preconditions import PreconditionFailed, expected_version
from faregate.infra.http.problems import MEDIA_TYPE, problem_of
from faregate.kernel.clock import Clock
from faregate.kernel.errors import ConflictError
from faregate.members.api import MembersApi
from faregate.members.contracts import Member
from faregate.members.domain.profile import MemberChanged
from faregate.members.domain.status import MemberNotFound
from faregate.members.routes.forms import MEMBER_ID_PATTERN, MemberAnswer

READ_SCOPE, WRITE_SCOPE = "members:read", "members:write"
REPLAYED = {"Idempotent-Replayed": "`true` for a repeated request"}
_JSON = (("content-type", "application/json"),)
_ID = re.compile(MEMBER_ID_PATTERN.removeprefix("^").removesuffix("$"))

Form = TypeVar("Form", bound=BaseModel)


class Edge:
    """The way in and out of every endpoint of this context."""

    def __init__(
        self, *, members: MembersApi, authenticator: Authenticator, gate: Gate, clock: Clock
    ) -> None:
        self.members = members
        self._may_read = authenticator.require(READ_SCOPE)
        self._may_write = authenticator.require(WRITE_SCOPE)
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
    ) -> Response:
        """Answer an act once a key. What contradicts the present state is an answer too, and kept."""
        caller = await self.writer(request)
        body = await read_json(request)
        said = validate(form, body)
        return await self._answer(request, caller, body, lambda conn, by: work(conn, said, by), status=status)

    async def once_without_body(
        self, request: Request, work: Callable[[Connection, str], Awaitable[BaseModel]], *, status: int = 200
    ) -> Response:
        """Answer an act that its path says all about."""
        caller = await self.writer(request)
        return await self._answer(request, caller, dict(request.path_params), work, status=status)

    async def change(
        self,
        request: Request,
        form: type[Form],
        work: Callable[[Connection, str, Form, int, str], Awaitable[Member]],
    ) -> Response:
        """Answer a change to the version in `If-Match` with the member as it is now. Raises PreconditionFailed."""
        caller = await self.writer(request)
        member_id, version = member_id_of(request), expected_version(request)
        said = validate(form, await read_json(request))
        try:
            async with self.members.database.transaction() as conn:
                member = await work(conn, member_id, said, version, actor(caller))
        except MemberChanged as error:
            raise PreconditionFailed(error.detail, **error.facts) from error
        headers = {"ETag": f'"{member.version}"', "Cache-Control": CACHE_CONTROL}
        return to_json(MemberAnswer.of(member), headers=headers)

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

        answer_once = AnswerOnce(database=self.members.database, clock=self._clock)
        return await answer_once(request, caller=caller, body=body, work=answer)


def actor(caller: Caller) -> str:
    """Return who acts, as records name it."""
    return f"client:{caller.client_id}"


def member_id_of(request: Request) -> str:
    """Return the member that the path names. Raises MemberNotFound."""
    given = str(request.path_params["member_id"])
    if not _ID.fullmatch(given):
        raise MemberNotFound("there is no member of this id")
    return given


def to_json(value: BaseModel, *, headers: dict[str, str] | None = None) -> Response:
    """Return an answer of JSON."""
    return Response(value.model_dump_json(), media_type="application/json", headers=headers)
