"""What a token bucket is made of: how fast it fills and how much it holds. `infra/token_bucket` takes from it."""

from __future__ import annotations

from dataclasses import dataclass

from faregate.kernel.errors import InvalidError


class InvalidRate(InvalidError):
    """A rate is 0.001 to a million tokens a second, and a burst 1 to a billion tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """A bucket that holds `burst` tokens when full, and gets `per_s` a second while it is not."""

    per_s: float
    burst: int

    def __post_init__(self) -> None:
        if not (0.001 <= self.per_s <= 1e6 and 1 <= self.burst <= 1e9):
            raise InvalidRate("a rate is 0.001 to 1,000,000 a second, and a burst 1 to 1,000,000,000")
