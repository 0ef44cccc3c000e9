"""How long a process lives: until it is asked to end, or until the process that started it is gone."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import os
import signal
import sys

END_WITH_PARENT = "FAREGATE_END_WITH_PARENT"
_PR_SET_PDEATHSIG = 1


def stop_event() -> asyncio.Event:
    """Return an event of the running loop that SIGTERM and SIGINT set."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    return stop


def freeze_start_up() -> None:
    """Take everything that was made so far, modules and routes above all, out of the garbage collector's sight.

    It stays until the process ends, and to walk over it stopped a busy API for 0.16 s every few seconds.
    """
    gc.collect()
    gc.freeze()


def end_with_parent_if_asked() -> None:
    """Ask the kernel for a SIGTERM when the parent dies, however it dies; only where a supervisor wants it.

    A supervisor that is killed would leave its children running, each with its port and its leases.
    """
    if os.environ.get(END_WITH_PARENT) and sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
