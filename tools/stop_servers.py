"""Ends what runs on this folder's `.faregate`, so that `make clean` may remove it.

The commands that hold its lock are asked to end (SIGTERM), and take their servers with them. Servers that
outlived their owner are stopped too. No other process is touched, and no command is killed: one that does not
end is named.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection
from contextlib import ExitStack
from pathlib import Path

import psutil

from faregate.infra.embedded import kafka, servers_of
from faregate.infra.embedded.folders import START_LOCK
from faregate.infra.embedded.locks import exclusive, hold_share

HOME = Path(__file__).resolve().parent.parent / ".faregate"
PATIENCE_S = 30.0
LOCKS = {START_LOCK: "users.lock", kafka.START_LOCK: kafka.USERS_LOCK}
"""The guards around start and stop, each with the lock that its users hold."""


def users_of(home: Path) -> list[psutil.Process]:
    """Return the processes that have a lock of the home open: the commands that use its servers."""
    locks = {str((home / name).resolve()) for name in LOCKS.values()}
    return [process for process in psutil.process_iter() if _has_open(process, locks)]


def stop(home: Path, *, say: Callable[[str], object] = print, patience_s: float = PATIENCE_S) -> bool:
    """End the users of a home, then its servers; false when somebody would not end within `patience_s`."""
    users = users_of(home)
    for process in users:
        say(f"· asking process {process.pid} to end")
        process.terminate()
    stubborn = psutil.wait_procs(users, timeout=patience_s)[1]
    for process in stubborn:
        say(f"process {process.pid} still uses {home}; end it and try again")
    return not stubborn and _stop_orphans(home, say=say)


def _stop_orphans(home: Path, *, say: Callable[[str], object]) -> bool:
    """Stop servers that nobody uses; inside the guard, so that nobody begins to use them meanwhile."""
    with ExitStack() as guards:
        for guard in LOCKS:
            guards.enter_context(exclusive(home / guard))
        if not all(hold_share(home / lock).release_and_tell_whether_last() for lock in LOCKS.values()):
            say(f"a process that was started just now uses {home}; end it and try again")
            return False
        for server in (*servers_of(home), kafka.kafka_of(home)):
            server.stop()
    return True


def _has_open(process: psutil.Process, paths: Collection[str]) -> bool:
    try:
        return any(opened.path in paths for opened in process.open_files())
    except psutil.Error:
        return False  # another user's process, or one that has just ended: not ours to ask


if __name__ == "__main__":
    sys.exit(0 if not HOME.exists() or stop(HOME) else 1)
