"""The machine's clock behind the kernel's `Clock` protocol."""

from __future__ import annotations

from datetime import UTC, datetime


class SystemClock:
    """The machine's wall clock in UTC."""

    def now(self) -> datetime:
        """Return the present instant in UTC."""
        return datetime.now(UTC)
