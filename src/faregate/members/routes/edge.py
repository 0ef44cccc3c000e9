"""What the endpoints of members share beside acts and reads: members in paths, and changes to a version."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.database import Connection
from faregate.infra.http.acts import REPLAYED, ActEdge, Form, actor, to_json
from faregate.infra.http.authentication import Authenticator
from faregate.infra.http.body import read_json, validate
from faregate.infra.http.conditional import CACHE_CONTROL
from faregate.infra.http.gate import Gate
from faregate.infra.http.preconditions import PreconditionFailed, expected_version
from faregate.kernel.clock import Clock
from faregate.members.api import MembersApi
from faregate.members.contracts import Member
from faregate.members.domain.profile import MemberChanged
from faregate.members.domain.status import MemberNotFound
from faregate.members.routes.forms import MEMBER_ID_PATTERN, MemberAnswer

__all__ = ["READ_SCOPE", "REPLAYED", "WRITE_SCOPE", "Edge", "member_id_of", "to_json"]

READ_SCOPE, WRITE_SCOPE = "members:read", "members:write"
_ID = re.compile(MEMBER_ID_PATTERN.removeprefix("^").removesuffix("$"))


class Edge(ActEdge):
    """The way in and out of every endpoint of this context."""

    def __init__(
        self, *, members: MembersApi, authenticator: Authenticator, gate: Gate, clock: Clock
    ) -> None:
        super().__init__(
            database=members.database,
            authenticator=authenticator,
            gate=gate,
            clock=clock,
            read_scope=READ_SCOPE,
            write_scope=WRITE_SCOPE,
        )
        self.members = members

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


def member_id_of(request: Request) -> str:
    """Return the member that the path names. Raises MemberNotFound."""
    given = str(request.path_params["member_id"])
    if not _ID.fullmatch(given):
        raise MemberNotFound("there is no member of this id")
    return given
