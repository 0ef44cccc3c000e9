"""Starting, finding and ending server processes. What the servers are does not belong here."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from faregate.infra.embedded.errors import EmbeddedServerError

_LOG_BYTES_MAX = 10_000_000
_POLL_S = 0.01
_PROC = Path("/proc")
_PR_SET_PDEATHSIG = 1

_children: dict[int, subprocess.Popen[bytes]] = {}


def wait_for(condition: Callable[[], bool], *, timeout_s: float) -> bool:
    """Poll until the condition holds; false when it did not within the time."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_POLL_S)
    return True


def spawn(
    command: Sequence[str],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str] | None = None,
    end_with_us: bool = False,
    farewell: signal.Signals = signal.SIGINT,
) -> int:
    """Start a server in the folder and return its pid.

    It gets a session of its own, where a Ctrl-C meant for us does not reach it. With `end_with_us` the kernel
    asks it to end when we die, by the signal `farewell`, on Linux only.
    """
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        log.replace(log.with_suffix(".old.log"))
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        process = subprocess.Popen(  # noqa: S603 - our own binaries
            command,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
            preexec_fn=_asker_to_end_with_parent(farewell) if end_with_us else None,
        )
    finally:
        os.close(output)
    _children[process.pid] = process
    return process.pid


def is_alive(pid: int) -> bool:
    """Whether the process runs; one that has ended and waits for its parent does not."""
    child = _children.get(pid)
    if child is not None and child.poll() is not None:
        _children.pop(pid, None)
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return not _is_zombie(pid)


def pid_in(file: Path) -> int | None:
    """The pid on the first line of a pid file, if that process runs."""
    try:
        pid = int(file.read_text().split("\n", 1)[0])
    except (FileNotFoundError, ValueError):
        return None
    return pid if is_alive(pid) else None


def works_in(pid: int, *, folder: Path) -> bool:
    """Tell our server from a stranger that was given a dead one's pid; without /proc nothing can tell."""
    return not (_PROC / "self").exists() or _link(pid, "cwd") == folder.resolve()


def working_in(folder: Path, *, program: str) -> list[int]:
    """The program's live processes that work in the folder; none without /proc."""
    here = folder.resolve()
    return [
        pid
        for pid in (int(entry.name) for entry in _PROC.glob("[0-9]*"))
        if _link(pid, "cwd") == here and _program(pid) == program and is_alive(pid)
    ]


def end(pid: int, *, first: signal.Signals, timeout_s: float, name: str) -> None:
    """Send the signal and wait for the end; a process that does not obey is killed."""
    for attempt in (first, signal.SIGKILL):
        try:
            os.kill(pid, attempt)
        except ProcessLookupError:
            return
        if wait_for(lambda: not is_alive(pid), timeout_s=timeout_s):
            return
    raise EmbeddedServerError(f"{name} (process {pid}) cannot be stopped")


def log_tail(log: Path, *, lines: int = 5) -> str:
    """The last lines of a server's log, for an error message."""
    if not log.exists():
        return "(no log)"
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])


def _asker_to_end_with_parent(farewell: signal.Signals) -> Callable[[], object] | None:
    """What a new process has to call; everything that it needs is loaded before the fork."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    return lambda: prctl(_PR_SET_PDEATHSIG, farewell)


def _is_zombie(pid: int) -> bool:
    try:
        stat = (_PROC / str(pid) / "stat").read_bytes()
    except OSError:
        return False
    return stat.rpartition(b")")[2].split()[0] == b"Z"


def _link(pid: int, name: str) -> Path | None:
    try:
        return (_PROC / str(pid) / name).readlink()
    except OSError:
        return None


def _program(pid: int) -> str:
    try:
        return (_PROC / str(pid) / "comm").read_text().strip()
    except OSError:
        return ""
