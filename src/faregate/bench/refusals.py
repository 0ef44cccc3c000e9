"""Whether a refused request was refused properly: it is told when to come back, and by which limit.

`Retry-After` by RFC 9110, section 10.2.3; `RateLimit` and `RateLimit-Policy` by the draft
draft-ietf-httpapi-ratelimit-headers-11; the body by RFC 9457. A 429 speaks of the client's own limit and needs all of
them, a 503 of ours and needs only `Retry-After`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from email.utils import parsedate_to_datetime

LIMITED, OVERLOADED = 429, 503
REFUSED = frozenset({LIMITED, OVERLOADED})
PROBLEM = "application/problem+json"

_MEMBER = re.compile(r'\s*"(?P<name>[^"]+)"(?P<parameters>(?:\s*;\s*[a-z]+=[^;,\s]+)*)\s*')
_PARAMETER = re.compile(r"([a-z]+)=([^;,\s]+)")
_Limits = dict[str, dict[str, int]]


def fault_of_refusal(status: int, headers: Mapping[str, str]) -> str | None:
    """Return what is wrong with the headers of a 429 or 503, None when nothing is. Names are lower case."""
    if not _is_retry_after(headers.get("retry-after")):
        return "no valid Retry-After"
    if headers.get("content-type", "").partition(";")[0] != PROBLEM:
        return "no problem document"
    if status == OVERLOADED and "ratelimit" not in headers:
        return None
    policies = _limits(headers.get("ratelimit-policy"), required="q")
    if not policies:
        return "no valid RateLimit-Policy"
    limits = _limits(headers.get("ratelimit"), required="r")
    if not limits:
        return "no valid RateLimit"
    if not limits.keys() <= policies.keys():
        return "RateLimit names no announced policy"
    if any(limit["r"] > policies[name]["q"] for name, limit in limits.items()):
        return "RateLimit has more left than its quota"
    return None


def _is_retry_after(value: str | None) -> bool:
    if value is None:
        return False
    if value.isascii() and value.isdigit():
        return True
    try:
        return parsedate_to_datetime(value) is not None
    except ValueError:
        return False


def _limits(value: str | None, *, required: str) -> _Limits:
    """Read a list of named items with integer parameters; empty for anything else."""
    found: _Limits = {}
    for member in (value or "").split(","):
        match = _MEMBER.fullmatch(member)
        if match is None:
            return {}
        parameters = dict(_PARAMETER.findall(match["parameters"]))
        numbers = {name: int(number) for name, number in parameters.items() if number.isdigit()}
        if required not in numbers:
            return {}
        found[match["name"]] = numbers
    return found
