"""How long it takes until what was reported is in the features: from the answer of the API, after the commit, on."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from time import perf_counter
from typing import Final

import aiohttp

from faregate.features.online import OnlineFeatures
from faregate.features.payments import payment_fact
from faregate.kernel.errors import UnavailableError

LOOK_S: Final = 0.002
WAIT_S_MAX: Final = 30.0


class NeverReadable(UnavailableError):
    """What was reported did not come into the features."""


async def freshness(
    session: aiohttp.ClientSession,
    features: OnlineFeatures,
    *,
    url: str,
    token: str,
    samples: int,
    first: int = 0,
) -> Sequence[float]:
    """Report a failed login, look until a payment's features have it, again and again; return the seconds of each."""
    return [
        await _one(session, features, url=url, token=token, number=number)
        for number in range(first, first + samples)
    ]


async def _one(
    session: aiohttp.ClientSession, features: OnlineFeatures, *, url: str, token: str, number: int
) -> float:
    member = f"mbr_fresh_{number}"
    event = {
        "id": f"fresh-{number}",
        "kind": "login",
        "occurred_at": datetime.now(UTC).isoformat(),
        "member_id": member,
        "succeeded": False,
    }
    headers = {"Authorization": f"Bearer {token}"}
    async with session.post(f"{url}/api/fraud/events", json={"events": [event]}, headers=headers) as answer:
        answer.raise_for_status()
        await answer.read()
    committed = perf_counter()
    look = 0
    while perf_counter() - committed < WAIT_S_MAX:
        if await _failed_logins(features, member, f"look-{number}-{look}"):
            return perf_counter() - committed
        look += 1
        await asyncio.sleep(LOOK_S)
    raise NeverReadable(f"{WAIT_S_MAX:g} s after its commit an event was in no feature")


async def _failed_logins(features: OnlineFeatures, member: str, payment_id: str) -> int:
    now = datetime.now(UTC)
    observed = await features.observe(
        payment_fact(
            payment_id=payment_id,
            at=now,
            observed_at=now,
            amount_minor=1,
            merchant="mer_1",
            merchant_category=5411,
            card_token=None,
            member_id=member,
            terminal_id=None,
            device_id=None,
            ip_token=None,
            country=None,
            channel=None,
        )
    )
    return int((observed.values or {})["member_logins_failed_1h"] or 0)
