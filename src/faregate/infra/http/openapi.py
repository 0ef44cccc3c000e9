"""OpenAPI: `operation` describes a route with examples, `describe_api` assembles the document."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel

from faregate.infra.admission import Overloaded
from faregate.infra.http import problems as table
from faregate.infra.http.authentication import ScopeMissing, Unauthenticated
from faregate.infra.http.body import BodyTooLarge, BrokenJson, UnsupportedMediaType, ValidationFailed
from faregate.infra.http.client_limits import RateLimited
from faregate.infra.http.idempotency import (
    KEY_PATTERN,
    IdempotencyKeyMalformed,
    IdempotencyKeyMissing,
    IdempotencyKeyRepeated,
    IdempotencyKeyReused,
    RequestInFlight,
)
from faregate.kernel.errors import FaregateError

_PATH_PARAMETER = re.compile(r"\{([a-z_]+)\}")
_SCHEMAS = "#/components/schemas/"
_PROBLEM = {"$ref": f"{_SCHEMAS}Problem"}
_KEY_SCHEMES = {
    "ApiKey": {"type": "http", "scheme": "bearer", "description": "An API key, `fg_<id>_<secret>`."},
    "ApiKeyHeader": {"type": "apiKey", "in": "header", "name": "X-Api-Key"},
}
_IDEMPOTENCY_HEADER = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Quoted or bare, 1 to 255 printable ASCII characters, a UUID is best. Kept for 30 days.",
    "schema": {"type": "string", "pattern": KEY_PATTERN},
    "example": '"8e03978e-40d5-43dd-bc93-6894a57f9324"',
}
_HEADERS = {
    "X-Request-Id": "The request's id: the client's own, or one that we gave it",
    "Retry-After": "Seconds after which to send it again",
    "WWW-Authenticate": "How to authenticate",
}
_HEADERS_OF_STATUS = {"401": ("WWW-Authenticate",), "429": ("Retry-After",), "503": ("Retry-After",)}
_Responses = dict[int | str, dict[str, Any]]
_OF_KEYS = (Unauthenticated, ScopeMissing)
_OF_BODIES = (BrokenJson, BodyTooLarge, UnsupportedMediaType, ValidationFailed)
_OF_IDEMPOTENCY = (
    IdempotencyKeyMissing,
    IdempotencyKeyMalformed,
    IdempotencyKeyRepeated,
    RequestInFlight,
    IdempotencyKeyReused,
)
_OF_LIMITS = (RateLimited, Overloaded)
_LIMIT_HEADERS = {
    "RateLimit-Policy": "The client's limit: `q` requests at once, and again after `w` seconds",
    "RateLimit": "`r` requests are left, which keep to the limit over `t` seconds",
}
_BEFORE_LIMITS = frozenset({400, 401, 403, 413, 415})
_SAY_WHEN = frozenset({429, 503})
_RETRY_AFTER = {"Retry-After": "Seconds to wait before it is sent again"}
_OF_ALL = (table.RequestTimedOut, table.InternalError)


class Problem(BaseModel):
    """An RFC 9457 problem. `type` is a page that says what to do; further members depend on it."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """A successful answer: what it says, its model, an example, and its headers with their meaning.

    `media_type` of an answer without a model; `other_media_types` are forms that a client may ask for. `links` lead to
    other operations, by name.
    """

    description: str
    model: type[BaseModel] | None = None
    example: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    media_type: str | None = None
    other_media_types: Sequence[str] = ()
    links: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def link(path: str, *, method: str = "get", **parameters: str) -> Mapping[str, Any]:
    """Return a link to the operation of a path; each parameter is a field of the answer's body."""
    escaped = path.replace("~", "~0").replace("/", "~1")
    taken = {name: f"$response.body#/{source}" for name, source in parameters.items()}
    return {"operationRef": f"#/paths/{escaped}/{method}", "parameters": taken}


