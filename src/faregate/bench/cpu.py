"""Processor time of processes, read from Linux's /proc: where the time of a run goes, however busy the machine is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PROC = Path("/proc")


def cpu_seconds(pids: Mapping[str, int]) -> dict[str, float]:
    """Return the processor seconds of each named process with all its descendants, the ended ones included.

    Empty where there is no /proc.
    """
    if not _PROC.is_dir():
        return {}
    children: dict[int, list[int]] = {}
    times: dict[int, float] = {}
    for folder in _PROC.iterdir():
        if folder.name.isdigit() and (stat := _stat(folder)):
            parent, seconds = stat
            children.setdefault(parent, []).append(int(folder.name))
            times[int(folder.name)] = seconds
    return {name: _with_descendants(pid, children, times) for name, pid in pids.items()}


def used_between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return what each process used in between."""
    return {name: after[name] - before.get(name, 0.0) for name in after}


def _with_descendants(pid: int, children: Mapping[int, list[int]], times: Mapping[int, float]) -> float:
    own = times.get(pid, 0.0)
    return own + sum(_with_descendants(child, children, times) for child in children.get(pid, ()))


def _stat(folder: Path) -> tuple[int, float] | None:
    """Return the parent and the seconds of a process and its reaped children; None if it just ended."""
    try:
        fields = (folder / "stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    ticks = sum(int(field) for field in fields[11:15])
    return int(fields[1]), ticks / _TICKS_PER_S
