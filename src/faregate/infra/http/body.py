"""Reading a JSON body: media type, syntax, duplicate keys, validation. Its meaning stands with its route.

Nothing here repeats an input value: bodies hold personal data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import orjson
from pydantic import BaseModel, ValidationError
from starlette.requests import Request

from faregate.kernel.errors import InvalidError, LimitedError

BODY_BYTES_MAX = 64 * 1024
_EXACT_MAX = 2**53
_FIELD_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}")
_JSON = re.compile(r"application/(json|[a-z0-9.-]+\+json)\s*(;\s*charset=\"?utf-8\"?\s*)?", re.IGNORECASE)

Model = TypeVar("Model", bound=BaseModel)


class UnsupportedMediaType(InvalidError):
    """The body is not JSON.

    Send it with `Content-Type: application/json`, in UTF-8.
    """


class BodyTooLarge(LimitedError):
    """The body is larger than this service accepts.

    Send less; nothing was read beyond the limit and nothing was changed.
    """


class BrokenJson(InvalidError):
    """The body is not valid JSON: broken syntax, a key given twice, NaN, or text that is not UTF-8.

    Correct the body and send it again; the same idempotency key may be used.
    """


class ValidationFailed(InvalidError):
    """The body is JSON, but fields are missing, unknown, or have values that are not allowed.

    `errors` names each field. Correct them and send the body again; the same idempotency key may be used.
    """


async def read_json(request: Request) -> Any:
    """Return the body's value. Raises UnsupportedMediaType, BodyTooLarge or BrokenJson."""
    check_media_type(request)
    return parse_json(await request.body())


def check_media_type(request: Request) -> None:
    """Accept JSON media types, in UTF-8 only."""
    given = request.headers.get("content-type", "")
    if given != "application/json" and not _JSON.fullmatch(given.strip()):
        raise UnsupportedMediaType("the body must be application/json in UTF-8")


def parse_json(raw: bytes) -> Any:
    """Return the value of strict JSON: UTF-8, no NaN, no half surrogates, no key twice in an object.

    `3.0` is the integer 3, as JSON Schema has it and as many writers of JSON put it.
    """
    try:
        value = orjson.loads(raw)
        _refusing_duplicates.decode(raw.decode())
        return _with_integers(value)
    except (ValueError, RecursionError) as error:
        raise BrokenJson(_why(error)) from None  # the cause quotes the document


def validate(model: type[Model], value: Any, *, strict: bool | None = None) -> Model:
    """Return the value as an instance of the model, or raise ValidationFailed.

    `strict` False reads what a query holds as text; None leaves it to the model.
    """
    try:
        return model.model_validate(value, strict=strict)
    except ValidationError as error:
        errors = error.errors(include_url=False, include_input=False, include_context=False)
        raise validation_failed(errors) from None


def validation_failed(errors: Iterable[Any]) -> ValidationFailed:
    """Turn the errors of pydantic or FastAPI into ours: field and message, never an input value."""
    fields = [{"field": _field(e["loc"]), "message": _message(e)} for e in errors]
    count = len(fields)
    detail = "1 field is not valid" if count == 1 else f"{count} fields are not valid"
    return ValidationFailed(detail, errors=fields)


class _DuplicateKeyError(ValueError):
    """An object names a key twice: which value counts differs from parser to parser."""


def _refuse_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise _DuplicateKeyError
    return value


def _with_integers(value: Any) -> Any:
    """Make integers of the floats that are, as far as a float is exact."""
    if isinstance(value, float):
        return int(value) if value.is_integer() and abs(value) <= _EXACT_MAX else value
    if isinstance(value, dict):
        return {name: _with_integers(inner) for name, inner in value.items()}
    return [_with_integers(inner) for inner in value] if isinstance(value, list) else value


_refusing_duplicates = json.JSONDecoder(object_pairs_hook=_refuse_duplicates)


def _why(error: Exception) -> str:
    if isinstance(error, _DuplicateKeyError):
        return "an object in the body has the same key twice"
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, json.JSONDecodeError) and error.doc:
        return f"the body is not valid JSON (line {error.lineno}, column {error.colno})"
    return "the body is empty or not valid JSON"


def _field(location: Iterable[str | int]) -> str:
    """A dotted path. A part that is no field name came from the client and is not repeated."""
    parts = [str(p) if isinstance(p, int) or _FIELD_NAME.fullmatch(p) else "?" for p in location]
    return ".".join(parts[1:] if parts[:1] == ["body"] else parts)


def _message(error: Mapping[str, Any]) -> str:
    if error["type"] == "union_tag_invalid":  # its text quotes the tag
        return "The kind is not known"
    return str(error["msg"]).removeprefix("Value error, ")
