"""Time as an argument. The real clock is `infra.clock`; tests pass one that they move."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol


class Clock(Protocol):
    """Tells the time, always as an aware datetime in UTC."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        ...
