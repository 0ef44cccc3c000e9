"""How often a client may call: a token bucket for each client and policy, shared by all API processes.

What the settings say holds for every client that has no limit of its own. The header fields are those of
draft-ietf-httpapi-ratelimit-headers-11 (2026-05-23). `q` tokens are the burst, and `w` is how long an empty bucket
takes to be full; `r` tokens spent over `t` seconds keep to the rate, and with none left `t` is when there is one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import TYPE_CHECKING

from starlette.requests import Request

from faregate.infra.database import Connection
from faregate.infra.http.api_keys import require_client_id
from faregate.infra.http.authentication import Caller
from faregate.infra.http.edge import add_header
from faregate.infra.queries import load_queries
from faregate.infra.rate import Rate
from faregate.infra.telemetry.metrics import Metrics
from faregate.kernel.errors import InvalidError, LimitedError

if TYPE_CHECKING:
    from faregate.infra.token_bucket import TokenBuckets

SUBMIT, READ = "submit", "read"
POLICIES = (SUBMIT, READ)
_queries = load_queries("faregate.infra.http")


class RateLimited(LimitedError):
    """The client sent more requests than its limit allows. Nothing was stored.

    Wait as long as `Retry-After` says and send it again, under the same idempotency key. `RateLimit` in each answer
    tells how many requests are left; a higher limit is set by the operator.
    """


class PolicyUnknown(InvalidError):
    """No limit has this name."""


class ClientLimits:
    """Takes a token of the caller for each request, and tells the caller in the answer what is left."""

    def __init__(self, *, defaults: Mapping[str, Rate], buckets: TokenBuckets, metrics: Metrics) -> None:
        self._defaults = defaults
        self._buckets = buckets
        self._refused = metrics.counter(
            "faregate_rate_limited_total", "Requests above their client's limit", labels=("policy",)
        )
        self._alone = metrics.counter(
            "faregate_rate_limit_unshared_total", "Requests counted without Valkey", labels=("policy",)
        )

    async def take(self, request: Request, *, caller: Caller, policy: str) -> None:
        """Count one request of the caller. Raises RateLimited."""
        rate = caller.limits.get(policy) or self._defaults[policy]
        taken = await self._buckets.take(f"{caller.client_id}:{policy}", rate=rate)
        if not taken.is_shared:
            self._alone.labels(policy).inc()
        left = min(taken.left, rate.burst)  # a limit may have been lowered a moment ago
        wait_s = max(1, math.ceil(left / rate.per_s if taken.is_granted else taken.wait_s))
        add_header(request, "RateLimit-Policy", policy_item(policy, rate))
        add_header(request, "RateLimit", f'"{policy}";r={left};t={wait_s}')
        if not taken.is_granted:
            self._refused.labels(policy).inc()
            facts = {"retry_after_s": wait_s, "violated-policies": [policy]}
            raise RateLimited(f"more than {rate.per_s:g} requests a second", **facts)


@lru_cache(maxsize=1024)
def policy_item(policy: str, rate: Rate) -> str:
    """Return a policy as it stands in `RateLimit-Policy`."""
    return f'"{policy}";q={rate.burst};w={max(1, math.ceil(rate.burst / rate.per_s))}'


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientLimit:
    """A client's own limit under a policy."""

    client_id: str
    policy: str
    rate: Rate
    changed_at: datetime


async def set_client_limit(
    connection: Connection, *, client_id: str, policy: str, rate: Rate, now: datetime
) -> None:
    """Give a client a limit of its own. Running processes notice within seconds, like a new key.

    Raises ClientIdMalformed and PolicyUnknown.
    """
    require_client_id(client_id)
    _require_policy(policy)
    row = {"client_id": client_id, "policy": policy, "rate_per_s": rate.per_s, "burst": rate.burst}
    await connection.execute(_queries["set_limit"], {**row, "now": now})


async def drop_client_limit(connection: Connection, *, client_id: str, policy: str) -> None:
    """Let the settings count again for a client. Raises PolicyUnknown; without a limit nothing changes."""
    _require_policy(policy)
    await connection.execute(_queries["drop_limit"], {"client_id": client_id, "policy": policy})


async def list_client_limits(connection: Connection, *, client_id: str) -> Sequence[ClientLimit]:
    """Return a client's own limits, by policy."""
    cursor = await connection.execute(_queries["list_limits"], {"client_id": client_id})
    return [
        ClientLimit(
            client_id=client_id,
            policy=row["policy"],
            rate=Rate(per_s=row["rate_per_s"], burst=row["burst"]),
            changed_at=row["changed_at"],
        )
        for row in await cursor.fetchall()
    ]


def _require_policy(policy: str) -> None:
    if policy not in POLICIES:
        raise PolicyUnknown(f"there is no limit {policy!r}; there are {', '.join(POLICIES)}")
