"""How the commands for rulesets print: tables for people, JSON for programs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from faregate.entrypoints.output import print_rows
from faregate.rules.findings import Finding, Severity

_COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "cyan"}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print one line for each finding, with its place."""
    console = Console(soft_wrap=True)
    for finding in findings:
        colour = _COLOURS[finding.severity]
        console.print(f"[{colour}]{finding.severity.value}[/{colour}] {escape(finding.text)}")


def print_comparison(found: Mapping[str, Any]) -> None:
    """Print a comparison of answers: how many differ, the matrix, the approval rate, reasons, and a sample."""
    changes = ", ".join(f"{count:,} {change}" for change, count in found["changes"].items())
    typer.echo(f"{found['compared']:,} decisions compared: {changes}")
    print_matrix(found["matrix"])
    rate = found["approval_rate"]
    if rate["before"] is not None:
        typer.echo(f"approved {rate['before']:.1%} → {rate['after']:.1%} ({rate['change']:+.1%})")
    differing = [line for line in found["reasons"] if line["before"] != line["after"]]
    if differing:
        print_rows(differing, as_json=False)
    for line in found["sample"]:
        before, after = line["before"], line["after"]
        typer.echo(
            f"{line['application_id']}  {before['outcome']} → {after['outcome']}  "
            f"score {before['risk_score']} → {after['risk_score']}  {', '.join(after['reason_codes'])}"
        )


def print_matrix(matrix: Sequence[Mapping[str, Any]]) -> None:
    """Print outcomes before as rows and answers after as columns."""
    answers = list(dict.fromkeys(cell["after"] for cell in matrix))
    table = Table("before \\ after", *answers)
    for before in dict.fromkeys(cell["before"] for cell in matrix):
        counts = [f"{cell['count']:,}" for cell in matrix if cell["before"] == before]
        table.add_row(before, *counts)
    Console().print(table)
