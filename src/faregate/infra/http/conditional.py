"""Answers that a client may keep: strong entity tags, and 304 instead of what it has already (RFC 9110, section 13).

Such an answer is the caller's own and may change: it is kept by the client alone, and asked for anew each time.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from faregate.infra.http.openapi import Answer

CACHE_CONTROL = "private, no-cache"
TAG_HEADERS: Mapping[str, str] = {
    "ETag": "Names this very answer; send it back in `If-None-Match`",
    "Cache-Control": f"`{CACHE_CONTROL}`",
}
NOT_MODIFIED = Answer(description="The client has the present answer", headers=TAG_HEADERS)
CONDITION: Mapping[str, Any] = {
    "name": "If-None-Match",
    "in": "header",
    "required": False,
    "description": "Entity tags that the client has, or `*`: if one of them is present, the answer is 304.",
    "schema": {"type": "string"},
    "example": '"3"',
}
_NUMBER = re.compile(r'"([0-9]{1,9})(?:-[0-9a-f]{8})?"')
_TAG = re.compile(r'(?:W/)?("[\x21\x23-\x7e\x80-\xff]*")')


def known_tags(request: Request) -> frozenset[str]:
    """Return the tags that the client has, quoted and without their weakness; `*` stands for any."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return frozenset({"*"}) if given.strip() == "*" else frozenset(_TAG.findall(given))


def known_number(request: Request) -> int:
    """Return the greatest number among the tags that the client has, for tags that count; 0 if there is none."""
    found = (_NUMBER.fullmatch(tag) for tag in known_tags(request))
    return max((int(number[1]) for number in found if number), default=0)


def counted_tag(number: int, value: Any) -> str:
    """Return a tag that counts, and names its content: a number that was shown and then undone names another answer."""
    return f"{number}-{zlib.crc32(orjson.dumps(value)):08x}"


def answer_unless_known(request: Request, value: Any, *, tag: str) -> Response:
    """Return the value as JSON under its tag, or 304 if the client has it."""
    headers = {"ETag": f'"{tag}"', "Cache-Control": CACHE_CONTROL}
    if known_tags(request) & {"*", headers["ETag"]}:
        return Response(status_code=304, headers=headers)
    return Response(orjson.dumps(value), media_type="application/json", headers=headers)
