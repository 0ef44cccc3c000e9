"""What Schemathesis cannot know of our API: which dates make sense, and which refusals of valid data do not.

Loaded by the name in `SCHEMATHESIS_HOOKS`; see `tools.fuzz`.
"""

from __future__ import annotations

from datetime import date
from typing import Any

import schemathesis
from hypothesis import strategies as st

_CALLED_INVALID = frozenset(
    f"/problems/{name}"
    for name in (
        "broken-json",
        "idempotency-key-malformed",
        "idempotency-key-missing",
        "unsupported-media-type",
        "validation-failed",
    )
)
_UNKNOWN_FIELD = "x-schemathesis-unknown-property"
_BEYOND_SCHEMA = frozenset({"applicant.dob"})
"""Fields with a rule that JSON Schema has no word for: here, that the date is in the past."""

schemathesis.openapi.format("date", st.dates(date(1900, 1, 1), date(2020, 12, 31)).map(str))


@schemathesis.hook
def filter_case(context: schemathesis.HookContext, case: schemathesis.Case[Any]) -> bool:  # noqa: ARG001 - the signature is Schemathesis'
    """Leave out header fields that nobody knows: HTTP has them ignored (RFC 9110, 5.1), so they are no bad data."""
    return _UNKNOWN_FIELD not in (case.headers or {})


@schemathesis.check
def valid_data_is_not_called_invalid(
    ctx: schemathesis.CheckContext,  # noqa: ARG001 - the signature is Schemathesis'
    response: schemathesis.Response,
    case: schemathesis.Case[Any],
) -> bool | None:
    """Refuse an answer which says of data that fit the document that they do not."""
    is_valid = case.meta is not None and case.meta.generation.mode.is_positive
    if not is_valid or response.status_code not in (400, 415, 422):
        return None
    problem = response.json()
    fields = {error["field"] for error in problem.get("errors", ())}
    if problem["type"] in _CALLED_INVALID and not (fields and fields <= _BEYOND_SCHEMA):
        raise AssertionError(f"data that fit the document: {problem['type']}, {sorted(fields)}")
    return None
