"""What became of payments while the scorer failed: how long each caller waited, and whether the policy was kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rich.table import Table

from faregate.bench.chaos.scorer import ANSWERED, LACKS, Dealt

BEYOND_MS_MAX: Final = 5.0
"""How much later than a bare timer a caller may be released, at p99.9."""
_OUTCOMES: Final = {
    "approve": ("authorised", False),
    "as_scored": ("authorised", False),
    "approve_and_flag": ("authorised", True),
    "decline": ("declined", False),
}
"""What each action comes to where the scorer approved, or was not there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One payment: what was dealt to it, how long its scorer was waited for, and what was answered.

    `control_s` is how long a bare timer of the hard time took that was set in the same loop at the same moment.
    """

    dealt: Dealt
    waited_s: float
    control_s: float
    amount_minor: int
    status: str
    is_flagged: bool
    degraded: Sequence[str]
    cell: str | None

    @property
    def is_timed_out(self) -> bool:
        """Whether the hard time ended it."""
        return "score" in self.degraded and self.waited_s >= 0.08

    @property
    def is_silent(self) -> bool:
        """Whether the scorer lacked something and the answer does not say so."""
        if self.degraded == ["score"]:
            return self.cell is None
        if self.dealt not in ANSWERED:
            return True
        expected = [LACKS[self.dealt]] if self.dealt in LACKS else []
        return list(self.degraded) != expected or (self.cell is None) != (not expected)


@dataclass(frozen=True, kw_only=True)
class PaymentsRun:
    """What came of a run. `written` says each cell, `kept` how many decisions of each stand in the table."""

    calls: Sequence[Call]
    written: Mapping[str, Mapping[str, Any]]
    kept: Mapping[str, int]
    seconds: float
    why: Mapping[str, int] = field(default_factory=dict)

    @property
    def cells(self) -> Counter[str]:
        """How many answers each cell decided."""
        return Counter(call.cell for call in self.calls if call.cell)

    @property
    def released_ms(self) -> Mapping[str, float]:
        """How long callers waited whom the hard time released, how long their bare timers, and all callers."""
        timed = [call for call in self.calls if call.is_timed_out]
        timed_out = sorted(call.waited_s for call in timed)
        control = sorted(call.control_s for call in timed)
        beyond = sorted(call.waited_s - call.control_s for call in timed)
        all_ = sorted(call.waited_s for call in self.calls)
        return {
            "timed_out_p50": _at(timed_out, 0.5),
            "timed_out_p99_9": _at(timed_out, 0.999),
            "timed_out_max": _at(timed_out, 1.0),
            "all_p99_9": _at(all_, 0.999),
            "control_p50": _at(control, 0.5),
            "control_p99_9": _at(control, 0.999),
            "control_max": _at(control, 1.0),
            "each_beyond_its_own_timer_p99_9": _at(beyond, 0.999),
        }

    @property
    def beyond_ms(self) -> float:
        """How much later than the bare timer a caller was released, at p99.9 of those whom the hard time released."""
        return self.released_ms["timed_out_p99_9"] - self.released_ms["control_p99_9"]

    @property
    def wrong(self) -> Sequence[Call]:
        """Answers that are not what the written cell says."""
        return [
            call
            for call in self.calls
            if (call.status, call.is_flagged)
            != (_OUTCOMES[self.written[call.cell]["action"]] if call.cell else ("authorised", False))
        ]

    @property
    def checks(self) -> Mapping[str, bool]:
        """What must hold."""
        return {
            f"callers released at most {BEYOND_MS_MAX:.0f} ms beyond a bare timer at p99.9": self.beyond_ms
            <= BEYOND_MS_MAX,
            "no answer silently degraded": not any(call.is_silent for call in self.calls),
            "every answer is what the written cell says": not self.wrong,
            "every degraded decision is kept for analysis, once": dict(self.cells) == dict(self.kept),
            "every cell was asked": set(self.cells) == set(self.written),
        }

    def document(self) -> Mapping[str, Any]:
        """Return the run for machines."""
        return {
            "name": "chaos fraud",
            "calls": len(self.calls),
            "seconds": round(self.seconds, 1),
            "released_ms": {name: round(value, 3) for name, value in self.released_ms.items()},
            "beyond_control_p99_9_ms": round(self.beyond_ms, 3),
            "silently_degraded": sum(call.is_silent for call in self.calls),
            "dealt": dict(sorted(Counter(call.dealt.value for call in self.calls).items())),
            "cells": dict(sorted(self.cells.items())),
            "unanswered": dict(sorted(self.why.items())),
            "checks": dict(self.checks),
        }

    def table(self) -> Table:
        """Return the run for people."""
        lines = Table(title="chaos fraud", show_header=False, title_justify="left", min_width=60)
        lines.add_row("calls", f"{len(self.calls):,} in {self.seconds:,.0f} s")
        for name, value in self.released_ms.items():
            lines.add_row(f"released {name.replace('_', ' ')}", f"{value:,.2f} ms")
        lines.add_row("beyond the bare timer at p99.9", f"{self.beyond_ms:,.2f} ms")
        lines.add_section()
        for cell, count in sorted(self.cells.items()):
            lines.add_row(cell, f"{count:,}")
        lines.add_section()
        for why, count in sorted(self.why.items()):
            lines.add_row(why, f"{count:,}")
        lines.add_section()
        for sentence, held in self.checks.items():
            lines.add_row(sentence, "[green]ok[/]" if held else "[bold red]FAILED[/]")
        return lines


def _at(values_sorted: Sequence[float], share: float) -> float:
    """Return a quantile in milliseconds, 0 of none."""
    if not values_sorted:
        return 0.0
    return values_sorted[min(len(values_sorted) - 1, int(share * len(values_sorted)))] * 1000
