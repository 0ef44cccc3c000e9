"""The result of a benchmark: one object for machines, one table for people, and the exit status of its
checks.

How something is measured does not belong here.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

STDOUT = "-"


@dataclass(frozen=True, slots=True, kw_only=True)
class BenchResult:
    """Ours against a peer's figure in `unit`, and what must hold. `peer` is None where there is none.

    `checks` maps a sentence to whether it held; `details` holds everything else worth keeping, as JSON.
    """

    name: str
    ours: float
    unit: str
    peer: float | None = None
    peer_name: str = "peer"
    lower_is_better: bool = False
    checks: Mapping[str, bool] = field(default_factory=dict)
    details: Mapping[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is, above 1 always meaning better; None without a peer or at zero."""
        better, worse = (self.peer, self.ours) if self.lower_is_better else (self.ours, self.peer)
        return better / worse if better is not None and worse else None

    @property
    def exit_status(self) -> int:
        """0 when every check held, else 1."""
        return 0 if all(self.checks.values()) else 1

    def as_json(self) -> dict[str, Any]:
        """Return the object that `--json` writes: name, ours, peer, ratio, unit, checks, then the details."""
        return {
            "name": self.name,
            "ours": _rounded(self.ours),
            "peer": _rounded(self.peer),
            "peer_name": self.peer_name,
            "ratio": _rounded(self.ratio),
            "unit": self.unit,
            "checks": dict(self.checks),
            **self.details,
        }


def emit(result: BenchResult, *, json_to: str | None = None, console: Console | None = None) -> int:
    """Show the table and write the JSON to a path; `-` writes it out instead of the table.

    Returns the exit status.
    """
    if json_to == STDOUT:
        sys.stdout.write(json.dumps(result.as_json(), indent=2) + "\n")
        return result.exit_status
    (console or Console()).print(table(result))
    if json_to is not None:
        path = Path(json_to)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(result.as_json(), indent=2) + "\n")
    return result.exit_status


def target(is_met: bool) -> str:
    """Say whether a speed was reached that was aimed at; on a noisy machine it may not be, so it is no check."""
    return "met" if is_met else "missed"


def table(result: BenchResult) -> Table:
    """Return the short table: the figures, the plain details, then a line for each check."""
    lines = Table(title=f"bench {result.name}", show_header=False, title_justify="left", min_width=50)
    lines.add_row("ours", f"{_figure(result.ours)} {result.unit}")
    if result.peer is not None:
        lines.add_row(result.peer_name, f"{_figure(result.peer)} {result.unit}")
    if result.ratio is not None:
        lines.add_row("ratio (above 1: we are better)", f"{result.ratio:.2f}")
    lines.add_section()
    for name, value in result.details.items():
        if isinstance(value, int | float | str):
            lines.add_row(name.replace("_", " "), value if isinstance(value, str) else _figure(value))
    lines.add_section()
    for sentence, held in result.checks.items():
        lines.add_row(sentence, "[green]ok[/]" if held else "[bold red]FAILED[/]")
    return lines


def _figure(value: float) -> str:
    return f"{value:,.0f}" if isinstance(value, int) or abs(value) >= 100 else f"{value:,.2f}"


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
