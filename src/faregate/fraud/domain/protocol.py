"""How a fraud model is trained and tested without knowing more than one would: the single split of the benchmark.

A week to learn from, a week until its frauds are known, a week to be tested on. Le Borgne et al., Fraud-Detection-
Handbook, chapter 3. Cards that are known to be compromised are taken out of the test, since they would be blocked.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

TRAIN_DAYS: Final = 7
DELAY_DAYS: Final = 7
TEST_DAYS: Final = 7
CARDS_A_DAY: Final = 100
"""So many cards a day can be looked at, for the precision that is called CP@100."""

Bools = NDArray[np.bool_]
Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which rows are learned from, and which are tested."""

    train: Bools
    test: Bools


def single_split(*, day: Integers, card: Integers, is_fraud: Bools, begins: int) -> Split:
    """Return the split whose training begins on a day."""
    train = (day >= begins) & (day < begins + TRAIN_DAYS)
    test = np.zeros_like(train)
    known = card[train & is_fraud]
    first = begins + TRAIN_DAYS + DELAY_DAYS
    for number in range(TEST_DAYS):
        learned = begins + TRAIN_DAYS + number - 1
        known = np.concatenate([known, card[(day == learned) & is_fraud]])
        test |= (day == first + number) & ~np.isin(card, known)
    return Split(train=train, test=test)


def card_precision(*, day: Integers, card: Integers, is_fraud: Bools, score: NDArray[np.float64]) -> float:
    """Return the mean share of compromised cards among the hundred highest of each day; a found one leaves."""
    found: set[int] = set()
    shares = []
    for one in np.unique(day):
        rows = np.flatnonzero((day == one) & ~np.isin(card, list(found)))
        cards, place = np.unique(card[rows], return_inverse=True)
        highest = np.full(len(cards), -np.inf)
        np.maximum.at(highest, place, score[rows])
        is_compromised = np.zeros(len(cards), dtype=bool)
        np.logical_or.at(is_compromised, place, is_fraud[rows])
        looked_at = np.argsort(-highest, kind="stable")[:CARDS_A_DAY]
        hits = cards[looked_at][is_compromised[looked_at]]
        found.update(hits.tolist())
        shares.append(len(hits) / CARDS_A_DAY)
    return float(np.mean(shares))
