"""The features of live payments: what card, member, address, device and merchant did, from a minute to thirty days.

They are computed from payments, authorised or declined, and from what members do besides (`behaviour.py`). A new one is
a line here. A feature is named by whose events it looks at, what it makes of them, and over what time.
"""

from __future__ import annotations

from datetime import datetime
from typing import Final

from faregate.features.behaviour import (
    CARD_ISSUED,
    CLICK,
    DEVICE_SEEN,
    LOGIN,
    LOGIN_FAILED,
    PASSWORD_CHANGE,
    PROFILE_CHANGE,
    REGISTRATION,
    SESSION,
)
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
    pair,
    time_since,
    time_since_first,
    total,
)
from faregate.features.facts import FeatureEvent, milliseconds
from faregate.features.feature_set import FeatureSet

CARD, MEMBER, IP, DEVICE = Entity.CARD, Entity.MEMBER, Entity.IP, Entity.DEVICE
MERCHANT, TERMINAL, MEMBER_DEVICE = Entity.MERCHANT, Entity.TERMINAL, Entity.MEMBER_DEVICE

PAYMENT: Final = Source(
    name="payment",
    entities=(CARD, MEMBER, IP, DEVICE, MERCHANT, TERMINAL, MEMBER_DEVICE),
    numbers=("amount_minor",),
    texts=("merchant_id", "category", "country", "card_token"),
)

PAYMENTS: Final = FeatureSet(
    name="payments",
    asked_by=PAYMENT,
    others=(
        CLICK,
        SESSION,
        LOGIN,
        LOGIN_FAILED,
        PROFILE_CHANGE,
        PASSWORD_CHANGE,
        DEVICE_SEEN,
        REGISTRATION,
        CARD_ISSUED,
    ),
    features=(
        own("amount_minor", "amount_minor"),
        is_weekend("is_weekend"),
        is_night("is_night"),
        # The card.
        count("card_count_1m", by=CARD, of=PAYMENT, over=minutes(1)),
        count("card_count_1h", by=CARD, of=PAYMENT, over=hours(1)),
        count("card_count_1d", by=CARD, of=PAYMENT, over=days(1)),
        total("card_spent_1d", "amount_minor", by=CARD, of=PAYMENT, over=days(1)),
        mean("card_mean_30d", "amount_minor", by=CARD, of=PAYMENT, over=days(30), counts_itself=False),
        time_since("card_since_s", by=CARD, of=PAYMENT, over=days(30)),
        time_since("card_age_s", by=CARD, of=CARD_ISSUED, over=days(30)),
        distinct("card_countries_1d", "country", by=CARD, of=PAYMENT, over=days(1), grain_s=hours(1), cap=8),
        # The member.
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
        time_since("member_age_s", by=MEMBER, of=REGISTRATION, over=days(30)),
        # What the member does besides: how an account is taken over shows here first.
        count("member_clicks_1h", by=MEMBER, of=CLICK, over=hours(1)),
        mean("member_session_mean_30d", "duration_s", by=MEMBER, of=SESSION, over=days(30)),
        count("member_logins_1d", by=MEMBER, of=LOGIN, over=days(1)),
        count("member_logins_failed_1h", by=MEMBER, of=LOGIN_FAILED, over=hours(1)),
        time_since("member_profile_since_s", by=MEMBER, of=PROFILE_CHANGE, over=days(30)),
        time_since("member_password_since_s", by=MEMBER, of=PASSWORD_CHANGE, over=days(30)),
        time_since("member_device_since_s", by=MEMBER_DEVICE, of=DEVICE_SEEN, over=days(30)),
        time_since_first("member_device_age_s", by=MEMBER_DEVICE, of=DEVICE_SEEN, over=days(30)),
        count("member_device_count_30d", by=MEMBER_DEVICE, of=PAYMENT, over=days(30), counts_itself=False),
        # Address and device.
        count("ip_count_1m", by=IP, of=PAYMENT, over=minutes(1)),
        distinct("ip_cards_1d", "card_token", by=IP, of=PAYMENT, over=days(1), grain_s=hours(1), cap=32),
        count("ip_logins_failed_1h", by=IP, of=LOGIN_FAILED, over=hours(1)),
        distinct(
            "ip_accounts_failed_1d",
            "account",
            by=IP,
            of=LOGIN_FAILED,
            over=days(1),
            grain_s=hours(1),
            cap=32,
        ),
        count("device_count_1h", by=DEVICE, of=PAYMENT, over=hours(1)),
        distinct(
            "device_cards_1d", "card_token", by=DEVICE, of=PAYMENT, over=days(1), grain_s=hours(1), cap=32
        ),
        # Where it is paid.
        count("merchant_count_1m", by=MERCHANT, of=PAYMENT, over=minutes(1)),
        count("merchant_count_1d", by=MERCHANT, of=PAYMENT, over=days(1)),
        mean(
            "merchant_mean_30d", "amount_minor", by=MERCHANT, of=PAYMENT, over=days(30), counts_itself=False
        ),
        count("terminal_count_1h", by=TERMINAL, of=PAYMENT, over=hours(1)),
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
    """Return what a payment is to features, whoever tells it: who scores it, and the log afterwards.

    No feature looks at the channel: it is taken so that one can.
    """
    del channel
    held = None if member_id is None or device_id is None else pair(member_id, device_id)
    entities = {
        CARD: card_token,
        MEMBER: member_id,
        IP: ip_token,
        DEVICE: device_id,
        MERCHANT: merchant,
        TERMINAL: terminal_id,
        MEMBER_DEVICE: held,
    }
    values: dict[str, int | str | None] = {
        "amount_minor": amount_minor,
        "merchant_id": merchant,
        "category": str(merchant_category),
        "country": country,
        "card_token": card_token,
    }
    return FeatureEvent(
        id=payment_id,
        source=PAYMENT.name,
        at_ms=milliseconds(at),
        observed_ms=milliseconds(observed_at),
        entities={entity: name for entity, name in entities.items() if name is not None},
        values={name: value for name, value in values.items() if value is not None},
    )