def operation(
    *,
    summary: str,
    answers: Mapping[int, Answer],
    problems: Sequence[type[FaregateError]] = (),
    body: type[BaseModel] | None = None,
    examples: Mapping[str, Any] | None = None,
    parameters: Sequence[Mapping[str, Any]] = (),
    scope: str | None = None,
    idempotent: bool = False,
    limited: bool = False,
) -> dict[str, Any]:
    """Return the keyword arguments that document a route: `@router.post("/x", **operation(…))`.

    `examples` are bodies by name, `parameters` OpenAPI objects for headers and queries that the route reads
    by itself. Path parameters and the problems of keys, bodies, idempotency and limits are added by themselves.
    """
    added = (
        *(_OF_KEYS if scope else ()),
        *(_OF_BODIES if body else ()),
        *(_OF_IDEMPOTENCY if idempotent else ()),
        *(_OF_LIMITS if limited else ()),
        *_OF_ALL,
    )
    extra: dict[str, Any] = {}
    if scope:
        extra["security"] = [{name: []} for name in _KEY_SCHEMES]
        extra["x-scope"] = scope
    if parameters or idempotent:
        extra["parameters"] = [*parameters, *([_IDEMPOTENCY_HEADER] if idempotent else ())]
    if body:
        extra["requestBody"] = {
            "required": True,
            "content": {"application/json": _body(body, examples or {})},
        }
    return {
        "summary": summary,
        "status_code": next(iter(answers)),
        "response_model": None,
        "responses": _with_headers(
            _merge(_answers(answers), _problems([*problems, *added])), _LIMIT_HEADERS if limited else {}
        ),
        "openapi_extra": extra,
    }


def query_parameters(model: type[BaseModel]) -> list[dict[str, Any]]:
    """Return the fields of a model as the parameters of a query, which has no null: what is optional is left out."""
    document = model.model_json_schema()
    return [
        {
            "name": name,
            "in": "query",
            "required": name in document.get("required", ()),
            "description": described.get("description", ""),
            "schema": _without_null(described, document.get("$defs", {})),
        }
        for name, described in document["properties"].items()
    ]


def _without_null(described: Mapping[str, Any], parts: Mapping[str, Any]) -> dict[str, Any]:
    """A field's own schema in place, without what is said of it elsewhere."""
    kinds = [kind for kind in described.get("anyOf", [described]) if kind.get("type") != "null"]
    kind = kinds[0]
    named = parts.get(kind.get("$ref", "").rpartition("/")[2], kind)
    kept = {k: v for k, v in named.items() if k not in {"title", "description", "default"}}
    default = described.get("default")
    return kept if default is None else {**kept, "default": default}


def describe_api(app: FastAPI) -> dict[str, Any]:
    """Return the app's OpenAPI document."""
    document = get_openapi(
        title=app.title, version=app.version, description=app.description, routes=app.routes
    )
    components = document.setdefault("components", {})
    components["securitySchemes"] = dict(_KEY_SCHEMES)
    schemas = components.setdefault("schemas", {})
    for path, operations in document.get("paths", {}).items():
        for described in operations.values():
            _add_path_parameters(described, path)
            _hoist(described, schemas)
            _replace_fastapi_problem(described)
            _add_headers(described)
    schemas.pop("HTTPValidationError", None)
    schemas.pop("ValidationError", None)
    schemas["Problem"] = Problem.model_json_schema()
    return document


def _add_path_parameters(described: dict[str, Any], path: str) -> None:
    """FastAPI knows those that an endpoint declares; one that takes the request reads them by itself."""
    known = described.setdefault("parameters", [])
    declared = {parameter["name"] for parameter in known if parameter["in"] == "path"}
    for name in _PATH_PARAMETER.findall(path):
        if name not in declared:
            known.insert(0, {"name": name, "in": "path", "required": True, "schema": {"type": "string"}})


def _add_headers(described: dict[str, Any]) -> None:
    """Those of any answer, and those that go with a status."""
    for status, response in described.get("responses", {}).items():
        headers = response.setdefault("headers", {})
        for name in ("X-Request-Id", *_HEADERS_OF_STATUS.get(status, ())):
            headers.setdefault(name, {"description": _HEADERS[name], "schema": {"type": "string"}})


def _body(model: type[BaseModel], examples: Mapping[str, Any]) -> dict[str, Any]:
    named = {name: {"value": value} for name, value in examples.items()}
    return {"schema": _schema(model), **({"examples": named} if named else {})}


