"""`faregate credit train-scorecard`: trains, writes the artefacts, shows how good they are.

How cards are trained and what a decision is do not belong here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from faregate.credit.domain.sample import decide_table, outcome_mix
from faregate.credit.domain.scorecard import read_scorecard
from faregate.credit.store.artefacts import load_ruleset_document
from faregate.credit.store.scorecards import ARTEFACTS, SAMPLE, read_table, train_from_csv
from faregate.rules.ruleset import canonical, compile_ruleset

RULESET = "card-eligibility-1"


def train_scorecard(
    csv_path: Path = SAMPLE,
    *,
    out_dir: Path = ARTEFACTS,
    as_json: bool = False,
    console: Console | None = None,
) -> dict[str, Any]:
    """Train both cards from a CSV file, write them to `out_dir`, print the summary, and return it."""
    summary = _summary(train_from_csv(csv_path, out_dir=out_dir), csv_path=csv_path)
    shown = console or Console()
    if as_json:
        shown.print_json(data=summary)
    else:
        _print(summary, console=shown)
    return summary


def _summary(artefacts: Sequence[Mapping[str, Any]], *, csv_path: Path) -> dict[str, Any]:
    cross_fitted = artefacts[-1]
    table = read_table(csv_path)
    ruleset = compile_ruleset(canonical(load_ruleset_document(RULESET)))
    results = decide_table(table, scorecard=read_scorecard(cross_fitted), ruleset=ruleset)
    return {
        "artefacts": [artefact["name"] for artefact in artefacts],
        "ruleset": RULESET,
        "metrics": cross_fitted["metrics"],
        "outcomes": outcome_mix(table, results),
    }


def _print(summary: Mapping[str, Any], *, console: Console) -> None:
    console.print(f"Wrote {', '.join(summary['artefacts'])}.")
    console.print(_metrics_table(summary["metrics"]))
    console.print(_outcome_table(summary["outcomes"], ruleset=summary["ruleset"]))


def _metrics_table(metrics: Mapping[str, Any]) -> Table:
    table = Table("fold", "rows", "bad", "AUC", "Gini", "KS", "Brier", title="Cross-validation, out of fold")
    lines = [(str(fold), line) for fold, line in enumerate(metrics["folds"])]
    for name, line in [*lines, ("mean", metrics["mean"]), ("all rows", metrics["out_of_fold"])]:
        measured = [f"{line[key]:.4f}" for key in ("auc", "gini", "ks", "brier")]
        table.add_row(name, str(line.get("rows", "")), str(line.get("bads", "")), *measured)
    return table


def _outcome_table(outcomes: Sequence[Mapping[str, Any]], *, ruleset: str) -> Table:
    table = Table("outcome", "good", "bad", "share", "bad rate", title=f"Outcomes by {ruleset}, out of fold")
    for line in outcomes:
        shares = (f"{line['share']:.1%}", f"{line['bad_rate']:.1%}")
        table.add_row(line["outcome"], str(line["good"]), str(line["bad"]), *shares)
    return table
