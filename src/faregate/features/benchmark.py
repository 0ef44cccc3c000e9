"""The fifteen features of the fraud benchmark, as its authors computed them; amounts are in minor units.

Le Borgne et al., Fraud-Detection-Handbook, chapter 3: how a customer spends, with the payment itself, and how often a
terminal was defrauded, seven days late, because so long it takes until a fraud is known.
"""

from __future__ import annotations

from typing import Final

from faregate.features.declarations import (
    Entity,
    Source,
    count,
    days,
    is_night,
    is_weekend,
    mean,
    own,
    ratio,
)
from faregate.features.feature_set import FeatureSet

CARD, TERMINAL = Entity.CARD, Entity.TERMINAL
LABEL_DELAY_S: Final = days(7)

PAYMENT: Final = Source(name="payment", entities=(CARD, TERMINAL), numbers=("amount_minor",))
FRAUD: Final = Source(name="fraud", entities=(TERMINAL,), lateness_s=LABEL_DELAY_S)
"""That a payment was a fraud: it happened when the payment did, and is known up to the label delay later."""


BENCHMARK: Final = FeatureSet(
    name="fraud_benchmark",
    asked_by=PAYMENT,
    others=(FRAUD,),
    features=(
        own("amount_minor", "amount_minor"),
        is_weekend("is_weekend"),
        is_night("is_night"),
        count("card_count_1d", by=CARD, of=PAYMENT, over=days(1)),
        count("card_count_7d", by=CARD, of=PAYMENT, over=days(7)),
        count("card_count_30d", by=CARD, of=PAYMENT, over=days(30)),
        mean("card_mean_1d", "amount_minor", by=CARD, of=PAYMENT, over=days(1)),
        mean("card_mean_7d", "amount_minor", by=CARD, of=PAYMENT, over=days(7)),
        mean("card_mean_30d", "amount_minor", by=CARD, of=PAYMENT, over=days(30)),
        count("terminal_count_1d", by=TERMINAL, of=PAYMENT, over=days(1), delay_s=LABEL_DELAY_S),
        count("terminal_count_7d", by=TERMINAL, of=PAYMENT, over=days(7), delay_s=LABEL_DELAY_S),
        count("terminal_count_30d", by=TERMINAL, of=PAYMENT, over=days(30), delay_s=LABEL_DELAY_S),
        count("terminal_frauds_1d", by=TERMINAL, of=FRAUD, over=days(1), delay_s=LABEL_DELAY_S),
        count("terminal_frauds_7d", by=TERMINAL, of=FRAUD, over=days(7), delay_s=LABEL_DELAY_S),
        count("terminal_frauds_30d", by=TERMINAL, of=FRAUD, over=days(30), delay_s=LABEL_DELAY_S),
        ratio("terminal_risk_1d", "terminal_frauds_1d", "terminal_count_1d", default=0.0),
        ratio("terminal_risk_7d", "terminal_frauds_7d", "terminal_count_7d", default=0.0),
        ratio("terminal_risk_30d", "terminal_frauds_30d", "terminal_count_30d", default=0.0),
    ),
)
