"""Changes to the version that their client read: `If-Match` with the strong tag of that version (RFC 9110)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request

from faregate.kernel.errors import ConflictError, InvalidError

IF_MATCH: Mapping[str, Any] = {
    "name": "If-Match",
    "in": "header",
    "required": True,
    "description": "The entity tag of the version that you read and change.",
    "schema": {"type": "string", "pattern": r'^"[0-9]{1,9}"$'},
    "example": '"3"',
}
_NUMBER = re.compile(r'"([0-9]{1,9})"')


class PreconditionMissing(InvalidError):
    """The change must say in `If-Match` which version it is made to.

    Read the object and send the `ETag` of that answer.
    """


class PreconditionFailed(ConflictError):
    """The object has another version than the one in `If-Match`: somebody changed it since. Nothing was changed.

    Read it again and decide anew.
    """


def expected_version(request: Request) -> int:
    """Return the version that a change is made to. Raises PreconditionMissing or PreconditionFailed."""
    given = request.headers.getlist("if-match")
    if not given:
        raise PreconditionMissing("an If-Match header is needed")
    found = _NUMBER.fullmatch(given[0].strip()) if len(given) == 1 else None
    if found is None:
        raise PreconditionFailed("no version has this entity tag")
    return int(found[1])
