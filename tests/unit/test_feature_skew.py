"""Skew is told in the words in use for it, with the offline value as the reference."""

from __future__ import annotations

import pytest

from faregate.features.declarations import Value
from faregate.features.skew import Skew


@pytest.mark.requirement("F13")
@pytest.mark.parametrize(
    ("offline", "online", "word"),
    [
        (1, 1, "match"),
        (None, None, "match"),
        (0.1 + 0.2, 0.1 + 0.2, "match"),
        (0.1 + 0.2, 0.3, "mismatch"),
        (1, 1.0, "mismatch"),
        (0, 1, "mismatch"),
        (0, None, "missing"),
        (None, 0, "extra"),
    ],
)
def test_a_pair_of_values_is_one_of_four_things(offline: Value, online: Value, word: str) -> None:
    skew = Skew(features=["f"])
    skew.compare("row", [offline], [online])
    counts = {name: skew.as_json()[name] for name in ("match", "mismatch", "missing", "extra")}
    assert counts == {"match": 0, "mismatch": 0, "missing": 0, "extra": 0} | {word: 1}
    assert skew.is_none == (word == "match")
    assert len(skew.examples) == (word != "match")


def test_a_row_that_one_side_does_not_have_is_counted_and_its_values_too() -> None:
    skew = Skew(features=["f", "g"])
    skew.compare("1", [1, None], None)
    skew.compare("2", None, [1, None])
    report = skew.as_json()
    assert (report["rows_missing"], report["rows_extra"], report["missing"], report["extra"]) == (1, 1, 1, 1)
    assert not skew.is_none


def test_a_row_without_any_value_that_is_not_there_is_skew_all_the_same() -> None:
    skew = Skew(features=["f"])
    skew.compare("1", [None], None)
    assert skew.matches == skew.values
    assert not skew.is_none


def test_the_error_is_relative_to_the_mean_of_both() -> None:
    skew = Skew(features=["f"])
    for offline, online in ((1, 3), (0, 0), (-2, 2)):
        skew.compare("row", [offline], [online])
    assert skew.by_feature["f"].smape == pytest.approx(100 * (1 + 0 + 2) / 3)
