"""Runs the quality gates in order and prints one summary with the time that each took.

    python -m tools.check                 all of them
    python -m tools.check lint types      only these

Every gate runs even when an earlier one failed, so that one run tells everything that is wrong.
What a gate checks does not belong here; see pyproject.toml, .importlinter, tools/lint and events/schemas.py.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PYTHON = sys.executable

# One pytest a processor, each with servers of its own; the long files (e2e, faults) come early in the alphabet.
AT_ONCE = ("-n", "logical", "--dist", "loadfile", "--no-loadscope-reorder")

GATES: dict[str, tuple[tuple[str, ...], ...]] = {
    "lint": (
        (PYTHON, "-m", "ruff", "check", "--quiet", "."),
        (PYTHON, "-m", "ruff", "format", "--quiet", "--diff", "."),
        (PYTHON, "-m", "tools.lint"),
    ),
    "types": ((PYTHON, "-m", "mypy", "-p", "faregate", "-p", "tools"),),
    "imports": ((str(Path(PYTHON).with_name("lint-imports")), "--no-logo"),),
    "schemas": (
        (PYTHON, "-m", "faregate.events.schemas", "--check"),
        (PYTHON, "-m", "tools.append_only"),
        (PYTHON, "-m", "faregate.entrypoints.openapi", "--check"),
    ),
    # Fetching Kafka takes longer than a test may.
    "tests": (
        (PYTHON, "-m", "faregate", "kafka", "install", "--if-possible"),
        (PYTHON, "-m", "pytest", *AT_ONCE),
    ),
}


@dataclass(frozen=True, slots=True)
class Result:
    """How one gate ended. `seconds` is wall time."""

    gate: str
    passed: bool
    seconds: float


def run_gate(gate: str, commands: Sequence[Sequence[str]]) -> Result:
    """Run the commands of a gate, all of them, with their output as it comes."""
    print(f"── {gate}", flush=True)
    started = time.monotonic()
    statuses = [subprocess.run(command, cwd=ROOT, check=False).returncode for command in commands]
    return Result(gate, not any(statuses), time.monotonic() - started)


def summary(results: Sequence[Result]) -> str:
    """Return the table that ends a run: one line a gate, then the verdict."""
    lines = [f"  {'ok    ' if r.passed else 'FAILED'}  {r.gate:<8} {r.seconds:6.1f} s" for r in results]
    failed = [r.gate for r in results if not r.passed]
    verdict = f"failed: {', '.join(failed)}" if failed else "all passed"
    return "\n".join([*lines, f"{verdict}, {sum(r.seconds for r in results):.1f} s in all"])


def main(arguments: Sequence[str]) -> int:
    """Run the named gates, or all; return the exit status."""
    unknown = [name for name in arguments if name not in GATES]
    if unknown:
        print(f"no such gate: {', '.join(unknown)}; there are {', '.join(GATES)}", file=sys.stderr)
        return 2
    results = [run_gate(name, GATES[name]) for name in arguments or GATES]
    print(f"── summary\n{summary(results)}", flush=True)
    return 0 if all(r.passed for r in results) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
