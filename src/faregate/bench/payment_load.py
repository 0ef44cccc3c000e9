"""Payments as a load: those of fifty thousand members, each request another payment that happens now."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

import orjson

from faregate.bench.loadgen import Load, MakeRequest

SCORE_PATH: Final = "/api/fraud/score"
MEMBERS: Final = 50_000
MERCHANTS: Final = 2_000
CHANNELS: Final = ("online", "in_store", "atm", "recurring")
LARGE_SHARE: Final = 0.02
"""Of payments that are ten times what the member usually pays."""


def payments(load: Load, *, run: str) -> MakeRequest:
    """Return the maker of the HTTP requests: request n is payment n of the run."""
    host = urlsplit(load.urls[0]).netloc
    fixed = "".join(f"{name}: {value}\r\n" for name, value in load.headers.items())
    head = f"POST {SCORE_PATH} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n{fixed}"
    draw = random.Random(run)  # noqa: S311 - a load, not a secret

    def request(number: int) -> bytes:
        body = orjson.dumps(payment(number, run=run, draw=draw, at=datetime.now(UTC)))
        return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body

    return request


def payment(number: int, *, run: str, draw: random.Random, at: datetime) -> dict[str, Any]:
    """Return payment `number` of a run; members pay much or little, and now and then far more than usual."""
    member = draw.randrange(MEMBERS)
    usual = 500 + member % 97 * 90
    amount = usual * draw.uniform(0.3, 1.7) * (10 if draw.random() < LARGE_SHARE else 1)
    channel = CHANNELS[member % 3 if draw.random() < 0.9 else 3]
    return {
        "payment_id": f"pay_{run}_{number}",
        "card_token": f"crd_{member}",
        "member_id": f"mbr_{member}",
        "amount_minor": round(amount),
        "currency": "USD",
        "merchant": f"mer_{draw.randrange(MERCHANTS)}",
        "merchant_category": 5_000 + member % 900,
        "channel": channel,
        "country": "US" if draw.random() < 0.97 else "MX",
        "terminal_id": f"ter_{member % 700}" if channel == "in_store" else None,
        "device_id": f"dev_{member}" if channel == "online" else None,
        "ip": f"198.{member // 62_500}.{member // 250 % 250}.{member % 250}" if channel == "online" else None,
        "occurred_at": at.isoformat(),
    }