def _schema(model: type[BaseModel]) -> dict[str, Any]:
    """The model's schema; its parts are moved to the components when the document is assembled."""
    return {"x-model": model.__name__, **model.model_json_schema(ref_template=_SCHEMAS + "{model}")}


def _answers(answers: Mapping[int, Answer]) -> _Responses:
    described: _Responses = {}
    for status, answer in answers.items():
        entry: dict[str, Any] = {"description": answer.description}
        if answer.model:
            entry["content"] = {"application/json": {"schema": _schema(answer.model)}}
            if answer.example is not None:
                entry["content"]["application/json"]["example"] = answer.example
        elif answer.media_type:
            entry["content"] = {answer.media_type: {"schema": {"type": "string"}}}
        for media_type in answer.other_media_types:
            entry["content"][media_type] = {"schema": {"type": "string", "format": "binary"}}
        if answer.links:
            entry["links"] = dict(answer.links)
        if answer.headers:
            entry["headers"] = _headers(answer.headers)
        described[status] = entry
    return described


def _headers(meanings: Mapping[str, str]) -> dict[str, Any]:
    return {
        name: {"description": meaning, "schema": {"type": "string"}} for name, meaning in meanings.items()
    }


def _with_headers(described: _Responses, meanings: Mapping[str, str]) -> _Responses:
    """Add header fields to the answers that come after authentication, and when to try again to what says so."""
    for status, entry in described.items():
        further = dict(meanings) if status not in _BEFORE_LIMITS else {}
        further |= _RETRY_AFTER if status in _SAY_WHEN else {}
        if further:
            entry["headers"] = {**entry.get("headers", {}), **_headers(further)}
    return described


def _problems(errors: Iterable[type[FaregateError]]) -> _Responses:
    described: _Responses = {}
    for error in dict.fromkeys(errors):
        status = table.status_of(error)
        entry = described.setdefault(status, _problem_entry())
        entry["content"][table.MEDIA_TYPE]["examples"][error.slug()] = {"value": _example(error)}
        titles = [entry["description"], error.title()] if entry["description"] else [error.title()]
        entry["description"] = "; ".join(titles)
    return described


def _merge(answers: _Responses, problems: _Responses) -> _Responses:
    """Both by status; where an answer and a problem share one, it documents both media types."""
    merged = {**problems, **answers}
    for status in answers.keys() & problems.keys():
        content = {**answers[status].get("content", {}), **problems[status]["content"]}
        merged[status] = {**answers[status], "content": content}
    return merged


def _problem_entry() -> dict[str, Any]:
    return {"description": "", "content": {table.MEDIA_TYPE: {"schema": _PROBLEM, "examples": {}}}}


def _example(error: type[FaregateError]) -> dict[str, Any]:
    meaning, _ = table.describe(error)
    return table.problem_of(error(meaning), instance="/…", request_id="req_0123456789abcdef0123")


def _hoist(described: dict[str, Any], schemas: dict[str, Any]) -> None:
    """Move the schemas of an operation's bodies, and their parts, to the components."""
    bodies = [described.get("requestBody", {}), *described.get("responses", {}).values()]
    for media in (m for body in bodies for m in body.get("content", {}).values()):
        schema = media.get("schema", {})
        name = schema.get("x-model")
        if name is not None:
            own = {k: v for k, v in schema.items() if k not in {"x-model", "$defs"}}
            for part, described_as in {**schema.get("$defs", {}), name: own}.items():
                if schemas.setdefault(part, described_as) != described_as:
                    raise ValueError(f"two schemas of the API are named {part}: their names are global")
            media["schema"] = {"$ref": _SCHEMAS + name}


def _replace_fastapi_problem(described: dict[str, Any]) -> None:
    """FastAPI documents its own validation error where a route says nothing; ours is what is sent."""
    entry = described.get("responses", {}).get("422", {})
    schema = entry.get("content", {}).get("application/json", {}).get("schema", {})
    if schema.get("$ref") == f"{_SCHEMAS}HTTPValidationError":
        described["responses"].update({"422": _problems([ValidationFailed])[422]})
