"""The features of live payments: how often and how much, over a minute, an hour, a day and thirty days.

They are computed from what payments publish. A new one is a line here.
"""

from __future__ import annotations

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
