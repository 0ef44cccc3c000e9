"""How the demo's report looks to a person, and what the person can do next."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from faregate.infra.local_system import LocalSystem
from faregate.sandbox.faults import FaultPlan


def show_misbehaviour(plan: FaultPlan, *, console: Console) -> None:
    """Print at which rates the sandbox misbehaves; they are the same for every provider."""
    rates = next(iter(plan.providers.values())).rates
    listed = ", ".join(f"{fault.value.replace('_', ' ')} {rate:.1%}" for fault, rate in rates.items())
    console.print(f"The providers misbehave at these rates: {listed}.")


def show_summary(summary: Mapping[str, Any], *, console: Console) -> None:
    """Print the figures, the outcomes against real creditability, and the checks."""
    console.print(_outcomes(summary["outcomes"]))
    console.print(_figures(summary))
    for sentence, holds in summary["checks"].items():
        console.print(f"  {'[green]ok[/]    ' if holds else '[bold red]FAILED[/]'} {sentence}")


def show_next_steps(system: LocalSystem, *, token: str, example: str, console: Console) -> None:
    """Print how to look at one application while the system stays up."""
    home = system.environment["FAREGATE_HOME"]
    console.print(f"\nThe system stays up: API {system.api_url}/docs, sandbox {system.sandbox_url}/personas")
    console.print("Look at one application:")
    url = f"{system.api_url}/api/credit-applications/{example}/decision"
    console.print(f"  curl -s -H 'Authorization: Bearer {token}' {url}", soft_wrap=True, highlight=False)
    console.print(
        f"  FAREGATE_HOME={home} .venv/bin/faregate credit show {example}", soft_wrap=True, highlight=False
    )
    console.print("Ctrl-C stops everything.")


def _outcomes(outcomes: Mapping[str, Mapping[str, int]]) -> Table:
    table = Table("outcome", "paid back", "defaulted", "bad rate", title="Outcomes and real creditability")
    for outcome, counts in outcomes.items():
        total = counts["good"] + counts["bad"]
        rate = f"{counts['bad'] / total:.1%}" if total else "-"
        table.add_row(outcome, str(counts["good"]), str(counts["bad"]), rate)
    return table


def _figures(summary: Mapping[str, Any]) -> Table:
    table = Table(show_header=False, title="What was measured")
    table.add_row("applications", f"{summary['applications']:,}")
    table.add_row("submits/s (repetitions included)", f"{summary['submits_per_s']:,}")
    table.add_row("submit p50/p95/p99, ms", _three(summary["submit_ms"]))
    table.add_row("decision p50/p95/p99, s", _three(summary["decision_s"]))
    table.add_row("answers by status", ", ".join(f"{k}: {v}" for k, v in summary["answers"].items()))
    table.add_row("answers replayed for a known key", str(summary["replayed_answers"]))
    table.add_row("applications by state", ", ".join(f"{k}: {v}" for k, v in summary["states"].items()))
    table.add_section()
    for name, value in summary["provider_calls"].items():
        table.add_row(f"provider calls: {name.replace('_', ' ')}", f"{value:,}")
    table.add_section()
    for name, value in summary["payments"].items():
        table.add_row(f"payments: {name.replace('_', ' ')}", f"{value:,}")
    table.add_section()
    for name, value in summary["travel"].items():
        table.add_row(f"travel: {name.replace('_', ' ')}", f"{value:,}")
    return table


def _three(percentiles: Mapping[str, float]) -> str:
    return " / ".join(str(value) for value in percentiles.values())
