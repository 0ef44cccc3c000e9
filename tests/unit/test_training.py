"""Training: the same rows give the same artefact, and nobody is scored by a card that saw them."""

from __future__ import annotations

import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from faregate.credit.domain import training
from faregate.credit.domain.features import CANDIDATES
from faregate.credit.domain.scorecard import read_scorecard
from faregate.credit.store.artefacts import load_artefact
from faregate.credit.store.scorecards import ARTEFACTS, SAMPLE, TableUnreadable, read_table, train_from_csv
from faregate.entrypoints.scorecard_command import train_scorecard

ROWS = training.rows_of(read_table(SAMPLE))


def _attributes(name: str) -> list[dict[str, Any]]:
    return [a for card in load_artefact("scorecards", name)["cards"] for a in card["attributes"]]


@pytest.mark.requirement("C17")
def test_training_again_gives_the_released_artefacts_byte_for_byte(tmp_path: Path) -> None:
    train_from_csv(SAMPLE, out_dir=tmp_path)
    for name in ("german-1.json", "german-1-cross-fitted.json"):
        assert (tmp_path / name).read_bytes() == (ARTEFACTS / name).read_bytes()


def test_the_card_of_an_applicant_was_trained_without_the_applicants_fold() -> None:
    artefact = load_artefact("scorecards", "german-1-cross-fitted")
    model = read_scorecard(artefact)
    for fold in range(training.FOLDS):
        inside = [row for row in ROWS if row.fold == fold]
        assert artefact["cards"][fold] == training.train_card([row for row in ROWS if row not in inside])
        assert {model.score(row.facts).version for row in inside} == {f"german-1-cross-fitted#{fold}"}


def test_every_fold_holds_a_fair_share_of_the_sample() -> None:
    sizes = [sum(row.fold == fold for row in ROWS) for fold in range(training.FOLDS)]
    assert min(sizes) >= 150


def test_the_released_cards_separate_good_from_bad_out_of_fold() -> None:
    metrics = load_artefact("scorecards", "german-1-cross-fitted")["metrics"]
    assert metrics["mean"]["auc"] >= 0.78
    assert metrics["mean"]["brier"] <= 0.17
    assert all(line["gini"] == pytest.approx(2 * line["auc"] - 1, abs=2e-4) for line in metrics["folds"])
    assert metrics == load_artefact("scorecards", "german-1")["metrics"]


@pytest.mark.parametrize("name", ["german-1", "german-1-cross-fitted"])
def test_numeric_bins_get_riskier_upwards_and_no_bin_is_tiny(name: str) -> None:
    for attribute in _attributes(name):
        if attribute["kind"] == "numeric":
            rates = [b["bad_rate"] for b in attribute["bins"]]
            assert all(low < high for low, high in pairwise(rates))
        assert all(b["count"] >= 40 for b in attribute["bins"])


def test_values_in_one_bin_share_one_reason() -> None:
    features = {feature.fact: feature for feature in CANDIDATES}
    for attribute in _attributes("german-1-cross-fitted"):
        for b in attribute["bins"]:
            reasons = {features[attribute["fact"]].reason_of(value) for value in b.get("values", [])}
            assert len(reasons) <= 1


def test_rows_of_one_kind_only_cannot_train_a_card() -> None:
    with pytest.raises(training.TooFewRows):
        training.train([row for row in ROWS if row.bad], name="x", data_sha256="")


def test_a_fold_without_bad_rows_cannot_be_measured() -> None:
    kept = [row for row in ROWS if row.fold != 2 or not row.bad]
    with pytest.raises(training.TooFewRows):
        training.train_cross_fitted(kept, name="x", data_sha256="")


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TableUnreadable):
        train_from_csv(tmp_path / "table.csv", out_dir=tmp_path)


def _run_command(folder: Path, *, table: Path = SAMPLE, as_json: bool = False) -> tuple[dict[str, Any], str]:
    console = Console(file=io.StringIO(), record=True, width=120)
    return train_scorecard(table, out_dir=folder, as_json=as_json, console=console), console.export_text()


@pytest.mark.requirement("C3")
def test_the_command_shows_that_the_policy_approves_the_good_and_denies_the_bad(tmp_path: Path) -> None:
    summary, printed = _run_command(tmp_path)
    approved, review, denied = summary["outcomes"]
    assert 0.55 <= approved["share"] <= 0.65
    assert 0.15 <= review["share"] <= 0.20
    assert approved["bad_rate"] < 0.15 < review["bad_rate"] < 0.5 < denied["bad_rate"]
    assert str(summary["metrics"]["mean"]["auc"]) in printed


def test_the_command_prints_its_summary_as_json(tmp_path: Path) -> None:
    table = tmp_path / "some.csv"
    table.write_text("".join(SAMPLE.read_text().splitlines(keepends=True)[:301]))
    summary, printed = _run_command(tmp_path, table=table, as_json=True)
    assert json.loads(printed) == summary
