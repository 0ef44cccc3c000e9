"""Errors as RFC 9457 problems: the one table from errors to HTTP statuses, and a page for each problem type.

A new situation needs nothing here: it takes the status of its kind. Only the HTTP layer's own have rows.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterator, Mapping
from html import escape
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.types import Scope

from faregate.infra.http.authentication import Unauthenticated
from faregate.infra.http.body import BodyTooLarge, UnsupportedMediaType, ValidationFailed
from faregate.infra.http.idempotency import IdempotencyKeyReused
from faregate.infra.http.preconditions import PreconditionFailed, PreconditionMissing
from faregate.infra.security.signatures import SignatureExpired, SignatureMissing, SignatureRejected
from faregate.kernel.errors import ErrorKind, FaregateError, InvalidError, NotFoundError, UnavailableError

MEDIA_TYPE = "application/problem+json"
REQUEST_ID = "faregate.request_id"  # the key of the request's id in the ASGI scope


class RouteNotFound(NotFoundError):
    """No route has this path."""


class ProblemUnknown(NotFoundError):
    """No problem type has this name."""


class MethodNotAllowed(InvalidError):
    """The path exists, but not with this method.

    The `Allow` header lists the methods that it has.
    """


class RequestRefused(InvalidError):
    """The request breaks a rule of HTTP."""


class RequestTimedOut(UnavailableError):
    """The request took longer than it may. It may have been carried out all the same.

    Send it again with the same idempotency key: you will get the answer of the first, if there is one.
    """


class InternalError(UnavailableError):
    """Something went wrong that should not have. It has been logged under the request's id.

    Send it again with the same idempotency key, and report `request_id` if it goes on.
    """


STATUSES: Mapping[ErrorKind | type[FaregateError], int] = {
    ErrorKind.INVALID: 400,
    ErrorKind.FORBIDDEN: 403,
    ErrorKind.NOT_FOUND: 404,
    ErrorKind.CONFLICT: 409,
    ErrorKind.LIMITED: 429,
    ErrorKind.UNAVAILABLE: 503,
    Unauthenticated: 401,
    SignatureMissing: 401,
    SignatureRejected: 401,
    SignatureExpired: 401,
    MethodNotAllowed: 405,
    PreconditionFailed: 412,
    PreconditionMissing: 428,
    BodyTooLarge: 413,
    UnsupportedMediaType: 415,
    ValidationFailed: 422,
    IdempotencyKeyReused: 422,
    InternalError: 500,
}

_ADVICE: Mapping[ErrorKind, str] = {
    ErrorKind.INVALID: "Correct the request and send it again.",
    ErrorKind.NOT_FOUND: "Check the id, and that it belongs to the client whose key you use.",
    ErrorKind.CONFLICT: "Read the present state and decide anew.",
    ErrorKind.FORBIDDEN: "Use credentials that allow it.",
    ErrorKind.LIMITED: "Wait as long as Retry-After says and send it again.",
    ErrorKind.UNAVAILABLE: "Wait a little, or as long as Retry-After says, and send it again.",
}


def status_of(error: type[FaregateError]) -> int:
    """Return the HTTP status of an error: its own row, that of a base class, or that of its kind."""
    for base in error.__mro__:
        if base in STATUSES:
            return STATUSES[base]
    return STATUSES[error.kind]


def problem_of(error: FaregateError, *, instance: str, request_id: str | None = None) -> dict[str, Any]:
    """Return the members of an error's problem; its facts are extension members."""
    return {
        **error.facts,
        "type": f"/problems/{error.slug()}",
        "title": error.title(),
        "status": status_of(type(error)),
        "detail": error.detail,
        "instance": instance,
        **({"request_id": request_id} if request_id else {}),
    }


def problem_response(error: FaregateError, scope: Scope) -> Response:
    """Return the answer to a request that met this error."""
    body = problem_of(error, instance=scope["path"], request_id=scope.get(REQUEST_ID))
    return Response(
        orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS),
        status_code=body["status"],
        headers=_headers_of(error),
        media_type=MEDIA_TYPE,
    )


def known_problems() -> Mapping[str, type[FaregateError]]:
    """Return every error class that is loaded, by the last part of its problem type."""
    return {error.slug(): error for error in _subclasses(FaregateError)}


async def problem_page(request: Request) -> Response:
    """Answer `GET /problems/{slug}`: what the problem means and what to do about it."""
    slug = request.path_params["slug"]
    error = known_problems().get(slug)
    if error is None:
        raise ProblemUnknown(f"no problem type is named {slug!r}")
    meaning, advice = describe(error)
    return HTMLResponse(
        "<!doctype html><meta charset=utf-8>"
        f"<title>{escape(error.title())}</title><h1>{escape(error.title())}</h1>"
        f"<p>Status {status_of(error)}</p><p>{escape(meaning)}</p>"
        f"<h2>What to do</h2><p>{escape(advice)}</p>"
    )


def describe(error: type[FaregateError]) -> tuple[str, str]:
    """Return an error's meaning and what to do: the first paragraph of its docstring, and the others."""
    meaning, _, advice = (inspect.getdoc(error) or error.title()).partition("\n\n")
    return " ".join(meaning.split()), " ".join(advice.split()) or _ADVICE[error.kind]


def _headers_of(error: FaregateError) -> dict[str, str]:
    headers: dict[str, str] = dict(getattr(error, "headers", {}))
    retry_after_s = error.facts.get("retry_after_s")
    if retry_after_s is not None:
        headers["Retry-After"] = str(math.ceil(retry_after_s))
    return headers


def _subclasses(base: type[FaregateError]) -> Iterator[type[FaregateError]]:
    for child in base.__subclasses__():
        yield child
        yield from _subclasses(child)
