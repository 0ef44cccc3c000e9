"""The protocol of the benchmark: who is trained on, who is tested, and what the precision of cards counts."""

from __future__ import annotations

import numpy as np

from faregate.fraud.domain.protocol import Split, card_precision, single_split


def split_of(rows: list[tuple[int, int, bool]], *, begins: int = 0) -> Split:
    """Split payments that are told as day, card, is_fraud."""
    day, card, is_fraud = (np.array(column) for column in zip(*rows, strict=True))
    return single_split(day=day, card=card, is_fraud=is_fraud.astype(bool), begins=begins)


def test_a_week_is_learned_from_a_week_waits_and_a_week_is_tested() -> None:
    found = split_of([(day, day, False) for day in range(-1, 23)])
    assert np.flatnonzero(found.train).tolist() == list(range(1, 8))
    assert np.flatnonzero(found.test).tolist() == list(range(15, 22))


def test_a_card_that_was_defrauded_while_one_learned_is_not_tested() -> None:
    assert not split_of([(6, 1, True), (14, 1, False)]).test.any()


def test_a_card_is_tested_until_its_fraud_is_known_a_week_later() -> None:
    # A fraud of day 8 is known on day 15: the card is tested on days 14 and 15, and not from day 16 on.
    rows = [(0, 9, False), (8, 1, True), (14, 1, False), (15, 1, False), (16, 1, False)]
    assert np.flatnonzero(split_of(rows).test).tolist() == [2, 3]


def test_frauds_of_the_test_itself_take_nobody_out() -> None:
    assert np.flatnonzero(split_of([(0, 9, False), (14, 1, True), (20, 1, False)]).test).tolist() == [1, 2]


def precision(rows: list[tuple[int, int, bool, float]]) -> float:
    day, card, is_fraud, score = (np.array(column) for column in zip(*rows, strict=True))
    return card_precision(day=day, card=card, is_fraud=is_fraud.astype(bool), score=score.astype(float))


def test_a_hundred_cards_a_day_are_looked_at_by_their_highest_score() -> None:
    honest = [(0, number, False, 0.5) for number in range(1, 100)]
    found = (0, 500, True, 0.6)
    missed = (0, 501, True, 0.4)
    assert precision([*honest, found, missed]) == 0.01
    assert precision([*honest, found, (0, 501, True, 0.1), (0, 501, False, 0.9)]) == 0.02


def test_a_card_that_was_found_is_not_looked_at_again() -> None:
    assert precision([(0, 1, True, 0.9), (1, 1, True, 0.9), (1, 2, True, 0.1)]) == 0.01
