"""Why a process is not ready although what it depends on is there."""

from __future__ import annotations

from faregate.kernel.errors import UnavailableError


class NotReady(UnavailableError):
    """Something that the process does itself is not far enough. The text is shown to whoever asks: no address in it."""
