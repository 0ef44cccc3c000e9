"""The features of live payments: how often and how much, over a minute, an hour, a day and thirty days.

They are computed from what payments publish. A new one is a line here.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

from faregate.features.declarations import (
    Entity,
    Source,
    count,
    days,
    distinct,
    greatest,
    hours,
    is_night,
    is_weekend,
    last,
    mean,
    minutes,
    own,
    time_since,
    total,
)
from faregate.features.facts import FeatureEvent
from faregate.features.feature_set import FeatureSet

MEMBER, MERCHANT = Entity.MEMBER, Entity.MERCHANT

PAYMENT: Final = Source(
    name="payment", entities=(MEMBER, MERCHANT), numbers=("amount_minor",), texts=("merchant_id", "category")
)

PAYMENTS: Final = FeatureSet(
    name="payments",
    asked_by=PAYMENT,
    others=(),
    features=(
        own("amount_minor", "amount_minor"),
        is_weekend("is_weekend"),
        is_night("is_night"),
        count("member_count_1m", by=MEMBER, of=PAYMENT, over=minutes(1)),
        count("member_count_1h", by=MEMBER, of=PAYMENT, over=hours(1)),
        count("member_count_1d", by=MEMBER, of=PAYMENT, over=days(1)),
        count("member_count_30d", by=MEMBER, of=PAYMENT, over=days(30)),
        total("member_spent_1h", "amount_minor", by=MEMBER, of=PAYMENT, over=hours(1)),
        total("member_spent_1d", "amount_minor", by=MEMBER, of=PAYMENT, over=days(1)),
        mean("member_mean_30d", "amount_minor", by=MEMBER, of=PAYMENT, over=days(30), counts_itself=False),
        greatest("member_max_30d", "amount_minor", by=MEMBER, of=PAYMENT, over=days(30), grain_s=days(1)),
        last("member_last_30d", "amount_minor", by=MEMBER, of=PAYMENT, over=days(30), counts_itself=False),
        time_since("member_since_s", by=MEMBER, of=PAYMENT, over=days(30)),
        distinct(
            "member_merchants_1d",
            "merchant_id",
            by=MEMBER,
            of=PAYMENT,
            over=days(1),
            grain_s=hours(1),
            cap=32,
        ),
        distinct(
            "member_categories_30d", "category", by=MEMBER, of=PAYMENT, over=days(30), grain_s=days(1), cap=32
        ),
        count("merchant_count_1m", by=MERCHANT, of=PAYMENT, over=minutes(1)),
        count("merchant_count_1d", by=MERCHANT, of=PAYMENT, over=days(1)),
        mean(
            "merchant_mean_30d", "amount_minor", by=MERCHANT, of=PAYMENT, over=days(30), counts_itself=False
        ),
    ),
)


def payment_fact(
    *,
    payment_id: str,
    at: datetime,
    observed_at: datetime,
    amount_minor: int,
    merchant: str,
    merchant_category: int,
    card_token: str | None,
    member_id: str | None,
    terminal_id: str | None,
    device_id: str | None,
    ip_token: str | None,
    country: str | None,
    channel: str | None,
) -> FeatureEvent:
    """Return what a payment is to features, whoever tells it: who scores it, and the log afterwards."""
    del card_token, terminal_id, device_id, ip_token, country, channel
    entities = {MERCHANT: merchant, MEMBER: member_id}
    return FeatureEvent(
        id=payment_id,
        source=PAYMENT.name,
        at_ms=_ms(at),
        observed_ms=_ms(observed_at),
        entities={entity: name for entity, name in entities.items() if name is not None},
        values={
            "amount_minor": amount_minor,
            "merchant_id": merchant,
            "category": str(merchant_category),
        },
    )


def _ms(instant: datetime) -> int:
    return (instant - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
