"""RFC 8785 canonical JSON: the one byte form of a JSON value, for hashes and signatures.

Not a general serialiser: answers and events are written with orjson as they are.
"""

from __future__ import annotations

import hashlib
from typing import Any

import orjson
import rfc8785

from faregate.kernel.errors import InvalidError

_INTEGER_MAX = 2**53 - 1
_PLAIN_KEY_MAX = "\ud7ff"  # up to here UTF-16 order, which RFC 8785 asks for, is code point order
_MAX_DEPTH = 64


class NotCanonicalisable(InvalidError):
    """A value has no RFC 8785 form: an integer beyond 2^53, NaN, half a surrogate pair, or deep nesting."""


def canonical_json(value: Any) -> bytes:
    """Return the RFC 8785 bytes of a value made of dict, list, str, int, float, bool and None.

    A value without floats and with ordinary keys takes orjson, which agrees there with RFC 8785 and is
    some thirty times faster; everything else takes the reference library.
    """
    try:
        if _is_plain(value, 0):
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        return rfc8785.dumps(value)
    except (rfc8785.CanonicalizationError, orjson.JSONEncodeError, RecursionError) as error:
        raise NotCanonicalisable("the value has no canonical JSON form") from error


def canonical_hash(value: Any) -> bytes:
    """Return the SHA-256 of the value's canonical JSON (32 bytes)."""
    return hashlib.sha256(canonical_json(value)).digest()


def _is_plain(value: Any, depth: int) -> bool:
    kind = type(value)
    if kind is str or kind is bool or value is None:
        return True
    if kind is int:
        return bool(-_INTEGER_MAX <= value <= _INTEGER_MAX)
    if depth > _MAX_DEPTH:
        raise NotCanonicalisable(f"the value is nested deeper than {_MAX_DEPTH} levels")
    if kind is dict:
        for key, item in value.items():  # loops and not generators: every request's body passes here
            if type(key) is not str or not (key.isascii() or max(key) <= _PLAIN_KEY_MAX):
                return False
            if type(item) is not str and not _is_plain(item, depth + 1):
                return False
        return True
    return kind is list and all(_is_plain(item, depth + 1) for item in value)
