"""What a proper refusal looks like: each header that it needs, and what is wrong without it."""

from __future__ import annotations

import pytest

from faregate.bench.refusals import fault_of_refusal

LIMITED = {
    "content-type": "application/problem+json",
    "retry-after": "2",
    "ratelimit-policy": '"submit";q=500;w=1',
    "ratelimit": '"submit";r=0;t=2',
}


@pytest.mark.requirement("C24")
@pytest.mark.parametrize(
    ("status", "changed", "fault"),
    [
        (429, {}, None),
        (429, {"retry-after": "Wed, 25 Nov 2026 22:00:00 GMT"}, None),
        (429, {"ratelimit-policy": '"submit";q=500;w=1, "day";q=9000;w=86400'}, None),
        (429, {"retry-after": None}, "no valid Retry-After"),
        (429, {"retry-after": "soon"}, "no valid Retry-After"),
        (429, {"retry-after": "-1"}, "no valid Retry-After"),
        (429, {"content-type": "text/plain"}, "no problem document"),
        (429, {"ratelimit-policy": None}, "no valid RateLimit-Policy"),
        (429, {"ratelimit-policy": '"submit";w=1'}, "no valid RateLimit-Policy"),
        (429, {"ratelimit-policy": "500;w=1"}, "no valid RateLimit-Policy"),
        (429, {"ratelimit": None}, "no valid RateLimit"),
        (429, {"ratelimit": "limit=500, remaining=0"}, "no valid RateLimit"),
        (429, {"ratelimit": '"read";r=0;t=2'}, "RateLimit names no announced policy"),
        (429, {"ratelimit": '"submit";r=501;t=2'}, "RateLimit has more left than its quota"),
        (503, {"ratelimit": None, "ratelimit-policy": None}, None),
        (503, {"ratelimit": "0"}, "no valid RateLimit"),
        (503, {"retry-after": None}, "no valid Retry-After"),
    ],
)
def test_a_refusal_is_judged_by_its_headers(
    status: int, changed: dict[str, str | None], fault: str | None
) -> None:
    headers = {name: value for name, value in {**LIMITED, **changed}.items() if value is not None}
    assert fault_of_refusal(status, headers) == fault
