"""File locks that end with their process: the guard around start and stop, and the count of users."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock alone, waiting as long as another process has it."""
    lock = _open(path)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


class Share:
    """One user's share of a lock. A process that dies gives its share back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = _open(path)
        fcntl.flock(self._lock, fcntl.LOCK_SH)

    def release_and_tell_whether_last(self) -> bool:
        """Give the share back; true when nobody else holds one. Call it inside the guard only."""
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            os.close(self._lock)
        return True


def hold_share(path: Path) -> Share:
    """Take a share. Inside the guard nobody can be taking the lock alone, so this does not wait."""
    return Share(path)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
