"""Days and instants in JSON bodies: text of one form, and nothing else that could be read as one."""

from __future__ import annotations

import re
from datetime import date
from typing import Annotated, Any

from pydantic import AwareDatetime, BeforeValidator, Field

_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_INSTANT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})"
)


def _only_as_date(value: Any) -> Any:
    """Let nothing but YYYY-MM-DD through: pydantic would also read a number, as seconds since 1970."""
    if not isinstance(value, str) or not _DATE.fullmatch(value):
        raise ValueError("Input should be a date, YYYY-MM-DD")
    return value


def _only_as_instant(value: Any) -> Any:
    """Let nothing but RFC 3339 through."""
    if not isinstance(value, str) or not _INSTANT.fullmatch(value):
        raise ValueError("Input should be an instant, as in 2026-11-26T12:00:00Z")
    return value


Day = Annotated[date, Field(strict=False), BeforeValidator(_only_as_date)]
"""A day: `2026-11-26`."""

Instant = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_only_as_instant)]
"""An instant with its zone: `2026-11-26T12:00:00Z`."""
