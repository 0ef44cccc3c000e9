"""Keeps personal data and secrets out of logs and spans: a second line of defence after not passing them.

Fields are known by their names. Texts are searched only for shapes that are never anything else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

MASK = "[masked]"

_PERSONAL = re.compile(
    r"(legal|full|first|last|maiden|holder)_?name|^dob$|birth|ssn|social_security|^annual_income|^identity$"
    r"|^applicant$|^subject$|^body$|^raw|payload$|e_?mail|phone|street|postal"
    r"|authori[sz]ation|cookie|secret|password|passwd|api_?key|signature|private_?key|access_token",
    re.IGNORECASE,
)
_SHAPES = re.compile(r"\b\d{3}-\d{2}-\d{4}\b|\bfg_[0-9a-z]+_[0-9a-f]{16,}|\bwhsec_\S+|\bBearer \S+")
# A failed statement's DETAIL and CONTEXT quote the row; a validation error quotes its input.
_QUOTED_ROWS = re.compile(r"^(DETAIL|CONTEXT|STATEMENT):.*$", re.MULTILINE)
_QUOTED_INPUT = re.compile(r"input_value=.*?, input_type=", re.DOTALL)


@lru_cache(maxsize=2048)
def is_personal(name: str) -> bool:
    """Whether a field of this name may hold personal data or a secret."""
    return _PERSONAL.search(name) is not None


def mask_fields(value: Any) -> Any:
    """Return the value with everything under a personal name replaced, at any depth."""
    if isinstance(value, Mapping):
        return {
            name: MASK if isinstance(name, str) and is_personal(name) else mask_fields(item)
            for name, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [mask_fields(item) for item in value]
    return value


def mask_text(text: str) -> str:
    """Return the text without social security numbers, keys, and rows or inputs that an error quotes."""
    text = _QUOTED_ROWS.sub(rf"\1: {MASK}", text)
    text = _QUOTED_INPUT.sub(f"input_value={MASK}, input_type=", text)
    return _SHAPES.sub(MASK, text)
